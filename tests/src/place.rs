//! A place: the namespaces in which a node's commands run and its sockets and files are opened. The only module that
//! enters a namespace. Every entry happens on a thread made for it and never used again, so none has to find its way back.

use std::fmt;
use std::fs::{self, File, Permissions};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nix::sched::CloneFlags;

use crate::error::{Error, Result, io};
use crate::lock;
use crate::process::{Proc, collect};

/// How long a command may run that is expected to end by itself.
const RUN_TIMEOUT: Duration = Duration::from_secs(20);

/// A node's namespaces, with its own network namespace or a named one inside it.
#[derive(Clone)]
pub struct Place {
    name: String,
    logs: PathBuf,
    pid: Arc<OwnedFd>,
    mnt: Arc<OwnedFd>,
    uts: Arc<OwnedFd>,
    net: Arc<OwnedFd>,
    procs: Arc<Mutex<Vec<Proc>>>,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Place").field(&self.name).finish()
    }
}

impl Place {
    /// The namespaces of the process `init` (as this program sees its id). Logs go to the directory `logs`.
    pub(crate) fn of(name: &str, init: u32, logs: &Path) -> Result<Self> {
        let open = |kind: &str| {
            let path = format!("/proc/{init}/ns/{kind}");
            File::open(&path).map(|file| Arc::new(OwnedFd::from(file))).map_err(io(path))
        };
        Ok(Self {
            name: name.into(),
            logs: logs.into(),
            pid: open("pid")?,
            mnt: open("mnt")?,
            uts: open("uts")?,
            net: open("net")?,
            procs: Arc::default(),
        })
    }

    /// The node's name, with the named network namespace where it is one.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same node, in its network namespace `/run/netns/{netns}`.
    pub fn in_netns(&self, netns: &str) -> Result<Self> {
        let path = Path::new("/run/netns").join(netns);
        let net = self.within(|| File::open(&path))?.map_err(io(format!("{}: {}", self.name, path.display())))?;
        Ok(Self { name: format!("{}/{netns}", self.name), net: Arc::new(net.into()), ..self.clone() })
    }

    /// Runs `f` on a thread that sees this network and these files. Threads that `f` makes see them too, and what it opens
    /// may be used anywhere. Its PID namespace stays the program's own: `f` must not start processes.
    pub fn within<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T> {
        self.entered(|| {
            self.enter_files_and_network()?;
            Ok(f())
        })
    }

