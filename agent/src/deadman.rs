//! The dead man's switch (invariant 3): by a process of its own, or by systemd's timer.
//!
//! Killing the agent changes nothing on the wire: gobgpd announces on. But an agent that does not come back
//! can no longer judge whether the VIP is served, so after 30 s without one, gobgpd is told to stop; its
//! Cease takes the routes away.
//!
//! Where `amphora-agent.service` has started the agent, that unit arms `amphora-deadman.timer` at the agent's end and
//! disarms it when the agent is ready, and says so to it ([`is_systemds`]). Elsewhere the watcher is a process of its own, `amphora-agent deadman`, that outlives
//! the agent and looks once a second whether anybody holds the agent's lock. It asks (`F_OFD_GETLK`) and
//! never takes the lock itself, so it cannot stand in the way of an agent that starts.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::{fs::OpenOptionsExt as _, net::UnixStream, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{
    fcntl::{FcntlArg, fcntl},
    libc,
    sys::{
        signal::{Signal, kill},
        socket::{getsockopt, sockopt::PeerCredentials},
    },
    unistd::Pid,
};

/// Where the locks are.
const DIRECTORY: &str = "/run/amphora-agent";
/// How long an agent may be gone.
pub const GRACE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_secs(1);

/// A lock that ends with the process that holds it, however it ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

fn whole_file(kind: i32) -> libc::flock {
    let kind = i16::try_from(kind).expect("lock types are small numbers");
    let set = i16::try_from(libc::SEEK_SET).expect("zero");
    libc::flock { l_type: kind, l_whence: set, l_start: 0, l_len: 0, l_pid: 0 }
}

impl Lock {
    /// Takes the lock on `path`; `None` when another process has it.
    pub fn take(path: &Path) -> io::Result<Option<Self>> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let file = OpenOptions::new().create(true).write(true).truncate(false).mode(0o600).open(path)?;
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file(libc::F_WRLCK))) {
            Ok(_) => Ok(Some(Self { _file: file })),
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EACCES) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Whether any process has the lock on `path`.
    pub fn held(path: &Path) -> io::Result<bool> {
        let file = match OpenOptions::new().write(true).open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            file => file?,
        };
        let mut lock = whole_file(libc::F_WRLCK);
        fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock))?;
        Ok(i32::from(lock.l_type) != libc::F_UNLCK)
    }
}

/// Whether the unit that has started this agent has armed the switch (`systemd/amphora-agent.service`). The presence of
/// systemd would not tell: an operator may have started the agent by hand, or by a unit of an older release.
#[must_use]
pub fn is_systemds() -> bool {
    std::env::var_os("AMPHORA_DEADMAN").is_some_and(|switch| switch == "timer")
}

/// The lock a running agent holds.
#[must_use]
pub fn agents_lock() -> PathBuf {
    Path::new(DIRECTORY).join("agent.lock")
}

/// The lock a watcher over this socket holds.
fn watchers_lock(socket: &Path) -> PathBuf {
    let name = crc32fast::hash(socket.as_os_str().as_encoded_bytes());
    Path::new(DIRECTORY).join(format!("deadman-{name:08x}.lock"))
}

/// Starts the watcher over the gobgpd behind `socket`, unless there is one.
pub fn start(socket: &Path) -> io::Result<()> {
    if Lock::held(&watchers_lock(socket))? {
        return Ok(());
    }
    let mut watcher = Command::new("/proc/self/exe");
    watcher.arg0("amphora-agent").arg("deadman").arg(socket).process_group(0);
    watcher.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = watcher.spawn()?;
    std::thread::Builder::new().name("deadman".into()).stack_size(64 * 1024).spawn(move || child.wait())?;
    Ok(())
}

/// The watcher. Ends when it has stopped gobgpd, or when another watcher is there.
pub fn watch(socket: &Path) -> io::Result<()> {
    let Some(_watching) = Lock::take(&watchers_lock(socket))? else { return Ok(()) };
    let mut gone_since = None;
    loop {
        // A lock nobody can look at is no sign that the agent is gone.
        match (Lock::held(&agents_lock()).unwrap_or(true), gone_since) {
            (true, _) => gone_since = None,
            (false, None) => gone_since = Some(Instant::now()),
            (false, Some(since)) if since.elapsed() >= GRACE => break,
            (false, Some(_)) => {}
        }
        sleep(LOOK);
    }
    stop(socket)
}

/// Stops whoever listens on `socket`: gently, so that the peers hear of it, and then for good.
///
/// # Errors
/// The system's.
pub fn stop(socket: &Path) -> io::Result<()> {
    let Ok(stream) = UnixStream::connect(socket) else { return Ok(()) };
    let pid = getsockopt(&stream, PeerCredentials)?.pid();
    drop(stream); // a gobgpd 4.x waits for open connections before it ends
    if pid <= 1 {
        return Ok(()); // it is in another pid namespace, and 0 would be ourselves
    }
    let pid = Pid::from_raw(pid);
    kill(pid, Signal::SIGTERM)?;
    for _ in 0..50 {
        if kill(pid, None).is_err() {
            return Ok(());
        }
        sleep(Duration::from_millis(100));
    }
    kill(pid, Signal::SIGKILL).map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_seen_by_others_without_being_taken_and_ends_with_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        assert!(!Lock::held(&path).unwrap());
        let lock = Lock::take(&path).unwrap().unwrap();
        assert!(Lock::held(&path).unwrap());
        assert!(Lock::take(&path).unwrap().is_none());
        drop(lock);
        assert!(!Lock::held(&path).unwrap());
        assert!(Lock::take(&path).unwrap().is_some());
    }
}
