//! `support-bundle`: all that helps to find a fault, in one file that may be sent to somebody else.
//!
//! What goes in is named here, file by file; nothing is swept up from a directory. No secret is meant to be in any of it,
//! and what the configuration calls one is blotted out all the same, also where it is not usable as a configuration.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::{ffi::OsStrExt as _, fs::OpenOptionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use hyper::Method;
use netns::Namespace;
use serde_json::Value;

use super::{Failed, client::Client, complain, show::cell, tar::Archive};
use crate::{
    child::{self, Keep},
    clock,
    config::{Flag, Sources, secrets},
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
const JOURNAL: &str =
    "journalctl --no-pager --output short-iso --lines 1000 --unit amphora-* --unit gobgpd --unit prometheus-proxy";
/// Where gobgpd writes where no systemd runs it.
const SPEAKER_LOG: &str = "tail -n 500 /var/log/gobgpd.log";

/// For one program.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of what one program says, in bytes: ten times what a thousand long lines are.
const KEPT: u64 = 4 << 20;
/// All files are in it: short, and the same in every bundle, so that every name has room.
const FOLDER: &str = "amphora-support";
/// A shorter secret is not looked for: it is in every other word.
const SHORTEST: usize = 4;

/// Writes the bundle; whether something is missing from it.
pub(super) fn write(client: &Client, file: Option<PathBuf>) -> Result<bool, Failed> {
    let now = clock::now();
    let host = nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned();
    let time: String = clock::rfc3339(now).chars().filter(char::is_ascii_digit).collect();
    let file = file.unwrap_or_else(|| format!("{FOLDER}-{host}-{time}.tar.gz").into());
    let unwritten = |error| Failed::Bundle { file: file.clone(), error };
    // First, so that nobody waits for what cannot be stored.
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file).map_err(unwritten)?;

    let flags = client.agent().map(|pid| flags_of(&Path::new("/proc").join(pid.to_string()))).unwrap_or_default();
    let mut bundle = Bundle {
        archive: Archive::default(),
        now,
        secrets: looked_for(secrets(&Sources::new(flags.clone(), Path::new("/etc/octavia")))),
        missing: Vec::new(),
    };
    let all = Keep::First(KEPT);
    bundle.agent(client);
    bundle.program("configuration.ini", &mut own("--print-effective-config", &flags), None, all);
    bundle.program("configuration-check.txt", &mut own("--check-config", &flags), None, all);
    for (name, line) in MACHINE {
        bundle.program(name, &mut command(line), None, all);
    }
    for (name, line) in KERNEL {
        bundle.program(&format!("outside/{name}"), &mut command(line), None, all);
    }
    match Namespace::find(NAMESPACE) {
        Ok(Some(inside)) => {
            for (name, line) in KERNEL {
                bundle.program(&format!("{NAMESPACE}/{name}"), &mut command(line), Some(&inside), all);
            }
        }
        Ok(None) => bundle.missing.push(format!("there is no namespace {NAMESPACE}")),
        Err(error) => bundle.missing.push(format!("namespace {NAMESPACE}: {error}")),
    }
    if Path::new("/run/systemd/journal").exists() {
        bundle.program("journal.txt", &mut command(JOURNAL), None, Keep::Last(KEPT));
    }
    if Path::new("/var/log/gobgpd.log").exists() {
        bundle.program("gobgpd.log", &mut command(SPEAKER_LOG), None, Keep::Last(KEPT));
    }
    let (bytes, missing) = bundle.end();
    out.write_all(&bytes).and_then(|()| out.sync_all()).map_err(unwritten)?;
    for what in &missing {
        complain(format_args!("missing from the bundle: {what}"));
    }
    super::print(format!("{}\n", file.display()).as_bytes())?; // it is there, whoever reads that
    Ok(!missing.is_empty())
}

struct Bundle {
    archive: Archive,
    now: u64,
    secrets: Vec<String>,
    missing: Vec<String>,
}

