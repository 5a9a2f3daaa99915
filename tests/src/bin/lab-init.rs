//! PID 1 of a node: `lab-init HOSTNAME`, started in new mount, PID, network and UTS namespaces.
//!
//! It gives the node its own files and `/proc`, says `ready`, and then only reaps orphans until its standard input ends.
//! That pipe's other end is held by the test program alone, so however the program dies, this process ends; and when PID 1
//! ends the kernel kills every other process of the node and takes its namespaces down.

use std::fs;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

fn main() -> ExitCode {
    let Some(hostname) = std::env::args().nth(1) else {
        eprintln!("usage: lab-init HOSTNAME, in namespaces of its own; only the lab starts it");
        return ExitCode::from(64);
    };
    match set_up(&hostname).and_then(|()| reap_until_end_of_input()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab-init {hostname}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Makes the node's mounts. `/etc` and `/var` are overlays and `/run` is empty, so that programs find their production
/// paths and the machine's own files stay as they are. `/sys` is read-only: writing there reaches the real machine.
fn set_up(hostname: &str) -> io::Result<()> {
    if std::process::id() != 1 {
        return Err(io::Error::other("not PID 1: refusing to mount anything over this machine's own files"));
    }
    nix::unistd::sethostname(hostname)?;
    mount_at(None, "/", None, MsFlags::MS_REC | MsFlags::MS_PRIVATE, "")?;
    mount_at(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), "mode=755")?;
    for dir in ["etc", "var"] {
        let (upper, work) = (format!("/run/{dir}/upper"), format!("/run/{dir}/work"));
        fs::create_dir_all(&upper)?;
        fs::create_dir_all(&work)?;
        let options = format!("lowerdir=/{dir},upperdir={upper},workdir={work}");
        mount_at(Some("overlay"), &format!("/{dir}"), Some("overlay"), MsFlags::empty(), &options)?;
    }
    // A second, empty /run hides the overlays' directories.
    mount_at(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), "mode=755")?;
    mount_at(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), "")?;
    mount_at(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::MS_RDONLY, "")
}

fn mount_at(source: Option<&str>, at: &str, kind: Option<&str>, flags: MsFlags, data: &str) -> io::Result<()> {
    mount(source, Path::new(at), kind, flags, Some(data))
        .map_err(|errno| io::Error::other(format!("mount {} at {at} ({data}): {errno}", kind.unwrap_or("private"))))
}

fn reap_until_end_of_input() -> io::Result<()> {
    let mut child_ended = SigSet::empty();
    child_ended.add(Signal::SIGCHLD);
    child_ended.thread_block()?;
    let signals = SignalFd::with_flags(&child_ended, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    println!("ready");
    io::stdout().flush()?;
    let stdin = io::stdin();
    loop {
        let mut fds = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        // Nothing is ever written to the pipe: whatever happens on it is its end.
        if fds[0].any() == Some(true) {
            return Ok(());
        }
        while signals.read_signal()?.is_some() {}
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => break,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}
