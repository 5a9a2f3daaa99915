//! `user_data`: a cloud-config as Octavia renders it (`user_data_config_drive.template`), where the deprecated
//! `user_data_config_drive` option has it carry the files themselves.
//!
//! Of cloud-init's modules `write_files` and `timezone` are done here. `runcmd` is never run: what Octavia has in it restarts
//! services that start after this program anyway.

use super::{
    error::DriveError,
    target::Target,
    yaml::{self, Value},
};

/// The file's name in errors.
const FILE: &str = "user_data";

/// What of it is used.
#[derive(Default, PartialEq, Eq)]
pub(super) struct CloudConfig {
    /// `write_files`.
    pub(super) files: Vec<(Target, Vec<u8>)>,
    /// A name below /usr/share/zoneinfo.
    pub(super) timezone: Option<String>,
    /// What is in it and not done, for the journal.
    pub(super) notes: Vec<String>,
}

/// Reads it.
pub(super) fn parse(user_data: &[u8]) -> Result<CloudConfig, DriveError> {
    let mut config = CloudConfig::default();
    if user_data.trim_ascii().is_empty() {
        return Ok(config);
    }
    // As a word: `#cloud-config-archive` and `#cloud-config-jsonp` are other formats.
    let rest = user_data.strip_prefix(b"#cloud-config".as_slice());
    if !rest.is_some_and(|rest| rest.first().is_none_or(u8::is_ascii_whitespace)) {
        config.notes.push("user_data does not begin with #cloud-config: not used".to_owned());
        return Ok(config);
    }
    let text = std::str::from_utf8(user_data).map_err(|_| DriveError::NotText(FILE))?;
    let top = match yaml::parse(text, |key| matches!(key, "write_files" | "timezone"))? {
        Value::Empty => return Ok(config),
        Value::Map(top) => top,
        _ => return Err(wrong("the document", "not a mapping")),
    };
    for (key, value) in top {
        match key.as_str() {
            "write_files" => config.files = files(value)?,
            "timezone" => config.timezone = timezone(value)?,
            "runcmd" => config.notes.extend(commands(&value)),
            // Not the key itself: what is damaged may have a line of a private key there.
            _ => config
                .notes
                .push("user_data has a key other than write_files, runcmd and timezone: not used".to_owned()),
        }
    }
    Ok(config)
}

fn wrong(field: impl Into<String>, problem: &'static str) -> DriveError {
    DriveError::Field(FILE, field.into(), problem)
}

fn files(value: Value) -> Result<Vec<(Target, Vec<u8>)>, DriveError> {
    let entries = match value {
        Value::Empty => return Ok(Vec::new()),
        Value::List(entries) => entries,
        _ => return Err(wrong("write_files", "not a list")),
    };
    let file = |(number, entry)| file(entry, &format!("write_files[{number}]"));
    entries.into_iter().enumerate().map(file).collect()
}

/// One entry. Owner and mode are not the drive's to choose, and `defer` means nothing here.
fn file(entry: Value, at: &str) -> Result<(Target, Vec<u8>), DriveError> {
    let Value::Map(entry) = entry else { return Err(wrong(at, "not a mapping")) };
    let (mut target, mut content) = (None, None);
    for (key, value) in entry {
        let text = match value {
            Value::Empty => continue,
            Value::Text(text) => text,
            _ => return Err(wrong(format!("{at}.{key}"), "not a text")),
        };
        match key.as_str() {
            "path" => {
                let refused = |problem| DriveError::Target(FILE, format!("{at}.path"), problem);
                target = Some(Target::parse(&text).map_err(refused)?);
            }
            "content" => content = Some(text),
            "encoding" if text != "text/plain" => {
                return Err(wrong(format!("{at}.encoding"), "only text/plain is taken; write the content as it is"));
            }
            "encoding" | "owner" | "permissions" | "defer" => {}
            "append" if matches!(text.as_str(), "false" | "False") => {}
            "append" => return Err(wrong(format!("{at}.append"), "a file is replaced, never appended to")),
            _ => {
                return Err(wrong(
                    at,
                    "a key other than path, content, encoding, owner, permissions, append and defer",
                ));
            }
        }
    }
    let target = target.ok_or_else(|| wrong(format!("{at}.path"), "missing"))?;
    let content = content.ok_or_else(|| wrong(format!("{at}.content"), "missing; an empty file is ''"))?;
    Ok((target, content.into_bytes()))
}