impl Bundle {
    fn add(&mut self, name: &str, text: &str) {
        let text = blotted(text, &self.secrets);
        if let Err(error) = self.archive.add(&format!("{FOLDER}/{name}"), text.as_bytes(), self.now) {
            self.missing.push(format!("{name}: {error}"));
        }
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
    fn program(&mut self, name: &str, command: &mut Command, inside: Option<&Namespace>, keep: Keep) {
        match child::run_keeping(keep, command, inside, b"", PATIENCE) {
            Ok(child::Ended { status, text, left_out }) => {
                if left_out > 0 {
                    let which = if matches!(keep, Keep::Last(_)) { "first" } else { "last" };
                    self.missing.push(format!("{name}: its {which} {left_out} bytes"));
                }
                self.add(name, &if status.success() { text } else { format!("{text}\n({status})\n") });
            }
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

/// This very program as the agent, on the same files.
fn own(task: &str, flags: &[Flag]) -> Command {
    let mut agent = Command::new(programs::own_path());
    agent.arg0("amphora-agent").arg(task);
    for flag in flags {
        match flag {
            Flag::File(path) => agent.arg("--config-file").arg(path),
            Flag::Directory(path) => agent.arg("--config-dir").arg(path),
        };
    }
    agent
}

/// The files that a running agent was told to read, by its directory below /proc. None where it was told of none, or is not
/// in our sight: then they are the default ones.
fn flags_of(process: &Path) -> Vec<Flag> {
    let line = fs::read(process.join("cmdline")).unwrap_or_default();
    let at = fs::read_link(process.join("cwd")).unwrap_or_default();
    let mut words = line.split(|byte| *byte == 0).skip(1).map(|word| OsStr::from_bytes(word).to_owned());
    let mut flags = Vec::new();
    while let Some(word) = words.next() {
        let (name, value) = match word.as_bytes().iter().position(|byte| *byte == b'=') {
            Some(end) => (&word.as_bytes()[..end], Some(OsStr::from_bytes(&word.as_bytes()[end + 1..]).to_owned())),
            None => (word.as_bytes(), None),
        };
        let mut path = || value.clone().or_else(|| words.next()).map(|value: OsString| at.join(value));
        match name {
            b"--config-file" => flags.extend(path().map(Flag::File)),
            b"--config-dir" => flags.extend(path().map(Flag::Directory)),
            _ => {}
        }
    }
    flags
}

/// A line of words without quotes.
fn command(line: &str) -> Command {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).env("LC_ALL", "C");
    command
}

/// In each form that they have in a text: as they are, and as a string of JSON's. Too short a one is in every other word.
fn looked_for(secrets: Vec<String>) -> Vec<String> {
    let long = secrets.into_iter().filter(|secret| secret.len() >= SHORTEST);
    long.flat_map(|secret| {
        let json = Value::from(secret.as_str()).to_string();
        let json = json.trim_start_matches('"').strip_suffix('"').unwrap_or_default().to_owned();
        if json == secret { vec![secret] } else { vec![json, secret] }
    })
    .collect()
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

    #[test]
    fn a_secret_is_blotted_out_in_json_too_and_when_the_configuration_is_broken() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.conf");
        let text = "[health_manager]\nheartbeat_key = ca\\na\"ry\n[distributor]\nvip_mode = sideways\n";
        fs::write(&file, text).unwrap();
        let sources = Sources::new(vec![Flag::File(file)], directory.path());
        let json = serde_json::json!({ "log": "key ca\\na\"ry." }).to_string();
        let left = blotted(&format!("{text}{json}"), &looked_for(secrets(&sources)));
        assert!(left.contains("heartbeat_key = ***\n") && left.ends_with(r#"{"log":"key ***."}"#), "{left}");
        assert_eq!(looked_for(vec!["abc".to_owned(), "\"abc".to_owned()]), ["\\\"abc", "\"abc"]);
    }

    #[test]
    fn the_files_are_those_of_the_agent_that_runs() {
        let directory = tempfile::tempdir().unwrap();
        let line = b"amphora-agent\0--config-file\0/a\0--check\0--config-dir=d\0--config-file\0";
        fs::write(directory.path().join("cmdline"), line).unwrap();
        std::os::unix::fs::symlink("/at", directory.path().join("cwd")).unwrap();
        let flags = [Flag::File("/a".into()), Flag::Directory("/at/d".into())];
        assert_eq!(flags_of(directory.path())[..2], flags);
        assert_eq!(flags_of(Path::new("/no/such")), []);
    }
}
