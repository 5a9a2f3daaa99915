//! The scripts by which keepalived judges whether this amphora can be the master: `check_script.sh` runs what is in
//! `check_scripts/`, one script for haproxy and one for LVS.
//!
//! The names are Octavia's (`octavia/amphorae/backends/agent/api_server/util.py`); the controller writes the first into
//! the configuration. keepalived gives a script no environment to rely on, so they call our program by its path.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    files::{Directory, Name},
    keepalivedlvs,
    loadbalancers::{self, LbId},
};

pub(super) const CHECK_SCRIPT: &str = "check_script.sh";
pub(super) const DIRECTORY: &str = "check_scripts";
const HAPROXY: &str = "haproxy_check_script.sh";
const LVS: &str = "lvs_udp_check.sh";

/// Writes what keepalived is to check: every haproxy, but for the one that is `leaving` (being stopped or deleted, so that
/// its end is no failure). Without a load balancer there is nothing a master could serve, so the check fails; with LVS
/// listeners alone there is no haproxy to check. To be called when a load balancer comes or goes.
///
/// # Errors
/// The system's.
pub fn update(base: &Path, leaving: Option<&LbId>) -> io::Result<()> {
    let directory = directory(base)?;
    let name = name(HAPROXY);
    let lbs = loadbalancers::with_haproxy(base)?;
    if lbs.is_empty() {
        if keepalivedlvs::files::listeners(base)?.is_empty() {
            return directory.replace_program(&name, b"#!/bin/sh\nexit 1\n");
        }
        return directory.remove(&name);
    }
    let sockets = lbs.iter().filter(|lb| Some(*lb) != leaving).map(|lb| base.join(format!("{lb}.sock")));
    directory.replace_program(&name, haproxy_check(&crate::programs::own_path(), sockets).as_bytes())
}

/// Has keepalived check that the keepalived of every LVS listener runs.
///
/// # Errors
/// The system's.
pub fn check_lvs(base: &Path) -> io::Result<()> {
    directory(base)?.replace_program(&name(LVS), lvs_check(&keepalivedlvs::files::directory(base)).as_bytes())
}

/// Writes the script that the configuration names.
pub(super) fn write_check_script(base: &Path) -> io::Result<()> {
    directory(base)?; // of what it runs
    super::directory(base)?.replace_program(&name(CHECK_SCRIPT), check_script(&base.join("vrrp")).as_bytes())
}

fn directory(base: &Path) -> io::Result<Directory> {
    super::directory(base)?.inner_or_make_open(&name(DIRECTORY))
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a literal")
}

fn check_script(vrrp: &Path) -> String {
    let checks = quoted(&vrrp.join(DIRECTORY));
    format!(
        "#!/bin/sh
# Runs every check; fails when one of them does.
status=0
for check in {checks}/*; do
    [ -f \"$check\" ] || continue
    if [ -x \"$check\" ]; then \"$check\"; else sh \"$check\"; fi || status=1
done
exit $status
"
    )
}

fn haproxy_check(program: &Path, sockets: impl Iterator<Item = PathBuf>) -> String {
    let words: Vec<String> = [quoted(program), "haproxy-vrrp-check".to_owned()]
        .into_iter()
        .chain(sockets.map(|socket| quoted(&socket)))
        .collect();
    format!("#!/bin/sh\nexec {}\n", words.join(" "))
}

fn lvs_check(lvs: &Path) -> String {
    let files = quoted(lvs);
    format!(
        "#!/bin/sh
# Fails when a keepalived that has been started for a listener does not run.
status=0
for file in {files}/octavia-keepalivedlvs-*.pid; do
    case \"$file\" in *.vrrp.pid | *.check.pid) continue ;; esac
    [ -f \"$file\" ] || continue
    read -r pid < \"$file\" && [ -d \"/proc/$pid\" ] || status=1
done
exit $status
"
    )
}

/// For a shell, as one word whatever is in it.
pub(crate) fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests;
