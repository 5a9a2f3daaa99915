//! `amphora-health-checker PROTOCOL [-t SECONDS] ADDRESS [PORT]`: one health check of one member, for keepalived's
//! `MISC_CHECK` (`octavia/cmd/health_checker.py`, and for UDP what `udp_check.sh` has netcat do) and haproxy's external
//! check (`ping`).

mod ping;
mod sctp;
mod udp;

use std::{
    ffi::OsString,
    io,
    net::{IpAddr, SocketAddr},
    process::ExitCode,
    time::Duration,
};

/// What a check found, as an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Up = 0,
    Refused = 1,
    Timeout = 2,
    Unexpected = 3,
}

struct Arguments {
    timeout: Option<Duration>,
    ip: IpAddr,
    port: Option<u16>,
}

/// Exit code 0: up; 1: refused, or it cannot be checked; 2: no answer; 3: an answer of another kind.
pub(super) fn main(arguments: &[OsString]) -> ExitCode {
    let words: Vec<_> = arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let checked = match words.split_first() {
        Some((protocol, rest)) => check(&protocol.to_lowercase(), protocol, rest),
        None => Err(USAGE.to_owned()),
    };
    match checked {
        Ok(verdict) => ExitCode::from(verdict as u8),
        Err(problem) => {
            println!("{problem}");
            ExitCode::FAILURE
        }
    }
}

const USAGE: &str = "usage: amphora-health-checker sctp|udp|ping [-t SECONDS] ADDRESS [PORT]";

fn check(protocol: &str, as_given: &str, rest: &[String]) -> Result<Verdict, String> {
    if !["sctp", "udp", "ping"].contains(&protocol) {
        return Err(format!("Unsupported protocol '{as_given}'"));
    }
    let arguments = parse(rest)?;
    let timeout = |default| arguments.timeout.unwrap_or(default);
    let member = || arguments.port.map(|port| SocketAddr::new(arguments.ip, port)).ok_or_else(|| USAGE.to_owned());
    let checked = match protocol {
        "sctp" => sctp::check(member()?, timeout(Duration::from_secs(3))),
        "udp" => udp::check(member()?, timeout(Duration::from_millis(750))),
        _ => ping::check(arguments.ip, timeout(Duration::from_secs(1))),
    };
    checked.map_err(|error| format!("{}: {error}", arguments.ip))
}

fn parse(words: &[String]) -> Result<Arguments, String> {
    let (timeout, words) = match words {
        [option, seconds, rest @ ..] if option == "-t" => {
            let seconds = seconds.parse().map_err(|_| format!("-t {seconds}: not a number of seconds"))?;
            (Some(Duration::from_secs(seconds)), rest)
        }
        words => (None, words),
    };
    let (ip, port) = match words {
        [ip] => (ip, None),
        [ip, port] => (ip, Some(port.parse().map_err(|_| format!("{port}: not a port"))?)),
        _ => return Err(USAGE.to_owned()),
    };
    Ok(Arguments { timeout, ip: ip.parse().map_err(|_| format!("{ip}: not an IP address"))?, port })
}

/// Whether an error only says that nothing came in the time a socket waits.
fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

/// Whether an error is the network's answer about the member: it, its port or its host is not there.
fn is_refusal(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
    matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(line: &[&str]) -> ExitCode {
        main(&line.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn a_command_line_that_cannot_be_used_is_a_failed_check() {
        for line in [
            &[][..],
            &["tcp", "192.0.2.1", "80"],
            &["sctp"],
            &["sctp", "192.0.2.1"],
            &["sctp", "-t", "192.0.2.1", "80"],
            &["sctp", "-t", "1", "192.0.2.1", "0x50"],
            &["udp", "example.org", "53"],
            &["udp", "192.0.2.1", "53", "54"],
            &["ping"],
        ] {
            assert_eq!(code(line), ExitCode::FAILURE, "{line:?}");
        }
        assert_eq!(check("tcp", "TCP", &[]).unwrap_err(), "Unsupported protocol 'TCP'");
    }
}
