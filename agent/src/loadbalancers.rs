//! The load balancers of this amphora, as the files below `base_path` tell: their configurations, listeners
//! and processes.
//!
//! The files are Octavia's (`<lb>/haproxy.cfg`, `<lb>/<lb>.pid`, `lvs/octavia-keepalivedlvs-<id>.conf`) and
//! are read at every call: they may come from Octavia's own agent, and haproxy and keepalived write theirs.

pub(crate) mod certificates;

use std::{fmt, io, path::Path};

use crate::{
    files::{Directory, Name},
    keepalivedlvs,
};

/// What else is in `base_path`; no load balancer can have these ids.
const TAKEN: [&str; 4] = ["amphora-agent", "certs", "lvs", "vrrp"];
const LVS_PREFIX: &str = "octavia-keepalivedlvs-";

/// The id of a load balancer: ASCII letters, digits, `-` and `_`, at most 64; Octavia's are UUIDs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LbId(Name);

impl LbId {
    /// The text as an id, if it is one.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let is_id = text.len() <= 64 && !text.contains('.') && !TAKEN.contains(&text);
        Name::new(text).filter(|_| is_id).map(Self)
    }

    /// The name of its directories.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.0
    }
}

impl fmt::Display for LbId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its id.
    pub id: String,
    /// Its mode in upper case, or `TERMINATED_HTTPS`; `UDP` for all that LVS serves, SCTP too.
    pub kind: String,
    /// `ACTIVE`, `OFFLINE` or `ERROR`.
    pub status: &'static str,
}

/// All load balancers and listeners.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overview {
    /// How many haproxy processes run.
    pub haproxy_running: usize,
    /// The listeners haproxy serves.
    pub haproxy: Vec<Listener>,
    /// The files of their TLS that are not there, sorted.
    pub missing_files: Vec<String>,
    /// How many keepalived processes for LVS run.
    pub lvs_running: usize,
    /// The listeners LVS serves.
    pub lvs: Vec<Listener>,
}

/// Reads them all. What has no configuration file is no load balancer.
///
/// # Errors
/// The system's, where a file is there and cannot be read.
pub fn overview(base: &Path) -> io::Result<Overview> {
    let mut overview = Overview::default();
    let Some(root) = Directory::open(base)? else { return Ok(overview) };
    for id in names(base)?.iter().filter_map(|name| LbId::new(name)) {
        let Some(configuration) = configuration_in(&root, &id)? else { continue };
        let configuration = String::from_utf8_lossy(&configuration);
        overview.haproxy.extend(frontends(&configuration));
        let files = certificates::named(&configuration);
        overview.missing_files.extend(certificates::missing(&files).iter().map(|file| file.display().to_string()));
        let pid_file = Name::new(&format!("{id}.pid")).expect("an id is short and plain");
        let pid = root.inner(id.name())?.map(|d| d.read(&pid_file)).transpose()?.flatten();
        overview.haproxy_running += usize::from(pid.is_some_and(|pid| is_running(&pid)));
    }
    overview.missing_files.sort();
    let lvs = base.join("lvs");
    let Some(directory) = Directory::open(&lvs)? else { return Ok(overview) };
    for name in names(&lvs)? {
        let Some(id) = name.strip_prefix(LVS_PREFIX).and_then(|rest| rest.strip_suffix(".conf")) else { continue };
        let (Some(conf), Some(pid)) = (Name::new(&name), Name::new(&format!("{LVS_PREFIX}{id}.pid"))) else { continue };
        let pid = directory.read(&pid)?;
        let running = pid.as_ref().map(|pid| is_running(pid));
        let conf = directory.read(&conf)?.unwrap_or_default();
        let status = match running {
            Some(true) if String::from_utf8_lossy(&conf).contains("virtual_server") => "ACTIVE",
            Some(true) | None => "OFFLINE",
            Some(false) => "ERROR",
        };
        overview.lvs_running += usize::from(running == Some(true));
        overview.lvs.push(Listener { id: id.to_owned(), kind: "UDP".to_owned(), status });
    }
    Ok(overview)
}

/// Who serves an id of the API's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A load balancer, by haproxy.
    Haproxy,
    /// A UDP or SCTP listener, by keepalived and LVS.
    Lvs,
}

