//! The programs of a stock amphora image, all in this one binary.
//!
//! Which of them it is, is said by the name it was called by (a link to it), or by its first argument:
//! `amphora-agent haproxy-vrrp-check ...`. Anything else is the agent itself.

mod dhcp_client;
mod health_checker;
mod interface;
pub mod masquerade;
mod netns;
mod vrrp_check;
mod withdraw;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
};

use crate::services::{direct::exec, reload_main};

/// A program, given its arguments without its own name.
pub type Program = fn(&[OsString]) -> ExitCode;

const PROGRAMS: &[(&str, Program)] = &[
    ("deadman", deadman),
    ("dhcp-client", dhcp_client::main),
    ("prometheus-proxy", crate::prometheus::program),
    ("run-service", exec::run),
    ("reload-main", reload_main::run),
    ("amphora-netns", netns::run),
    ("amphora-health-checker", health_checker::main),
    ("amphora-interface", interface::main),
    ("haproxy-vrrp-check", vrrp_check::main),
    ("withdraw", withdraw::run),
    ("lvs-masquerade", masquerade::main),
    ("lvs-masquerade.sh", masquerade::main),
];

/// The program a command line (with its name first) calls for, and its own arguments; `None` is the agent.
#[must_use]
pub fn called(line: &[OsString]) -> Option<(Program, &[OsString])> {
    let of = |name: &OsString| PROGRAMS.iter().find(|(n, _)| Path::new(name).file_name().is_some_and(|f| f == *n));
    (0..2).find_map(|at| Some((of(line.get(at)?)?.1, &line[at + 1..])))
}

/// The path of this very program, for who shall call it later. One that was replaced meanwhile is found at the same path.
#[must_use]
pub fn own_path() -> PathBuf {
    let path = std::env::current_exe().unwrap_or_else(|_| "/usr/bin/amphora-agent".into());
    // What /proc/self/exe says of a file that was unlinked or replaced (proc(5)).
    path.to_str().and_then(|p| p.strip_suffix(" (deleted)")).map(PathBuf::from).unwrap_or(path)
}

/// The agent starts its dead man's switch by this word; it is not for people.
fn deadman(arguments: &[OsString]) -> ExitCode {
    let [socket] = arguments else { return ExitCode::FAILURE };
    match crate::deadman::watch(socket.as_ref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE, // nobody reads what it would say
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_or_the_first_argument_tells_the_program() {
        let arguments = |line: &[&str]| {
            let line: Vec<_> = line.iter().map(OsString::from).collect();
            called(&line).map(|(_, rest)| rest.to_vec())
        };
        assert_eq!(arguments(&["/usr/sbin/deadman", "/run/x"]).unwrap(), ["/run/x"]);
        assert_eq!(arguments(&["amphora-agent", "deadman", "/run/x"]).unwrap(), ["/run/x"]);
        assert_eq!(arguments(&["amphora-agent", "--config-dir", "deadman"]), None);
        assert_eq!(arguments(&["amphora-agent"]), None);
    }
}
