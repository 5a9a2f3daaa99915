//! `support-bundle`: all that helps to find a fault, in one file that may be sent to somebody else.
//!
//! What goes in is named here, file by file; nothing is swept up from a directory. No secret is meant to be in any of it,
//! and what the configuration calls one is blotted out all the same.

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    os::unix::{fs::OpenOptionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use hyper::Method;
use netns::Namespace;
use serde_json::Value;

use super::{Failed, client::Client, moment, show::cell, tar::Archive};
use crate::{
    child,
    config::{Config, Sources},
    kernel::NAMESPACE,
    programs,
};

/// What the agent is asked for: the name in the bundle, and the path.
const CALLS: [(&str, &str); 9] = [
    ("status.json", "/1.0/distributor/status"),
    ("peers.json", "/1.0/distributor/peers"),
    ("amphorae.json", "/1.0/distributor/amphorae"),
    ("vips.json", "/1.0/distributor/vips"),
    ("info.json", "/1.0/info"),
    ("details.json", "/1.0/details"),
    ("listeners.json", "/1.0/listeners"),
    ("metrics.txt", "/1.0/metrics"),
    ("api-version.json", "/"),
];

/// What is asked of the kernel, outside and inside the namespace.
const KERNEL: [(&str, &str); 8] = [
    ("addresses.txt", "ip -details address show"),
    ("links.txt", "ip -statistics link show"),
    ("rules.txt", "ip rule show"),
    ("rules6.txt", "ip -6 rule show"),
    ("routes.txt", "ip route show table all"),
    ("routes6.txt", "ip -6 route show table all"),
    ("neighbours.txt", "ip neighbour show"),
    ("nftables.txt", "nft list ruleset"),
];

/// What is asked of the machine, in its own namespace.
const MACHINE: [(&str, &str); 8] = [
    ("kernel.txt", "uname -a"),
    ("os-release.txt", "cat /etc/os-release"),
    ("gobgpd.txt", "gobgpd --version"),
    ("haproxy.txt", "haproxy -v"),
    ("keepalived.txt", "keepalived --version"),
    ("processes.txt", "ps -eo pid,ppid,user,rss,etime,comm"),
    ("clock.txt", "date --utc +%FT%TZ"),
    ("disk.txt", "df -h / /var/lib/octavia /run"),
];

/// The agent's own lines, and those of the units around it.
const JOURNAL: &str = "journalctl --no-pager --output short-iso --lines 1000 --unit amphora-agent --unit amphora-netns --unit amphora-withdraw";
/// Where gobgpd writes where no systemd runs it.
const SPEAKER_LOG: &str = "tail -n 500 /var/log/gobgpd.log";

/// For one program.
const PATIENCE: Duration = Duration::from_secs(10);
/// A shorter secret is not looked for: it is in every other word.
const SHORTEST: usize = 4;

/// Writes the bundle; whether something is missing from it.
pub(super) fn write(client: &Client, file: Option<PathBuf>) -> Result<bool, Failed> {
    let now = moment::now();
    let host = nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned();
    let time: String = moment::date(now).chars().filter(char::is_ascii_digit).collect();
    let name = format!("amphora-support-{host}-{time}");
    let file = file.unwrap_or_else(|| format!("{name}.tar.gz").into());
    let unwritten = |error| Failed::Bundle { file: file.clone(), error };
    // First, so that nobody waits for what cannot be stored.
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file).map_err(unwritten)?;

    let mut bundle = Bundle { archive: Archive::default(), name, now, secrets: secrets(), missing: Vec::new() };
    bundle.agent(client);
    bundle.program("configuration.ini", &mut own("--print-effective-config"), None);
    bundle.program("configuration-check.txt", &mut own("--check-config"), None);
    for (name, line) in MACHINE {
        bundle.program(name, &mut command(line), None);
    }
    for (name, line) in KERNEL {
        bundle.program(&format!("outside/{name}"), &mut command(line), None);
    }
    match Namespace::find(NAMESPACE) {
        Ok(Some(inside)) => {
            for (name, line) in KERNEL {
                bundle.program(&format!("{NAMESPACE}/{name}"), &mut command(line), Some(&inside));
            }
        }
        Ok(None) => bundle.missing.push(format!("there is no namespace {NAMESPACE}")),
        Err(error) => bundle.missing.push(format!("namespace {NAMESPACE}: {error}")),
    }
    if Path::new("/run/systemd/journal").exists() {
        bundle.program("journal.txt", &mut command(JOURNAL), None);
    }
    if Path::new("/var/log/gobgpd.log").exists() {
        bundle.program("gobgpd.log", &mut command(SPEAKER_LOG), None);
    }
    let (bytes, missing) = bundle.end();
    out.write_all(&bytes).and_then(|()| out.sync_all()).map_err(unwritten)?;
    for what in &missing {
        eprintln!("amphoractl: missing from the bundle: {what}");
    }
    super::print(format!("{}\n", file.display()).as_bytes())?;
    Ok(!missing.is_empty())
}

