//! Processes as /proc tells of them. Which belong to a service is written in their environment, so no file of ours
//! has to be believed, and one that was started by an agent that died in that moment is found as well.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::{Duration, Instant},
};

use nix::unistd::{SysconfVar, geteuid, sysconf};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::ServiceName;

/// The variable that says whose a process is. What it starts inherits it.
pub(super) const MARK: &str = "AMPHORA_SERVICE";

/// A process, as of one look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) pid: u32,
    pub(super) parent: u32,
    pub(super) session: u32,
    /// In clock ticks since the machine's start; with the pid it names a process for ever.
    pub(super) start: u64,
    pub(super) zombie: bool,
}

/// Looks at one process; `None` when it is gone.
pub(super) fn look(pid: u32) -> Option<Seen> {
    parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// `proc_pid_stat(5)`. The name, in parentheses, may hold anything.
fn parse(pid: u32, stat: &str) -> Option<Seen> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect(); // the first is the state, field 3
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Seen {
        pid,
        parent: u32::try_from(number(4)?).ok()?,
        session: u32::try_from(number(6)?).ok()?,
        start: number(22)?,
        zombie: matches!(fields.first(), Some(&"Z" | &"X")),
    })
}

fn all() -> io::Result<Vec<Seen>> {
    let pids = fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(pids.filter_map(look).filter(|seen| !seen.zombie).collect())
}

/// The children of a process.
pub(super) fn children(pid: u32) -> io::Result<Vec<Seen>> {
    Ok(all()?.into_iter().filter(|seen| seen.parent == pid).collect())
}

/// Whether a process has a child that it had not.
pub(super) fn forked(pid: u32, before: &[Seen]) -> io::Result<bool> {
    Ok(children(pid)?.iter().any(|child| !before.contains(child)))
}

/// All processes of a service.
pub(super) fn of(name: &ServiceName) -> io::Result<Vec<Seen>> {
    let mark = format!("{MARK}={name}");
    let marked = |seen: &Seen| {
        let environment = fs::read(format!("/proc/{}/environ", seen.pid)).unwrap_or_default(); // it may be gone
        environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
    };
    Ok(all()?.into_iter().filter(marked).collect())
}

/// The main process of a service: the one that was started. It leads a session, and runs as we do, unlike what a
/// service may itself have started for somebody else.
pub(super) fn main_of(name: &ServiceName) -> io::Result<Option<Seen>> {
    let ours = |seen: &Seen| fs::metadata(format!("/proc/{}", seen.pid)).is_ok_and(|m| m.uid() == geteuid().as_raw());
    let leaders = of(name)?.into_iter().filter(|seen| seen.session == seen.pid && ours(seen));
    Ok(leaders.min_by_key(|seen| seen.start))
}

/// Kills every process of a service and waits until they are gone: at most a second, or they are stuck in the kernel.
pub(super) fn kill_all(name: &ServiceName) -> io::Result<()> {
    for _ in 0..200 {
        let left = of(name)?;
        if left.is_empty() {
            return Ok(());
        }
        for seen in left {
            let Some(pid) = to_pid(seen.pid) else { continue };
            let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { continue }; // gone
            if look(seen.pid).is_some_and(|now| now.start == seen.start) {
                let _ = pidfd_send_signal(&pidfd, Signal::KILL); // gone, or the next look finds it
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Err(io::Error::other("processes of it cannot be killed"))
}

pub(super) fn to_pid(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}

/// When a process was started, on the clock of [`Instant`].
pub(super) fn started(seen: &Seen) -> Instant {
    let age = || {
        let ticks = u64::try_from(sysconf(SysconfVar::CLK_TCK).ok()??).ok()?;
        let uptime = fs::read_to_string("/proc/uptime").ok()?;
        let uptime = Duration::try_from_secs_f64(uptime.split_ascii_whitespace().next()?.parse().ok()?).ok()?;
        let start = Duration::from_millis(seen.start.checked_mul(1_000)?.checked_div(ticks)?);
        Instant::now().checked_sub(uptime.checked_sub(start)?)
    };
    age().unwrap_or_else(Instant::now)
}

/// What tells one run of this machine, or of this container, from the next.
pub(super) fn boot() -> io::Result<String> {
    let id = fs::read_to_string(Path::new("/proc/sys/kernel/random/boot_id"))?;
    let first = look(1).ok_or_else(|| io::Error::other("/proc does not tell of process 1"))?;
    Ok(format!("{} {}", id.trim(), first.start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let stat = "12 (a ) b) S 1 12 11 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987 1 2";
        let seen = parse(12, stat).unwrap();
        assert_eq!(seen, Seen { pid: 12, parent: 1, session: 11, start: 987, zombie: false });
        assert!(parse(12, "12 (x) Z 1 1 1").is_none());
    }

    #[test]
    fn this_process_was_started_before_now_and_after_the_machine() {
        let ours = look(std::process::id()).unwrap();
        assert!(started(&ours) < Instant::now());
        assert!(started(&ours) >= started(&look(1).unwrap()));
    }
}
