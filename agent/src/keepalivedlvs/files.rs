//! The files of LVS listeners in `base_path/lvs`, named as Octavia's agent names them.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    files::{Directory, Name},
    loadbalancers::{self, LbId},
};

const PREFIX: &str = "octavia-keepalivedlvs-";

/// The directory of them all.
#[must_use]
pub fn directory(base: &Path) -> PathBuf {
    base.join("lvs")
}

/// The unit's name without `.service`, and the stem of its files.
#[must_use]
pub fn unit(id: &LbId) -> String {
    format!("{PREFIX}{id}")
}

pub(super) fn configuration_name(id: &LbId) -> String {
    format!("{PREFIX}{id}.conf")
}

/// Of keepalived itself, of its VRRP child and of its checker.
pub(super) fn pid_names(id: &LbId) -> [String; 3] {
    ["pid", "vrrp.pid", "check.pid"].map(|end| format!("{PREFIX}{id}.{end}"))
}

pub(super) fn name(text: &str) -> Name {
    Name::new(text).expect("an id is short and plain")
}

/// The ids of the listeners that have a configuration, sorted.
///
/// # Errors
/// The system's.
pub fn listeners(base: &Path) -> io::Result<Vec<LbId>> {
    let names = match loadbalancers::names(&directory(base)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        names => names?,
    };
    let id = |name: &String| name.strip_prefix(PREFIX)?.strip_suffix(".conf").and_then(LbId::new);
    Ok(names.iter().filter_map(id).collect())
}

/// A listener's configuration; `None` where there is no such listener.
///
/// # Errors
/// The system's, where it is there and cannot be read.
pub fn read(base: &Path, id: &LbId) -> io::Result<Option<Vec<u8>>> {
    Directory::open(&directory(base))?.map_or(Ok(None), |d| d.read(&name(&configuration_name(id))))
}

/// Whether its keepalived runs, by its pid file.
///
/// # Errors
/// The system's.
pub fn is_running(base: &Path, id: &LbId) -> io::Result<bool> {
    let pid = Directory::open(&directory(base))?.map(|d| d.read(&name(&pid_names(id)[0]))).transpose()?.flatten();
    Ok(pid.is_some_and(|pid| loadbalancers::is_running(&pid)))
}