struct Bundle {
    archive: Archive,
    name: String,
    now: u64,
    secrets: Vec<String>,
    missing: Vec<String>,
}

impl Bundle {
    fn add(&mut self, name: &str, text: &str) {
        let text = blotted(text, &self.secrets);
        self.archive.add(&format!("{}/{name}", self.name), text.as_bytes(), self.now);
    }

    /// What the agent says of itself.
    fn agent(&mut self, client: &Client) {
        for (name, path) in CALLS {
            match client.bytes(Method::GET, path, None) {
                Ok(bytes) => {
                    self.add(name, &readable(&bytes));
                    if name == "status.json" {
                        self.why(client, &bytes);
                    }
                }
                Err(error) => self.missing.push(format!("{name}: {error}")),
            }
        }
    }

    fn why(&mut self, client: &Client, status: &[u8]) {
        let status: Value = serde_json::from_slice(status).unwrap_or_default();
        for vip in status["vips"].as_array().into_iter().flatten().map(|vip| cell(&vip["vip_ip"])) {
            match client.bytes(Method::GET, &format!("/1.0/distributor/why/{vip}"), None) {
                Ok(bytes) => self.add(&format!("why/{vip}.json"), &readable(&bytes)),
                Err(error) => self.missing.push(format!("why {vip}: {error}")),
            }
        }
    }

    /// What a program prints, as far as it is there.
    fn program(&mut self, name: &str, command: &mut Command, inside: Option<&Namespace>) {
        match child::run(command, inside, b"", PATIENCE) {
            Ok(ended) if ended.status.success() => self.add(name, &ended.text),
            Ok(ended) => self.add(name, &format!("{}\n({})\n", ended.text, ended.status)),
            // No keepalived is no fault of an amphora that has no use for it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.add(name, &format!("{error}\n")),
            Err(error) => self.missing.push(format!("{name}: {error}")),
        }
    }

    /// The file, and what is not in it.
    fn end(mut self) -> (Vec<u8>, Vec<String>) {
        self.add("missing.txt", &(self.missing.join("\n") + "\n"));
        self.add("version.txt", &format!("amphora-agent {}\n", env!("CARGO_PKG_VERSION")));
        (self.archive.gzip(), self.missing)
    }
}

/// JSON on lines of their own; anything else as it is.
fn readable(bytes: &[u8]) -> String {
    match serde_json::from_slice::<Value>(bytes) {
        Ok(json) => format!("{json:#}\n"),
        Err(_) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// This very program as the agent.
fn own(flag: &str) -> Command {
    let mut agent = Command::new(programs::own_path());
    agent.arg0("amphora-agent").arg(flag);
    agent
}

/// A line of words without quotes.
fn command(line: &str) -> Command {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).env("LC_ALL", "C");
    command
}

/// What the configuration calls a secret; nothing where it cannot be read, for then the agent has none either.
fn secrets() -> Vec<String> {
    let Ok(config) = Config::load(&Sources::new(Vec::new(), Path::new("/etc/octavia"))) else { return Vec::new() };
    let passwords = config.bgp.iter().flat_map(|bgp| &bgp.peers).filter_map(|peer| peer.peer.password.as_ref());
    let passwords = passwords.map(|password| password.reveal().to_owned());
    let key = config.heartbeat.key.as_ref().map(|key| key.reveal().to_owned());
    passwords.chain(key).filter(|secret| secret.len() >= SHORTEST).collect()
}

/// Without the secrets, and without the inside of a private key.
fn blotted(text: &str, secrets: &[String]) -> String {
    let mut text = secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "***"));
    while let Some(begin) = text.find("-----BEGIN ").filter(|at| {
        let line = text[*at..].lines().next().unwrap_or_default();
        line.contains("PRIVATE KEY")
    }) {
        let end = text[begin..].find("-----END ").map_or(text.len(), |at| begin + at);
        text.replace_range(begin..end, "(a private key) ");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_is_blotted_out_wherever_it_stands() {
        let secrets = ["canary".to_owned()];
        let text = "a canary=canary\n-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\nb\n";
        let left = blotted(text, &secrets);
        assert_eq!(left, "a ***=***\n(a private key) -----END EC PRIVATE KEY-----\nb\n");
        assert_eq!(blotted("-----BEGIN PRIVATE KEY-----\nAAAA", &[]), "(a private key) ");
    }
}
