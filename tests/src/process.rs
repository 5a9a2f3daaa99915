//! Processes of a node, as this program sees them: started, signalled, awaited, and reaped in every case.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use crate::error::{Error, Result, io};
use crate::lock;

/// A running or ended process. Clones are the same process; dropping one does not end it, the end of its node does.
#[derive(Clone)]
pub struct Proc {
    name: Arc<str>,
    log: Arc<Path>,
    pid: Pid,
    end: Arc<(Mutex<Option<ExitStatus>>, Condvar)>,
}

impl fmt::Debug for Proc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proc").field("name", &self.name).field("pid", &self.pid).finish_non_exhaustive()
    }
}

impl Proc {
    /// Takes `child` over: a thread waits for its end.
    pub(crate) fn watch(name: String, log: PathBuf, mut child: Child) -> Result<Self> {
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("the kernel's pid_t is an i32"));
        let proc = Self { name: name.into(), log: log.into(), pid, end: Arc::default() };
        let ours = proc.clone();
        let wait = move || {
            // Seen but not reaped: until the status is stored, the PID cannot belong to anyone else.
            while waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(nix::errno::Errno::EINTR) {}
            let mut end = ours.lock();
            *end = Some(child.wait().expect("nobody else waits for this child"));
            ours.end.1.notify_all();
        };
        thread::Builder::new().name("lab-wait".into()).spawn(wait).map_err(io("start a thread"))?;
        Ok(proc)
    }

    /// The process id, as this program sees it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// Where its output is.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Whether it has not ended yet.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.lock().is_none()
    }

    /// Sends a signal; nothing happens when it has ended.
    pub fn kill(&self, signal: Signal) -> Result<()> {
        let end = self.lock();
        if end.is_some() {
            return Ok(());
        }
        kill(self.pid, signal).map_err(io(format!("{signal} to {}", self.name)))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// [`Error::Deadline`].
    pub fn wait(&self, within: Duration) -> Result<ExitStatus> {
        let wait = self.end.1.wait_timeout_while(self.lock(), within, |end| end.is_none());
        match *wait.unwrap_or_else(PoisonError::into_inner).0 {
            Some(status) => Ok(status),
            None => Err(Error::Deadline { what: format!("the end of {}", self.name), within, last: "running".into() }),
        }
    }

    /// Kills with SIGKILL and waits.
    pub fn kill_and_wait(&self) -> Result<ExitStatus> {
        self.kill(Signal::SIGKILL)?;
        self.wait(Duration::from_secs(5))
    }

    pub(crate) fn wait_forever(&self) {
        let ended = self.end.1.wait_while(self.lock(), |end| end.is_none());
        drop(ended.unwrap_or_else(PoisonError::into_inner));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<ExitStatus>> {
        lock(&self.end.0)
    }
}

/// Reads a piped child to its end.
pub(crate) fn collect(mut child: Child, within: Duration, node: &str, command: &Command) -> Result<Output> {
    let stdout = child.stdout.take().expect("the caller asked for a pipe");
    let stderr = child.stderr.take().expect("the caller asked for a pipe");
    let proc = Proc::watch(format!("{node} {command:?}"), PathBuf::new(), child)?;
    thread::scope(|scope| {
        let stdout = scope.spawn(move || read_all(stdout));
        let stderr = scope.spawn(move || read_all(stderr));
        let ended = proc.wait(within);
        if ended.is_err() {
            proc.kill_and_wait()?;
        }
        let stdout = stdout.join().expect("reading does not panic");
        let stderr = stderr.join().expect("reading does not panic");
        let outcome = match ended {
            Ok(status) if status.success() => return Ok(Output { status, stdout, stderr }),
            Ok(status) => status.to_string(),
            Err(_) => format!("did not end within {within:?}"),
        };
        let text = [stdout, stderr].concat();
        Err(Error::Command {
            node: node.into(),
            command: words(command),
            outcome,
            stderr: String::from_utf8_lossy(&text).into_owned(),
        })
    })
}

fn words(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

fn read_all(mut from: impl Read) -> Vec<u8> {
    let mut all = Vec::new();
    let _ = from.read_to_end(&mut all); // a pipe of ours: what came is what there is
    all
}