/// Who serves `id`; `None` where nobody knows it.
///
/// # Errors
/// The system's, where its files are there and cannot be read.
pub fn kind_of(base: &Path, id: &LbId) -> io::Result<Option<Kind>> {
    if configuration(base, id)?.is_some() {
        return Ok(Some(Kind::Haproxy));
    }
    Ok(keepalivedlvs::files::read(base, id)?.map(|_| Kind::Lvs))
}

/// A load balancer's haproxy.cfg; `None` where there is no such load balancer.
///
/// # Errors
/// The system's, where it is there and cannot be read.
pub fn configuration(base: &Path, id: &LbId) -> io::Result<Option<Vec<u8>>> {
    Directory::open(base)?.map_or(Ok(None), |root| configuration_in(&root, id))
}

/// The load balancers that have a haproxy configuration, sorted.
///
/// # Errors
/// The system's.
pub fn with_haproxy(base: &Path) -> io::Result<Vec<LbId>> {
    let Some(root) = Directory::open(base)? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for id in names(base)?.iter().filter_map(|name| LbId::new(name)) {
        if configuration_in(&root, &id)?.is_some() {
            found.push(id);
        }
    }
    Ok(found)
}

fn configuration_in(root: &Directory, id: &LbId) -> io::Result<Option<Vec<u8>>> {
    let file = Name::new("haproxy.cfg").expect("a literal");
    root.inner(id.name())?.map_or(Ok(None), |directory| directory.read(&file))
}

/// The load balancers whose haproxy runs: those with a configuration and a process (Octavia's `is_lb_running`). Reads no configuration, for it is asked at every heartbeat.
///
/// # Errors
/// The system's, where the directory is there and cannot be read.
pub fn running(base: &Path) -> io::Result<Vec<LbId>> {
    let names = match names(base) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        names => names?,
    };
    let runs = |id: &LbId| {
        let directory = base.join(id.name().as_str());
        let pid = || std::fs::read(directory.join(format!("{id}.pid")));
        directory.join("haproxy.cfg").is_file() && pid().is_ok_and(|pid| is_running(&pid))
    };
    Ok(names.iter().filter_map(|name| LbId::new(name)).filter(runs).collect())
}

/// The names in a directory, sorted; those that are not UTF-8 are none of ours.
pub(crate) fn names(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path)? {
        names.extend(entry?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// The process id of a load balancer's haproxy (its master), as its pid file has it.
#[must_use]
pub fn master(base: &Path, id: &LbId) -> Option<u32> {
    pid(&std::fs::read(base.join(id.name().as_str()).join(format!("{id}.pid"))).ok()?)
}

/// Whether the process of a pid file's first line exists.
pub(crate) fn is_running(pid_file: &[u8]) -> bool {
    pid(pid_file).is_some_and(|pid| Path::new("/proc").join(pid.to_string()).exists())
}

fn pid(pid_file: &[u8]) -> Option<u32> {
    String::from_utf8_lossy(pid_file).lines().next().and_then(|line| line.trim().parse().ok())
}

/// The frontends of a haproxy configuration as Octavia renders it. One without a mode has haproxy's default.
fn frontends(configuration: &str) -> Vec<Listener> {
    let mut found: Vec<Listener> = Vec::new();
    let mut in_frontend = false;
    let mut has_mode = false;
    for line in configuration.lines() {
        let mut words = line.split_whitespace();
        if !line.starts_with(char::is_whitespace) {
            let (keyword, id) = (words.next(), words.next());
            if keyword.is_none_or(|word| word.starts_with('#')) {
                continue;
            }
            in_frontend = keyword == Some("frontend");
            has_mode = false;
            if let (true, Some(id)) = (in_frontend, id) {
                found.push(Listener { id: id.to_owned(), kind: "TCP".to_owned(), status: "ACTIVE" });
            }
        } else if let (true, Some(listener)) = (in_frontend, found.last_mut()) {
            match words.next() {
                Some("mode") if !has_mode && listener.kind != "TERMINATED_HTTPS" => {
                    listener.kind = words.next().unwrap_or_default().to_uppercase();
                    has_mode = true;
                }
                Some("bind") if words.nth(1) == Some("ssl") && words.next() == Some("crt-list") => {
                    "TERMINATED_HTTPS".clone_into(&mut listener.kind);
                }
                _ => {}
            }
        }
    }
    found
}

#[cfg(test)]
mod tests;
