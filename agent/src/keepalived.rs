//! keepalived, which does VRRP and LVS: where it is, and what it says of a configuration before it has to use it.

use std::{
    io,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use netns::Namespace;

use crate::{child, services::Sandbox};

/// Where Debian, Ubuntu and Red Hat have it (`KEEPALIVED_CMD` in `octavia/common/constants.py`).
pub const PROGRAM: &str = "/usr/sbin/keepalived";

/// How long a test may take; it takes some ten milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// keepalived's own exit codes (`lib/bitops.h`, `lib/scheduler.h` of its sources): something is wrong with the
/// configuration, or only with the owner or place of a script in it.
const CONFIG_TEST: i32 = 5;
const CONFIG_TEST_SECURITY: i32 = 6;

/// Without this every configuration of Octavia's is a security violation, and what else is wrong is hidden in the exit
/// code behind it.
const PRELUDE: &str = "global_defs {\n  script_user root\n  enable_script_security\n}\n";

/// The complaints that are about the text. keepalived complains as loudly of what is as the controller wants it (a pool
/// without members) or comes later (the NIC, a script), and each release finds more words; what is not of these is taken.
const OF_THE_TEXT: [&str; 8] =
    ["Unknown ", "missing '", "Unexpected '", "nvalid ", "not valid", "must be set", "outside range", "Truncating "];

/// The command line of a keepalived with this configuration and these options for its pid files. In the foreground, and
/// saying what it does on its output too: a start that fails is judged by that. `facility` is a number of `LOG_LOCAL`.
#[must_use]
pub fn command(configuration: &Path, facility: u8, pids: &[(&str, PathBuf)]) -> Vec<String> {
    let start =
        [PROGRAM, "--dont-fork", "--log-console", &format!("--log-facility={facility}"), "-f"].map(str::to_owned);
    let path = |path: &Path| path.display().to_string();
    let pids = pids.iter().flat_map(|(option, pid)| [(*option).to_owned(), path(pid)]);
    start.into_iter().chain([path(configuration)]).chain(pids).collect()
}

/// What keepalived needs: addresses, routes, rules and IPVS; packets of its own; the namespace its configuration names.
#[must_use]
pub fn sandbox(writable: &Path) -> Sandbox {
    let capabilities = ["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_NET_BROADCAST", "CAP_SYS_ADMIN", "CAP_KILL"];
    Sandbox {
        writable: vec![writable.to_owned()],
        capabilities: capabilities.map(str::to_owned).into(),
        kernel_tunables: true,
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
/// installed nothing can be tested, and starting it will say so. Blocks.
///
/// # Errors
/// [`TestError::Refused`] with what keepalived says, each line once.
pub fn test(configuration: &[u8], namespace: &Namespace) -> Result<(), TestError> {
    let input = [PRELUDE.as_bytes(), configuration].concat();
    // From its standard input: it would leave a file of ours behind when it is killed.
    let mut command = Command::new(PROGRAM);
    let ended = match child::run(command.args(["-t", "-f", "/dev/stdin"]), Some(namespace), &input, PATIENCE) {
        Err(_) if !Path::new(PROGRAM).exists() => {
            tracing::warn!("{PROGRAM} is not there; the configuration is taken as it is");
            return Ok(());
        }
        ended => ended.map_err(TestError::Io)?,
    };
    match ended.status.code() {
        Some(0 | CONFIG_TEST_SECURITY) => Ok(()),
        Some(CONFIG_TEST) => match complaints(&ended.text) {
            text if text.is_empty() => Ok(()),
            text => Err(TestError::Refused(text)),
        },
        _ => Err(TestError::Io(io::Error::other(format!("it ended with {}: {}", ended.status, ended.text.trim())))),
    }
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
    lines.iter().for_each(|line| tracing::info!(line, "keepalived remarks on the configuration"));
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
        let said = "(Line 5) Unknown keyword 'garbage'\n(/dev/stdin: Line 5) Unknown keyword 'garbage'\n\
                    There are 1 missing '}'s or extra '{'s\n(/dev/stdin: Line 5) Unknown keyword 'garbage'\n";
        assert_eq!(complaints(said), "(Line 1) Unknown keyword 'garbage'\nThere are 1 missing '}'s or extra '{'s");
    }

    #[test]
    fn what_may_come_later_or_is_wanted_is_no_complaint() {
        let said = "(/dev/stdin: Line 13) WARNING - interface eth1 for vrrp_instance x doesn't exist\n\
                    Non-existent interface specified in configuration\n\
                    Disabling track script check_script since not found/accessible\n\
                    Virtual server [ipv4-group]:0 has no real servers - ignoring\n";
        assert_eq!(complaints(said), "");
    }
}
