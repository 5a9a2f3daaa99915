//! keepalived, which does VRRP and LVS: where it is, and what it says of a configuration before it has to use it.

use std::{
    io,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use netns::Namespace;

use crate::{
    child,
    services::{Sandbox, Service, ServiceError, ServiceName, Services, Status},
};

/// Where Debian, Ubuntu and Red Hat have it (`KEEPALIVED_CMD` in `octavia/common/constants.py`).
pub const PROGRAM: &str = "/usr/sbin/keepalived";

/// How long a test may take; it takes some ten milliseconds, and with name servers that are silent a second for each.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a start may take.
const START: Duration = Duration::from_secs(30);
/// How often a start is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// keepalived's own exit codes (`lib/bitops.h`, `lib/scheduler.h` of its sources): something is wrong with the
/// configuration, or only with the owner or place of a script in it.
const CONFIG_TEST: i32 = 5;
const CONFIG_TEST_SECURITY: i32 = 6;

/// Without this every configuration of Octavia's is a security violation, and what else is wrong is hidden in the exit
/// code behind it. And one without a name of its own looks its host's up (`core/global_data.c` of its sources), for as long
/// as the resolver takes to give up where no name server can be reached.
const PRELUDE: &str = "global_defs {\n  router_id amphora\n  script_user root\n  enable_script_security\n}\n";

/// It looks its host's name up before it does anything (for the sender of mails nobody asked for), in a namespace that
/// often has no way to a name server: 5 s for each try of each server, without this.
const RESOLVER: (&str, &str) = ("RES_OPTIONS", "timeout:1 attempts:1");

/// The complaints that are about how the text is built, after which keepalived passes over a block or more. All others are
/// about a value (it has a default for one that is out of its range, and Octavia's API allows a delay of 0), about what is
/// as the controller wants it (a pool without members) or about what comes later (the NIC, a script).
const OF_THE_TEXT: [&str; 8] = [
    "Unknown keyword",
    "missing '",
    "Extra '",
    "Unexpected '",
    "Unterminated quote",
    "Unmatched quote",
    "is missing a parameter",
    "must be set",
];

/// A keepalived with this configuration and these options for its pid files, as a service. In the foreground, and saying
/// what it does on its output too: a start that fails is judged by that. `facility` is a number of `LOG_LOCAL`. Whether it
/// [`notifies`] is the caller's to say.
#[must_use]
pub fn service(
    name: ServiceName,
    description: &str,
    configuration: &Path,
    facility: u8,
    pids: &[(&str, PathBuf)],
) -> Service {
    let start =
        [PROGRAM, "--dont-fork", "--log-console", &format!("--log-facility={facility}"), "-f"].map(str::to_owned);
    let path = |path: &Path| path.display().to_string();
    let pids = pids.iter().flat_map(|(option, pid)| [(*option).to_owned(), path(pid)]);
    let command = start.into_iter().chain([path(configuration)]).chain(pids).collect();
    let writable = configuration.parent().unwrap_or(Path::new("/"));
    Service {
        environment: [(RESOLVER.0.to_owned(), RESOLVER.1.to_owned())].into(),
        sandbox: sandbox(writable),
        ..Service::new(name, description, command)
    }
}

/// Whether it says `READY=1`: only to a parent that is systemd, whatever `NOTIFY_SOCKET` is (`check_parent_systemd` in
/// its `lib/systemd.c`). A machine that systemd has booted is not enough: its parent may be the agent there.
#[must_use]
pub fn notifies(services: &Services) -> bool {
    services.are_systemds()
}

/// Starts it, and waits until one of these pid files names a keepalived: before that a SIGHUP would end it instead of
/// having it read its configuration again. Its child's file says so; its own comes a moment too early.
///
/// # Errors
/// The service's own.
pub async fn start(services: &Services, name: &ServiceName, pid: &Path) -> Result<(), ServiceError> {
    services.start(name).await?;
    let begin = Instant::now();
    while !notifies(services) && !is_running(pid) {
        let what = "did not start";
        match services.status(name).await? {
            Status::Failed { why } => return Err(ServiceError::Failed { name: name.clone(), what, text: why }),
            _ if begin.elapsed() < START => tokio::time::sleep(LOOK).await,
            _ => return Err(ServiceError::TimedOut { name: name.clone(), what, text: String::new() }),
        }
    }
    Ok(())
}

/// Whether a pid file names a keepalived that runs: a process of that number may be anybody.
#[must_use]
pub fn is_running(pid: &Path) -> bool {
    let pid = std::fs::read_to_string(pid).unwrap_or_default();
    let number = pid.lines().next().and_then(|line| line.trim().parse::<u32>().ok());
    let name = number.map(|number| std::fs::read_to_string(format!("/proc/{number}/comm")).unwrap_or_default());
    name.is_some_and(|name| name.trim_end().starts_with("keepalived"))
}

/// What keepalived needs: addresses, routes, rules and IPVS; packets of its own; the namespace its configuration names; to
/// take the groups from the checks it runs, which without the right it complains of each time.
#[must_use]
fn sandbox(writable: &Path) -> Sandbox {
    let capabilities = ["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_NET_BROADCAST", "CAP_SYS_ADMIN", "CAP_KILL", "CAP_SETGID"];
    Sandbox {
        writable: vec![writable.to_owned()],
        capabilities: capabilities.map(str::to_owned).into(),
        kernel_tunables: true,
        namespaces: true,
    }
}

/// Why a configuration was not found good.
#[derive(Debug, thiserror::Error)]
pub enum TestError {
    /// keepalived would not do all of what it says.
    #[error("{0}")]
    Refused(String),
    /// keepalived could not be asked.
    #[error("keepalived cannot test a configuration")]
    Io(#[source] io::Error),
}

/// Has keepalived read a configuration, in the namespace where it would use it. One that goes on is a warning to
/// keepalived and an outage to a load balancer: an unknown word makes it pass over a whole block. Where keepalived is not
/// installed, or takes too long, nothing is judged, and starting it will say so. Blocks.
///
/// # Errors
/// [`TestError::Refused`] with what keepalived says, each line once.
pub fn test(configuration: &[u8], namespace: &Namespace) -> Result<(), TestError> {
    // keepalived ends a line there, and would find nothing wrong with the rest.
    if let Some(at) = configuration.iter().position(|byte| *byte == 0) {
        let line = configuration[..at].split(|byte| *byte == b'\n').count();
        return Err(TestError::Refused(format!("(Line {line}) a NUL byte")));
    }
    let input = [PRELUDE.as_bytes(), &without_namespace(configuration)].concat();
    // From its standard input: it would leave a file of ours behind when it is killed.
    let mut command = Command::new(PROGRAM);
    command.args(["-t", "-f", "/dev/stdin"]).env(RESOLVER.0, RESOLVER.1);
    let ended = match child::run(&mut command, Some(namespace), &input, PATIENCE) {
        Err(_) if !Path::new(PROGRAM).exists() => {
            tracing::warn!("{PROGRAM} is not there; the configuration is taken as it is");
            return Ok(());
        }
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            tracing::warn!(%error, "the configuration is taken as it is");
            return Ok(());
        }
        ended => ended.map_err(TestError::Io)?,
    };
    let failed = |text: &str| Err(TestError::Io(io::Error::other(format!("it ended with {}: {text}", ended.status))));
    match ended.status.code() {
        _ if ended.text.contains("/dev/stdin' is not a regular") => failed("it did not read its standard input"),
        Some(0 | CONFIG_TEST_SECURITY) => Ok(()),
        code => match complaints(&ended.text) {
            text if !text.is_empty() => Err(TestError::Refused(text)),
            _ if code == Some(CONFIG_TEST) => Ok(()),
            _ => failed(ended.text.trim()),
        },
    }
}

/// The configuration without `net_namespace`, each line in its place: it is tested where that leads, and a keepalived that
/// cannot go there reads nothing else and is content.
fn without_namespace(configuration: &[u8]) -> Vec<u8> {
    let lines = configuration.split_inclusive(|byte| *byte == b'\n');
    let kept =
        lines.map(|line| if line.trim_ascii_start().starts_with(b"net_namespace") { b"\n".as_slice() } else { line });
    kept.collect::<Vec<_>>().concat()
}

/// What is wrong with the text of the configuration, all that was said with it; nothing where nothing is. keepalived reads
/// it several times, and complains each time.
fn complaints(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines().map(renumbered).filter(|line| !line.trim().is_empty()) {
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    if lines.iter().any(|line| OF_THE_TEXT.iter().any(|words| line.contains(words))) {
        return lines.join("\n");
    }
    for line in lines {
        tracing::info!(line, "keepalived remarks on the configuration");
    }
    String::new()
}

/// `(/dev/stdin: Line 13) ...` as `(Line 9) ...`: the client's line.
fn renumbered(line: &str) -> String {
    let renumber = || {
        let (number, rest) =
            line.strip_prefix('(')?.trim_start_matches("/dev/stdin: ").strip_prefix("Line ")?.split_once(')')?;
        let number = number.parse::<usize>().ok()?.checked_sub(PRELUDE.lines().count())?;
        Some(format!("(Line {number}){rest}"))
    };
    renumber().unwrap_or_else(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_names_the_clients_line_and_comes_once() {
        let said = "(Line 6) Unknown keyword 'garbage'\n(/dev/stdin: Line 6) Unknown keyword 'garbage'\n\
                    There are 1 missing '}'s or extra '{'s\n(/dev/stdin: Line 6) Unknown keyword 'garbage'\n";
        assert_eq!(complaints(said), "(Line 1) Unknown keyword 'garbage'\nThere are 1 missing '}'s or extra '{'s");
    }

    #[test]
    fn what_may_come_later_is_wanted_or_has_a_default_is_no_complaint() {
        let said = "(/dev/stdin: Line 13) WARNING - interface eth1 for vrrp_instance x doesn't exist\n\
                    Non-existent interface specified in configuration\n\
                    Disabling track script check_script since not found/accessible\n\
                    (/dev/stdin: Line 7) number '0' outside range [0.000001, 18446744073709.551614]\n\
                    (/dev/stdin: Line 7) virtual server delay loop '0' invalid - ignoring\n\
                    (/dev/stdin: Line 9) VRRP parsed invalid IP gateway. skipping IP...\n\
                    (/dev/stdin: Line 9) unknown route keyword gateway\n\
                    Virtual server [ipv4-group]:0 has no real servers - ignoring\n";
        assert_eq!(complaints(said), "");
    }

    #[test]
    fn the_namespace_is_taken_out_and_the_lines_stay() {
        let text = b"# net_namespace a\n  net_namespace b\nx\nnet_namespace_ipvs c";
        assert_eq!(without_namespace(text), b"# net_namespace a\n\nx\n\n");
    }
}
