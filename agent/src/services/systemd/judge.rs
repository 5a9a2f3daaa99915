//! How a unit is, and why a job of it failed: systemd's properties and the journal's lines.

use std::{
    collections::HashMap,
    process::Stdio,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use nix::time::{ClockId, clock_gettime};
use serde::Deserialize;
use tokio::process::Command;
use zbus::OwnedVariant;

use crate::services::{ServiceName, Status};

/// The most lines of the journal that are looked at, and the most bytes of them that an error repeats.
const LINES: &str = "200";
const TAIL: usize = 4096;
/// Nobody waits longer for a journal.
const PATIENCE: Duration = Duration::from_secs(5);

/// systemd's properties of a unit, as a status.
pub(super) fn status(properties: &HashMap<String, OwnedVariant>) -> Status {
    let number = |key: &str| properties.get(key).and_then(|value| u32::try_from(value).ok());
    let micros = |key: &str| properties.get(key).and_then(|value| u64::try_from(value).ok());
    let main = number("MainPID").filter(|pid| *pid > 0);
    match text(properties, "ActiveState").as_str() {
        "active" | "reloading" => match main {
            Some(pid) => Status::Active { pid, since: at(micros("ExecMainStartTimestampMonotonic").unwrap_or(0)) },
            None => Status::Starting, // between two main processes
        },
        "activating" => Status::Starting,
        "failed" => Status::Failed { why: why(properties) },
        _ => Status::Inactive,
    }
}

/// Whether systemd has neither a file nor a process of it.
pub(super) fn is_unknown(properties: &HashMap<String, OwnedVariant>) -> bool {
    text(properties, "LoadState") == "not-found" && status(properties) == Status::Inactive
}

fn text(properties: &HashMap<String, OwnedVariant>, key: &str) -> String {
    properties.get(key).and_then(|value| value.clone().try_into().ok()).unwrap_or_default()
}

/// `Result`, and how the main process ended (waitid(2)'s `si_code` and `si_status`).
fn why(properties: &HashMap<String, OwnedVariant>) -> String {
    let number = |key: &str| properties.get(key).and_then(|value| i32::try_from(value).ok()).unwrap_or(0);
    let result = text(properties, "Result");
    match (number("ExecMainCode"), number("ExecMainStatus")) {
        (0, _) => result,
        (1, status) => format!("{result}: exit status: {status}"),
        (_, signal) => format!("{result}: signal: {signal}"),
    }
}

/// A time in microseconds of `CLOCK_MONOTONIC`, which is [`Instant`]'s clock.
fn at(micros: u64) -> Instant {
    let now = Instant::now();
    let monotonic = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    monotonic.checked_sub(Duration::from_micros(micros)).and_then(|age| now.checked_sub(age)).unwrap_or(now)
}

/// What the journal says of a failed job.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// The program's own words, and how it ended.
    pub(super) text: String,
    /// Whether it was a command before the main one that failed.
    pub(super) check: bool,
    /// Whether time had run out.
    pub(super) late: bool,
}

/// The fields of a line; `journalctl -o json` leaves out those a line has not.
#[derive(Debug, Default, Deserialize)]
struct Line {
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    at: String,
    /// An array of numbers where it is no UTF-8.
    #[serde(rename = "MESSAGE")]
    message: Option<serde_json::Value>,
    #[serde(rename = "_SYSTEMD_UNIT")]
    unit: Option<String>,
    /// The run of the unit that PID 1 speaks of.
    #[serde(rename = "INVOCATION_ID")]
    about: Option<String>,
    /// The run of the unit that a program is part of.
    #[serde(rename = "_SYSTEMD_INVOCATION_ID")]
    of: Option<String>,
    #[serde(rename = "COMMAND")]
    command: Option<String>,
    #[serde(rename = "EXIT_CODE")]
    exit_code: Option<String>,
    #[serde(rename = "EXIT_STATUS")]
    exit_status: Option<String>,
    #[serde(rename = "UNIT_RESULT")]
    result: Option<String>,
}

impl Line {
    /// The run it is about.
    fn invocation(&self) -> Option<&String> {
        self.about.as_ref().or(self.of.as_ref())
    }
}

/// Reads what a service and systemd have said of it since a time. Nothing, where there is no journal.
pub(super) async fn verdict(name: &ServiceName, since: SystemTime) -> Verdict {
    let unit = format!("{name}.service");
    let read = async {
        // What a program wrote just before it ended may be on its way.
        let _ = journalctl(&["--sync"]).await; // then something may be missing
        journalctl(&["--quiet", "--unit", &unit, "--lines", LINES, "--output", "json"]).await
    };
    match tokio::time::timeout(PATIENCE, read).await {
        Ok(Ok(lines)) => judge(&lines, &unit, since),
        Ok(Err(error)) => {
            tracing::warn!(%error, "the journal cannot be read");
            Verdict::default()
        }
        Err(_) => Verdict::default(),
    }
}

async fn journalctl(arguments: &[&str]) -> std::io::Result<String> {
    let mut command = Command::new("journalctl");
    let output = command.args(arguments).stdin(Stdio::null()).kill_on_drop(true).output().await?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn judge(lines: &str, unit: &str, since: SystemTime) -> Verdict {
    let since = since.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_micros());
    let lines = lines.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    let (before, lines): (Vec<_>, Vec<_>) = lines.partition(|line| line.at.parse::<u128>().is_ok_and(|at| at < since));
    // The first run that ended, of those that began since then (systemd may have started another already); at a reload the
    // one there was.
    let is_new = |line: &&Line| before.iter().all(|old| old.invocation() != line.invocation());
    let has_ended = |line: &&Line| line.exit_code.is_some() || line.result.is_some();
    let ended_run = lines.iter().filter(is_new).find(has_ended).or_else(|| lines.iter().find(has_ended));
    let run = ended_run.or(lines.first()).and_then(|line| line.invocation().cloned());
    let (mut verdict, mut words, mut ended) = (Verdict::default(), String::new(), None);
    for line in lines {
        // journald does not know of every line whose it is.
        if line.invocation().is_some_and(|invocation| run.as_ref() != Some(invocation)) {
            continue;
        }
        if line.unit.as_deref() == Some(unit) {
            words.push_str(&line.message.as_ref().map(message).unwrap_or_default());
            words.push('\n');
        } else if let Some(result) = line.result {
            verdict.late |= result == "timeout";
            ended.get_or_insert(result);
        } else if let (Some(code), Some(status)) = (line.exit_code, line.exit_status) {
            verdict.check |= line.command.is_some_and(|command| command != "ExecStart");
            ended = Some(if code == "exited" { format!("exit status: {status}") } else { format!("signal: {status}") });
        }
    }
    let words = words.trim();
    let mut start = words.len().saturating_sub(TAIL);
    while !words.is_char_boundary(start) {
        start += 1;
    }
    let words = &words[start..];
    verdict.text = match ended {
        Some(how) if !words.is_empty() => format!("{words} ({how})"),
        Some(how) => how,
        None => words.to_owned(),
    };
    verdict
}

fn message(value: &serde_json::Value) -> String {
    let bytes = |numbers: &Vec<serde_json::Value>| {
        numbers.iter().filter_map(|n| u8::try_from(n.as_u64()?).ok()).collect::<Vec<_>>()
    };
    match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(numbers) => String::from_utf8_lossy(&bytes(numbers)).into_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests;