fn timezone(value: Value) -> Result<Option<String>, DriveError> {
    let name = match value {
        Value::Empty => return Ok(None),
        Value::Text(name) => name,
        _ => return Err(wrong("timezone", "not a text")),
    };
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'+');
    let parts = name.split('/').all(|part| !part.is_empty() && part.bytes().all(plain));
    if name.len() <= 64 && parts { Ok(Some(name)) } else { Err(wrong("timezone", "not a name such as Europe/Vienna")) }
}

/// What of the commands is worth a note. Octavia's own are needless here: rsyslog and the agent start when this is done.
fn commands(value: &Value) -> Option<String> {
    const NEEDLESS: [&str; 3] = ["", "systemctl restart rsyslog", "service amphora-agent restart"];
    let Value::Unread(lines) = value else { return None };
    let command = |line: &String| line.strip_prefix('-').unwrap_or(line).trim_ascii().to_owned();
    let others = lines.iter().filter(|line| !line.starts_with('#')).map(command);
    let others = others.filter(|command| !NEEDLESS.contains(&command.as_str())).count();
    (others > 0).then(|| "user_data has other commands than Octavia's in runcmd: not run".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `UserDataJinjaCfg.build_user_data_config({})` of octavia 19.0.0 returns: the default.
    const DEFAULT: &str = "#cloud-config\n# vim: syntax=yaml\n#\n# Example:\n#     {'/root/path/to/file.cfg': 'I'm a file, \
        write things in me'}\n\nruncmd:\n-   systemctl restart rsyslog\n\n\ntimezone: UTC";

    fn problem(user_data: &str) -> String {
        parse(user_data.as_bytes()).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn octavias_default_sets_the_time_zone() {
        let config = parse(DEFAULT.as_bytes()).unwrap();
        assert_eq!((config.files.len(), config.timezone.as_deref(), config.notes.len()), (0, Some("UTC"), 0));
        assert!(parse(b"").unwrap() == CloudConfig::default());
        for other in ["#!/bin/sh\nrm -rf /", "#cloud-config-archive\n- [x]\n", "#cloud-config-jsonp\n- {}\n"] {
            assert!(parse(other.as_bytes()).unwrap().notes[0].contains("does not begin with #cloud-config: not used"));
        }
        let unused = "#cloud-config\r\nruncmd:\n- reboot\npackages: [x]\nssh_authorized_keys: [a]\ntimezone: UTC\n";
        let config = parse(unused.as_bytes()).unwrap();
        let notes = &config.notes;
        assert!(notes[0].contains("runcmd: not run") && notes[1].contains("a key other"), "{notes:?}");
        assert_eq!(config.timezone.as_deref(), Some("UTC"));
    }

    #[test]
    fn the_deprecated_mode_carries_files() {
        let user_data = "#cloud-config\nwrite_files:\n-   path: /etc/octavia/certs/server.pem\n    content: |\n        hello\n\n\
             -   path: /etc/rsyslog.d/a.conf\n    encoding: text/plain\n    permissions: '0777'\n    content: ''\n\
             runcmd:\n-   systemctl restart rsyslog\n-   service amphora-agent restart\n\ntimezone: UTC";
        let config = parse(user_data.as_bytes()).unwrap();
        let contents: Vec<_> = config.files.iter().map(|(_, contents)| contents.as_slice()).collect();
        assert_eq!(contents, [b"hello\n".as_slice(), b""]);
        assert_eq!(config.notes, Vec::<String>::new());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let entry = |rest: &str| problem(&format!("#cloud-config\nwrite_files:\n- path: /etc/octavia/x\n{rest}"));
        assert!(entry("  content: aGVs\n  encoding: b64\n").contains("write_files[0].encoding: only text/plain"));
        assert!(entry("").contains("write_files[0].content: missing"));
        assert!(entry("  content:\n").contains("write_files[0].content: missing"));
        assert!(entry("  append: true\n").contains("replaced"));
        assert!(entry("  source:\n    uri: x\n").contains("not a text"));
        assert!(entry("  weird: x\n").contains("a key other than path"));
        assert!(problem("#cloud-config\nwrite_files:\n- content: x\n").contains("write_files[0].path: missing"));
        assert!(problem("#cloud-config\nwrite_files:\n- path: /etc/passwd\n").contains("only files directly"));
        assert!(problem("#cloud-config\nwrite_files: x\n").contains("not a list"));
        assert!(problem("#cloud-config\n- x\n").contains("not a mapping"));
        assert!(problem("#cloud-config\ntimezone: ../../etc/passwd\n").contains("timezone: not a name"));
        assert!(problem("#cloud-config\ntimezone: /x\n").contains("timezone: not a name"));
    }
}
