//! This process, as `/proc` has it, under the names that Prometheus' own client libraries use.

use std::{fs, path::Path};

use nix::{
    sys::resource::{Resource, getrlimit},
    unistd::{SysconfVar, sysconf},
};

/// What is known of it; a value that cannot be read is absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Process {
    /// User and system time, in seconds.
    pub(super) cpu: Option<f64>,
    /// In bytes.
    pub(super) resident: Option<u64>,
    pub(super) open_descriptors: Option<usize>,
    pub(super) most_descriptors: Option<u64>,
    /// In seconds since 1970.
    pub(crate) started: Option<f64>,
}

impl Process {
    pub(crate) fn read() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let machine = fs::read_to_string("/proc/stat").unwrap_or_default();
        let per_second = system(SysconfVar::CLK_TCK);
        let ticks = |field| number(&stat, field).zip(per_second).map(|(ticks, each)| ticks / each);
        let boot = machine.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<f64>().ok());
        let pages = fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages = pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
        let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|size| u64::try_from(size).ok());
        Self {
            // utime, stime and starttime: proc_pid_stat(5)
            cpu: ticks(14).zip(ticks(15)).map(|(user, system)| user + system),
            started: boot.zip(ticks(22)).map(|(boot, after)| boot + after),
            resident: pages.zip(page).map(|(pages, size)| pages * size),
            // Reading the directory takes one more.
            open_descriptors: fs::read_dir("/proc/self/fd").ok().map(|all| all.count().saturating_sub(1)),
            most_descriptors: getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft),
        }
    }
}

/// The processes a process has started from its main thread: the workers, if it is haproxy's master. `None` where that
/// cannot be told.
pub(super) fn children(pid: u32) -> Option<usize> {
    let pid = pid.to_string();
    let path = Path::new("/proc").join(&pid).join("task").join(&pid).join("children");
    fs::read_to_string(path).ok().map(|pids| pids.split_whitespace().count())
}

fn system(variable: SysconfVar) -> Option<f64> {
    let value = sysconf(variable).ok().flatten()?;
    u32::try_from(value).ok().filter(|value| *value > 0).map(f64::from)
}

/// A field of `/proc/PID/stat`, counted from 1. The second is the name, in brackets, of any characters.
fn number(stat: &str, field: usize) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(field - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn the_process_is_the_one_that_runs() {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
        let process = Process::read();
        let started = process.started.unwrap();
        assert!(started <= now + 2.0 && started > now - Duration::from_hours(1).as_secs_f64(), "{started} {now}");
        assert!(process.resident.unwrap() > 1 << 20 && process.cpu.unwrap() >= 0.0);
        let held = [(); 3].map(|()| fs::File::open("/proc/self/stat").unwrap());
        assert!(Process::read().open_descriptors.unwrap() >= held.len());
        assert!(process.most_descriptors.unwrap() >= 3);
    }

    #[test]
    fn a_name_may_hold_anything() {
        assert_eq!(number("1 (a) (b) S 0 1 1", 5), Some(1.0));
    }
}
