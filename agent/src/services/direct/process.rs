//! One main process: started by us or found, either way told of its end by the kernel (`pidfd_open(2)`).

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io,
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt as _},
    path::Path,
    process::{Child, Command, Stdio},
    time::Instant,
};

use netns::Namespace;
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::{
    io::{Interest, unix::AsyncFd},
    net::unix::pipe,
};

use crate::services::{
    Service,
    processes::{self, MARK, Seen, to_pid},
};

/// Where programs look for others; systemd's own default (systemd.exec(5)).
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A main process that has not been seen to end yet.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) since: Instant,
    start: u64,
    pidfd: AsyncFd<OwnedFd>,
    /// `None` for one found: init reaps that.
    child: Option<Child>,
}

impl Process {
    /// Takes over a process that was found; `None` when it is gone.
    pub(super) fn adopt(seen: &Seen) -> io::Result<Option<Self>> {
        let Some(pidfd) = open(seen.pid)? else { return Ok(None) };
        // The handle holds whoever has the number now.
        let same = processes::look(seen.pid).is_some_and(|now| now.start == seen.start && !now.zombie);
        Ok(same.then(|| Self { pid: seen.pid, since: processes::started(seen), start: seen.start, pidfd, child: None }))
    }

    fn of_child(child: Child) -> io::Result<Self> {
        let pid = child.id();
        // Not reaped yet, so the number is its.
        let pidfd = open(pid)?.ok_or_else(|| io::Error::other("a child is gone before it was reaped"))?;
        let start = processes::look(pid).map_or(0, |seen| seen.start);
        Ok(Self { pid, since: Instant::now(), start, pidfd, child: Some(child) })
    }

    /// Its pid and start, which name it as long as the machine runs.
    pub(super) fn identity(&self) -> (u32, u64) {
        (self.pid, self.start)
    }

    /// Waits for its end.
    pub(super) async fn ended(&self) {
        if let Err(error) = self.pidfd.readable().await {
            tracing::error!(%error, pid = self.pid, "the end of a process will not be seen");
            std::future::pending::<()>().await;
        }
    }

    /// Sends a signal; one that has ended is fine.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(self.pidfd.get_ref(), signal) {
            Err(rustix::io::Errno::SRCH) => Ok(()),
            other => Ok(other?),
        }
    }

    /// Reaps it, once [`Process::ended`]; how it ended.
    pub(super) fn reap(mut self) -> String {
        match self.child.as_mut().map(Child::try_wait) {
            Some(Ok(Some(status))) => status.to_string(),
            _ => "it has ended".to_owned(), // only a parent is told how
        }
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe for the sake of types whose descriptor changes; an OwnedFd's does not"
)]
fn open(pid: u32) -> io::Result<Option<AsyncFd<OwnedFd>>> {
    let Some(pid) = to_pid(pid) else { return Ok(None) };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => AsyncFd::with_interest(pidfd, Interest::READABLE).map(Some),
        Err(rustix::io::Errno::SRCH) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Starts the main process in the namespace, in a session of its own, through [`super::exec`]. The pipe ends when the
/// program has been executed, and says why when it cannot be. Blocks for as long as a fork takes.
pub(super) fn spawn(
    service: &Service,
    helper: &Path,
    namespace: &Namespace,
    log: &Path,
    notify: Option<&Path>,
) -> io::Result<(Process, pipe::Receiver)> {
    let output = OpenOptions::new().create(true).append(true).mode(0o640).open(log)?;
    let (tell, told) = pipe::pipe()?;
    let mut command = Command::new(helper);
    command.arg("run-service").arg(service.limit_nofile.to_string()).args(&service.command);
    environment(&mut command, &service.environment);
    command.env(MARK, service.name.as_str());
    command.envs(notify.map(|path| ("NOTIFY_SOCKET", path)));
    command.current_dir("/").stdin(tell.into_blocking_fd()?).stdout(output.try_clone()?).stderr(output);
    let child = namespace.run(|| command.spawn()).map_err(io::Error::other)??;
    drop(command); // and with it our copy of the pipe's other end
    Ok((Process::of_child(child)?, told))
}

/// Starts a command that is to end by itself, in the namespace. It ends with its handle.
pub(super) fn spawn_check(
    argv: &[String],
    variables: &BTreeMap<String, String>,
    namespace: &Namespace,
) -> io::Result<tokio::process::Child> {
    let [program, arguments @ ..] = argv else { return Err(io::Error::other("a command without a program")) };
    let mut command = Command::new(program);
    command.args(arguments);
    environment(&mut command, variables);
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true);
    let runtime = tokio::runtime::Handle::current();
    let spawned = namespace.run(|| {
        let _reactor = runtime.enter();
        command.spawn()
    });
    spawned.map_err(io::Error::other)?
}

fn environment(command: &mut Command, variables: &BTreeMap<String, String>) {
    command.env_clear().env("PATH", PATH).envs(variables);
}
