//! Machines that systemd boots: a tree of `tests/debian12.sh` under systemd-nspawn, inside a node, so that nothing outlives
//! this program. What is written there goes to memory.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::{Error, Result};
use crate::node::Node;
use crate::place::{Place, command};
use crate::process::{Proc, collect};
use crate::wait::wait_for;
use crate::workdir::Workdir;

/// For commands in a machine, and for its end. A ceiling, for a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_mins(1);

/// The Debian 12 that `tests/debian12.sh` makes.
///
/// # Errors
/// [`Error::Missing`], for which a test may skip itself: see [`crate::skipped`].
pub fn debian12() -> Result<PathBuf> {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("../build/debian12");
    if tree.join("INSTALLED").exists() {
        return tree.canonicalize().map_err(crate::error::io(tree.display().to_string()));
    }
    Err(Error::Missing("there is no build/debian12; tests/debian12.sh makes it".into()))
}

/// The repository's root.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate is inside the workspace").to_owned()
}

/// The command that boots `tree` in `node`; to be given more of systemd-nspawn's options, then systemd's own words.
pub fn boot_command(node: &Node, workdir: &Workdir, tree: &Path) -> Result<Command> {
    // A cgroup2 of its own: this machine's may be of the old kind, and systemd needs a group to itself.
    node.run(["mount", "-t", "cgroup2", "cgroup2", "/sys/fs/cgroup"])?;
    let group = group(workdir);
    let enter = format!("mkdir -p {group} && echo 0 >{group}/cgroup.procs && exec \"$@\"");
    let mut machine = command(["sh", "-c", &enter, "sh", "systemd-nspawn", "--quiet", "--boot", "--volatile=overlay"]);
    machine.args(["--register=no", "--keep-unit", "--console=pipe", "-D"]).arg(tree);
    Ok(machine)
}

/// After its machine's end. At worst it stays, empty.
pub fn remove_group(node: &Place, workdir: &Path) {
    let group = format!("/sys/fs/cgroup/{}", name(workdir));
    let _ = node.run(["find", &group, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"]);
}

fn group(workdir: &Workdir) -> String {
    format!("/sys/fs/cgroup/{}", name(workdir.path()))
}

fn name(workdir: &Path) -> String {
    workdir.file_name().map(OsStr::to_string_lossy).unwrap_or_default().into_owned()
}

/// A booted machine. It is cut off when this is dropped.
#[derive(Debug)]
pub struct Machine {
    node: Place,
    workdir: PathBuf,
    nspawn: Proc,
    init: u32,
}

impl Machine {
    /// Boots what [`boot_command`] began, on the node's own network, and waits until its init runs.
    pub fn boot(node: &Node, workdir: &Workdir, mut machine: Command) -> Result<Self> {
        // With another's network systemd-nspawn keeps its hands off it, and the machine's.
        machine.env("SYSTEMD_NSPAWN_API_VFS_WRITABLE", "1");
        let nspawn = node.spawn("nspawn", &mut machine)?;
        let find = || match init_of(nspawn.pid()) {
            Some(init) => Ok(init),
            None if !nspawn.is_running() => Err("systemd-nspawn has ended".to_owned()),
            None => Err("no systemd yet".to_owned()),
        };
        let (init, _) = wait_for("systemd is booted", PATIENCE, find)?;
        Ok(Self { node: (**node).clone(), workdir: workdir.path().to_owned(), nspawn, init })
    }

    /// Runs a command there to its end, and returns what it wrote.
    ///
    /// # Errors
    /// [`Error::Command`], also when it answers with another code than 0.
    pub fn run(&self, line: &str) -> Result<String> {
        let init = self.init.to_string();
        let mut inside = command(["nsenter", "--all", "--target", &init, "sh", "-c", line]);
        inside.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = inside.spawn().map_err(crate::error::io("nsenter"))?;
        let output = collect(child, PATIENCE, "the booted machine", &inside)?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// As [`Machine::run`], for a question whose answer's code says the same as its text: what it wrote in any case.
    #[must_use]
    pub fn ask(&self, line: &str) -> String {
        self.run(&format!("{line} 2>&1 || true")).unwrap_or_else(|error| error.to_string())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let init = Pid::from_raw(i32::try_from(self.init).expect("the kernel's pid_t is an i32"));
        let _ = kill(init, Signal::SIGKILL); // it may have ended
        let _ = self.nspawn.wait(PATIENCE);
        remove_group(&self.node, &self.workdir);
    }
}

/// The systemd that this systemd-nspawn has booted.
fn init_of(nspawn: u32) -> Option<u32> {
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_init = |pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let value = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        value("PPid:") == Some(&nspawn.to_string()) && value("Name:") == Some("systemd")
    };
    let mut found = pids.filter(is_init);
    found.next()
}
