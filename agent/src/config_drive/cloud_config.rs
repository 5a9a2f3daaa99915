//! `user_data`: a cloud-config as Octavia renders it (`user_data_config_drive.template`), where the deprecated
//! `user_data_config_drive` option has it carry the files themselves.
//!
//! Of cloud-init's modules `write_files` and `timezone` are done here. `runcmd` is never run: what Octavia has in it restarts
//! services that start after this program anyway.

use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::{
    error::DriveError,
    target::Target,
    yaml::{self, Value},
};

/// The file's name in errors.
const FILE: &str = "user_data";
/// What a compressed file may grow to.
const LARGEST: usize = 1 << 20; // bytes

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
    if !user_data.starts_with(b"#cloud-config") {
        config.notes.push("user_data does not begin with #cloud-config: not used".to_owned());
        return Ok(config);
    }
    let text = std::str::from_utf8(user_data).map_err(|_| DriveError::NotText(FILE))?;
    let top = match yaml::parse(text)? {
        Value::Empty => return Ok(config),
        Value::Map(top) => top,
        _ => return Err(wrong("the document", "not a mapping")),
    };
    for (key, value) in top {
        match key.as_str() {
            "write_files" => config.files = files(value)?,
            "timezone" => config.timezone = timezone(value)?,
            "runcmd" => note_commands(&value, &mut config.notes),
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
    let (mut target, mut content, mut encoding) = (None, String::new(), String::new());
    for (key, value) in entry {
        let text = match value {
            Value::Empty => String::new(),
            Value::Text(text) => text,
            _ => return Err(wrong(format!("{at}.{key}"), "not a text")),
        };
        match key.as_str() {
            "path" => {
                let refused = |problem| DriveError::Target(FILE, format!("{at}.path"), problem);
                target = Some(Target::parse(&text).map_err(refused)?);
            }
            "content" => content = text,
            "encoding" => encoding = text,
            "owner" | "permissions" | "defer" => {}
            "append" if matches!(text.as_str(), "" | "false" | "False") => {}
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
    let contents = decode(content, &encoding).map_err(|problem| wrong(format!("{at}.content"), problem))?;
    Ok((target, contents))
}

/// The encodings of cloud-init (`canonicalize_extraction` in its `cc_write_files.py`). Bytes by a YAML tag are not taken, so
/// what is compressed is in base64 as well.
fn decode(content: String, encoding: &str) -> Result<Vec<u8>, &'static str> {
    let encoding = encoding.to_ascii_lowercase();
    match encoding.as_str() {
        "" | "text/plain" => Ok(content.into_bytes()),
        "b64" | "base64" => unbase64(&content),
        "gz+base64" | "gzip+base64" | "gz+b64" | "gzip+b64" => gunzip(&unbase64(&content)?),
        _ => Err("an encoding other than base64, gzip+base64 and text/plain"),
    }
}

fn unbase64(content: &str) -> Result<Vec<u8>, &'static str> {
    let packed: Vec<u8> = content.bytes().filter(|c| !c.is_ascii_whitespace()).collect();
    BASE64_STANDARD.decode(packed).map_err(|_| "not base64")
}

/// A file of gzip with one member (RFC 1952).
fn gunzip(bytes: &[u8]) -> Result<Vec<u8>, &'static str> {
    const BROKEN: &str = "not gzip, or damaged";
    let (header, mut rest) = bytes.split_at_checked(10).ok_or(BROKEN)?;
    let [0x1f, 0x8b, 8, flags, ..] = header else { return Err(BROKEN) };
    if flags & 0b1110_0000 != 0 {
        return Err(BROKEN); // reserved
    }
    if flags & 4 != 0 {
        let (length, after) = rest.split_first_chunk().ok_or(BROKEN)?;
        rest = after.get(usize::from(u16::from_le_bytes(*length))..).ok_or(BROKEN)?;
    }
    for text in [8, 16] {
        if flags & text != 0 {
            let end = rest.iter().position(|c| *c == 0).ok_or(BROKEN)?;
            rest = &rest[end + 1..];
        }
    }
    if flags & 2 != 0 {
        rest = rest.get(2..).ok_or(BROKEN)?;
    }
    let (packed, trailer) = rest.split_last_chunk::<8>().ok_or(BROKEN)?;
    let contents = miniz_oxide::inflate::decompress_to_vec_with_limit(packed, LARGEST)
        .map_err(|_| "not gzip, damaged, or longer than 1 MiB")?;
    let length = u32::try_from(contents.len()).map_err(|_| BROKEN)?.to_le_bytes();
    let sum = crc32fast::hash(&contents).to_le_bytes();
    if trailer[..4] == sum && trailer[4..] == length { Ok(contents) } else { Err(BROKEN) }
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

/// Octavia's own are needless here: rsyslog and the agent start when this is done.
fn note_commands(value: &Value, notes: &mut Vec<String>) {
    const NEEDLESS: [&str; 2] = ["systemctl restart rsyslog", "service amphora-agent restart"];
    let commands = if let Value::List(commands) = value { commands.as_slice() } else { &[] };
    let needless = |command: &&Value| matches!(command, Value::Text(text) if NEEDLESS.contains(&text.as_str()));
    let others = commands.iter().filter(|command| !needless(command)).count();
    if others > 0 {
        notes.push(format!("user_data has {others} commands in runcmd: not run"));
    }
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
        assert!(parse(b"#!/bin/sh\nrm -rf /").unwrap().notes[0].contains("not used"));
        let notes = parse(b"#cloud-config\nruncmd:\n- reboot\npackages:\n- x\n").unwrap().notes;
        assert!(notes[0].contains("1 commands in runcmd: not run") && notes[1].contains("a key other"), "{notes:?}");
    }

    #[test]
    fn the_deprecated_mode_carries_files_in_every_encoding() {
        // gzip.compress(b"hello\n", mtime=0) of Python, with and without a name in its header.
        let gz = "H4sIAAAAAAAC/8tIzcnJ5wIAIDA6NgYAAAA=";
        let user_data = format!(
            "#cloud-config\nwrite_files:\n-   path: /etc/octavia/certs/server.pem\n    content: |\n        hello\n\n\
             -   path: /etc/rsyslog.d/a.conf\n    encoding: b64\n    permissions: '0777'\n    content: aGVs\n\
             -   path: /etc/rsyslog.d/b.conf\n    encoding: gzip+base64\n    content: |\n      {}\n      {}\n\
             runcmd:\n-   systemctl restart rsyslog\n-   service amphora-agent restart\n",
            &gz[..20],
            &gz[20..]
        );
        let config = parse(user_data.as_bytes()).unwrap();
        let contents: Vec<_> = config.files.iter().map(|(_, contents)| contents.as_slice()).collect();
        assert_eq!(contents, [b"hello\n".as_slice(), b"hel", b"hello\n"]);
        assert_eq!(config.notes, Vec::<String>::new());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let entry = |rest: &str| problem(&format!("#cloud-config\nwrite_files:\n- path: /etc/octavia/x\n{rest}"));
        assert!(
            entry("  encoding: gz\n").contains("write_files[0].content: an encoding"),
            "{}",
            entry("  encoding: gz\n")
        );
        assert!(entry("  encoding: b64\n  content: '!'\n").contains("not base64"));
        assert!(entry("  encoding: gz+b64\n  content: aGVsbG8=\n").contains("not gzip"));
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