    /// Runs a command to its end, at most 20 seconds, and returns what it wrote to standard output. A child it leaves
    /// behind must not hold on to that output.
    ///
    /// # Errors
    /// [`Error::Command`], with standard error in it, also when the command answers with another code than 0.
    pub fn run<S: AsRef<std::ffi::OsStr>>(&self, argv: impl IntoIterator<Item = S>) -> Result<String> {
        let output = self.output(&mut command(argv))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// As [`Place::run`], for a command with an environment of its own.
    pub fn output(&self, command: &mut Command) -> Result<Output> {
        let child = self.start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()))?;
        collect(child, RUN_TIMEOUT, &self.name, command)
    }

    /// Starts a daemon. Everything it writes goes to the log `{node}-{log}.log` of the lab's directory, appended to what
    /// an earlier process of that name wrote.
    pub fn spawn(&self, log: &str, command: &mut Command) -> Result<Proc> {
        let path = self.log_path(log);
        let open = || File::options().create(true).append(true).open(&path).map_err(io(path.display().to_string()));
        self.spawn_into(log, command.stdout(open()?).stderr(open()?))
    }

    /// Starts a daemon whose outputs the caller has already set.
    pub(crate) fn spawn_into(&self, log: &str, command: &mut Command) -> Result<Proc> {
        let child = self.start(command.stdin(Stdio::null()))?;
        let proc = Proc::watch(format!("{} {log}", self.name), self.log_path(log), child)?;
        lock(&self.procs).push(proc.clone());
        Ok(proc)
    }

    /// Where the log of that name is, as this program sees it.
    #[must_use]
    pub fn log_path(&self, log: &str) -> PathBuf {
        self.logs.join(format!("{}-{log}.log", self.name.replace('/', "-")))
    }

    /// Writes a file of the node, making its directory. `mode` as in chmod(2).
    pub fn write_file(&self, path: &str, contents: impl AsRef<[u8]> + Send, mode: u32) -> Result<()> {
        let write = || {
            if let Some(dir) = Path::new(path).parent() {
                fs::create_dir_all(dir)?;
            }
            fs::write(path, contents)?;
            fs::set_permissions(path, Permissions::from_mode(mode))
        };
        self.within(write)?.map_err(io(format!("{}: write {path}", self.name)))
    }

    /// Reads a file of the node.
    pub fn read_file(&self, path: &str) -> Result<String> {
        self.within(|| fs::read_to_string(path))?.map_err(io(format!("{}: read {path}", self.name)))
    }

    /// Sets a sysctl by its path below `/proc/sys`, such as `net/ipv4/ip_forward`.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/{key}");
        self.within(|| fs::write(&path, value))?.map_err(io(format!("{}: {path} = {value}", self.name)))
    }

    /// Opens a TCP connection from here.
    pub fn connect(&self, to: SocketAddr, timeout: Duration) -> Result<TcpStream> {
        self.within(|| TcpStream::connect_timeout(&to, timeout))?.map_err(io(format!("{}: connect to {to}", self.name)))
    }

    /// Connects to a UNIX socket of the node, such as [`crate::speaker::SOCKET`].
    pub fn connect_unix(&self, path: &str) -> Result<UnixStream> {
        self.within(|| UnixStream::connect(path))?.map_err(io(format!("{}: connect to {path}", self.name)))
    }

    /// Runs the machine's own `ip -batch -` on this network: one `ip` command a line, without `ip`. It runs with this
    /// program's PIDs, so that `netns PID` in it names a node.
    pub fn ip(&self, batch: &str) -> Result<()> {
        let mut command = command(["ip", "-batch", "-"]);
        let child = self.entered(|| {
            join(&self.net, CloneFlags::CLONE_NEWNET)?;
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
        });
        let mut child = child?;
        let mut stdin = child.stdin.take().expect("asked for a pipe above");
        io::Write::write_all(&mut stdin, batch.as_bytes()).map_err(io("ip -batch"))?;
        drop(stdin);
        command.arg(format!("<<< {batch:?}")); // only for the error's text: it has been started already
        collect(child, RUN_TIMEOUT, &self.name, &command).map(drop)
    }

    /// Waits for every process started here, once the node's init is gone and the kernel has killed them all. Without
    /// this, init would stay a zombie: a PID namespace ends when its last process is reaped.
    pub(crate) fn reap_all(&self) {
        for proc in lock(&self.procs).drain(..) {
            proc.wait_forever();
        }
    }

    fn start(&self, command: &mut Command) -> Result<Child> {
        command.current_dir("/");
        self.entered(|| {
            // After this the thread itself can make no threads (clone(2), EINVAL), only the child it is here for.
            join(&self.pid, CloneFlags::CLONE_NEWPID)?;
            join(&self.uts, CloneFlags::CLONE_NEWUTS)?;
            self.enter_files_and_network()?;
            command.spawn().map_err(|error| io::Error::other(format!("start {command:?}: {error}")))
        })
    }

    fn enter_files_and_network(&self) -> io::Result<()> {
        detach(CloneFlags::CLONE_FS)?; // setns(2): a thread that shares its working directory cannot change mounts
        join(&self.mnt, CloneFlags::CLONE_NEWNS)?;
        join(&self.net, CloneFlags::CLONE_NEWNET)
    }

    fn entered<T: Send>(&self, f: impl FnOnce() -> io::Result<T> + Send) -> Result<T> {
        on_own_thread(f).map_err(|source| Error::Io { what: self.name.clone(), source })
    }
}

/// Starts `command` as PID 1 of new namespaces; the result's id is what this program sees.
pub(crate) fn start_in_new_namespaces(command: &mut Command) -> io::Result<Child> {
    on_own_thread(|| {
        detach(
            CloneFlags::CLONE_NEWNS
                | CloneFlags::CLONE_NEWPID
                | CloneFlags::CLONE_NEWNET
                | CloneFlags::CLONE_NEWUTS
                | CloneFlags::CLONE_NEWIPC,
        )?;
        command.spawn()
    })
}

fn on_own_thread<T: Send>(f: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| scope.spawn(f).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the lab makes nodes: more than the network, and without the product's crate"
)]
fn detach(flags: CloneFlags) -> io::Result<()> {
    nix::sched::unshare(flags).map_err(|errno| io::Error::other(format!("unshare {flags:?} (root is needed): {errno}")))
}

#[expect(clippy::disallowed_methods, reason = "the lab enters whole nodes, not only a network namespace")]
fn join(namespace: &OwnedFd, kind: CloneFlags) -> io::Result<()> {
    nix::sched::setns(namespace, kind).map_err(|errno| io::Error::other(format!("setns {kind:?}: {errno}")))
}

/// A command from its words.
///
/// # Panics
/// Without a first word.
pub fn command<S: AsRef<std::ffi::OsStr>>(argv: impl IntoIterator<Item = S>) -> Command {
    let mut words = argv.into_iter();
    let mut command = Command::new(words.next().expect("a command has a first word"));
    command.args(words);
    command
}
