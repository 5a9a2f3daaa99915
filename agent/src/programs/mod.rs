//! The programs of a stock amphora image, all in this one binary.
//!
//! Which of them it is, is said by the name it was called by (a link to it), or by its first argument:
//! `amphora-agent haproxy-vrrp-check ...`. Anything else is the agent itself.

mod dhcp_client;
mod gobgpd;
mod health_checker;
mod interface;
pub mod masquerade;
mod netns;
mod vrrp_check;
mod withdraw;

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::ExitCode,
};

use crate::services::{direct::exec, reload_main};

/// `EX_USAGE` of sysexits.h.
const EX_USAGE: u8 = 64;

/// A program, given its arguments without its own name.
pub type Program = fn(&[OsString]) -> ExitCode;

/// Each by its name, with what `--help` says of it.
const PROGRAMS: &[(&str, &str, Program)] = &[
    ("amphoractl", "COMMAND: shows and steers the running agent; its own --help lists the commands", crate::ctl::main),
    (
        "config-drive",
        "[--directory DIR] [--root ROOT] [--wait SECONDS]: applies Nova's config drive, once an instance",
        crate::config_drive::main,
    ),
    (
        "deadman",
        "[SOCKET]: stops gobgpd when the agent stays away; without SOCKET at once, for systemd's timer",
        deadman,
    ),
    ("gobgpd", "SOCKET: becomes gobgpd with the options the agent would give it, for the unit gobgpd", gobgpd::run),
    ("dhcp-client", "INTERFACE: started as a service of a NIC without an IPv4 address", dhcp_client::main),
    ("prometheus-proxy", ": serves haproxy's metrics to Prometheus on 127.0.0.1:9102", crate::prometheus::program),
    ("run-service", ": started by the agent, for each service it runs itself", exec::run),
    ("reload-main", ": has a service reload, for systemd's ExecReload", reload_main::run),
    ("amphora-netns", ": makes the namespace amphora-haproxy and sets its sysctls", netns::run),
    (
        "amphora-health-checker",
        "sctp|udp|ping [OPTIONS] ADDRESS: checks a member, 0 when it is up",
        health_checker::main,
    ),
    ("amphora-interface", "up|down INTERFACE|all: applies /etc/octavia/interfaces", interface::main),
    ("haproxy-vrrp-check", "SOCKET...: 0 when every haproxy answers, for keepalived", vrrp_check::main),
    (
        "withdraw",
        ": ends gobgpd, for a machine that goes down; stop the agent first, which would start it again",
        withdraw::run,
    ),
    ("lvs-masquerade", "add|delete ipv4|ipv6 INTERFACE [sriov]: masquerades what LVS forwards", masquerade::main),
    ("lvs-masquerade.sh", "add|delete ipv4|ipv6 INTERFACE [sriov]: masquerades what LVS forwards", masquerade::main),
];

/// The program a command line (with its name first) calls for, and its own arguments; `None` is the agent.
#[must_use]
pub fn called(line: &[OsString]) -> Option<(Program, &[OsString])> {
    let named = |name: &OsString| Path::new(name).file_name().and_then(|file| find(file));
    let (at, program) = (0..2).find_map(|at| Some((at, named(line.get(at)?)?)))?;
    let arguments = &line[at + 1..];
    // amphoractl has a help of its own.
    let has_line = Path::new(&line[at]).file_name().is_none_or(|file| file != "amphoractl");
    let asks = has_line && arguments.first().is_some_and(|first| first == "--help" || first == "-h");
    Some(if asks { (help, &line[at..=at]) } else { (program, arguments) })
}

fn find(name: &OsStr) -> Option<Program> {
    PROGRAMS.iter().find(|(known, ..)| name == *known).map(|(.., program)| *program)
}

/// Says what the named program is for, and does nothing else.
fn help(name: &[OsString]) -> ExitCode {
    let file = name.first().and_then(|name| Path::new(name).file_name());
    for (known, what, _) in PROGRAMS.iter().filter(|(known, ..)| file.is_some_and(|file| file == *known)) {
        println!("{known}{}{what}", if what.starts_with(':') { "" } else { " " });
    }
    ExitCode::SUCCESS
}

/// The programs as the agent's own help lists them.
#[must_use]
pub fn overview() -> String {
    let line = |(name, what, _): &(&str, &str, Program)| {
        format!("  {name}{}{what}\n", if what.starts_with(':') { "" } else { " " })
    };
    "Other programs, by the first argument or the name of a link to this one:\n".to_owned()
        + &PROGRAMS.iter().map(line).collect::<Vec<_>>().concat()
}

/// The path of this very program, for who shall call it later. One that was replaced meanwhile is found at the same path.
#[must_use]
pub fn own_path() -> PathBuf {
    let path = std::env::current_exe().unwrap_or_else(|_| "/usr/bin/amphora-agent".into());
    // What /proc/self/exe says of a file that was unlinked or replaced (proc(5)).
    path.to_str().and_then(|p| p.strip_suffix(" (deleted)")).map(PathBuf::from).unwrap_or(path)
}

/// The agent starts its dead man's switch by this word, and systemd's timer what the switch does; it is not for people.
fn deadman(arguments: &[OsString]) -> ExitCode {
    let ended = match arguments {
        [socket] => crate::deadman::watch(socket.as_ref()),
        // The unit's own has been told to end by systemctl, and an agent that comes back may have had it started again.
        [] => match crate::speaker::last().filter(|socket| !crate::speaker::is_units(socket)) {
            Some(socket) => {
                eprintln!("deadman: no agent is ready; gobgpd behind {} is stopped", socket.display());
                crate::deadman::stop(&socket)
            }
            None => Ok(()),
        },
        _ => return ExitCode::from(EX_USAGE),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("deadman: gobgpd cannot be stopped: {error}"); // the one with a socket speaks to nobody
            ExitCode::FAILURE
        }
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
        // Asked what it does, a program does not do it.
        assert_eq!(arguments(&["amphora-agent", "withdraw", "--help"]).unwrap(), ["withdraw"]);
        assert_eq!(arguments(&["/usr/sbin/deadman", "-h"]).unwrap(), ["/usr/sbin/deadman"]);
    }
}
