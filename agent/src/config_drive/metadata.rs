//! `meta_data.json` as Nova writes it (`nova/api/metadata/base.py`): which instance this is, its name, and where on the drive
//! its files are. What else is in it (a password, keys, a seed) is not looked at.

use serde::{Deserialize, de::IgnoredAny};

use super::{error::DriveError, target::Target};
use crate::files::Name;

/// The file's name in errors.
const FILE: &str = "meta_data.json";

#[derive(Debug, Deserialize)]
struct Raw {
    hostname: Option<String>,
    #[serde(default)]
    files: Vec<RawFile>,
    public_keys: Option<IgnoredAny>,
}

/// What a machine to which the drive was applied looks at.
#[derive(Debug, Deserialize)]
struct Identity {
    uuid: String,
}

#[derive(Debug, Deserialize)]
struct RawFile {
    path: String,
    content_path: String,
}

/// What of it is used.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Metadata {
    /// Nova's id of the instance: another one means another machine.
    pub(super) instance: String,
    /// The first label of its name.
    pub(super) host_name: Option<String>,
    /// Each file's place, and its name in `openstack/content`.
    pub(super) files: Vec<(Target, Name)>,
    /// What is in it and not used, for the journal.
    pub(super) notes: Vec<String>,
}

/// Whose drive it is, whatever else is in it.
pub(super) fn instance(json: &[u8]) -> Result<String, DriveError> {
    let Identity { uuid } = read(json)?;
    let is_id = (1..=64).contains(&uuid.len()) && uuid.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
    if is_id { Ok(uuid) } else { Err(wrong("uuid".to_owned(), "not an instance id: 1 to 64 letters, digits and `-`")) }
}

/// Reads it.
pub(super) fn parse(json: &[u8]) -> Result<Metadata, DriveError> {
    let instance = instance(json)?;
    let raw: Raw = read(json)?;
    let host_name = match raw.hostname {
        None => None,
        Some(name) => Some(label(&name).ok_or_else(|| {
            wrong("hostname".to_owned(), "its first part must be 1 to 63 letters, digits and `-`, no `-` at its ends")
        })?),
    };
    let mut files = Vec::new();
    for (number, file) in raw.files.iter().enumerate() {
        let target = Target::parse(&file.path)
            .map_err(|problem| DriveError::Target(FILE, format!("files[{number}].path"), problem))?;
        let content = file.content_path.strip_prefix("/content/").and_then(Name::new).ok_or_else(|| {
            wrong(format!("files[{number}].content_path"), "not /content/ and a plain name, as Nova writes it")
        })?;
        files.push((target, content));
    }
    // Nova's keypair (`[controller_worker] amp_ssh_key_name`).
    let unused = raw.public_keys.map(|_| "meta_data.json has public_keys: not used".to_owned());
    Ok(Metadata { instance, host_name, files, notes: unused.into_iter().collect() })
}

fn read<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, DriveError> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    serde_path_to_error::deserialize(&mut reader).map_err(|at| DriveError::Json(FILE, at))
}

fn wrong(field: String, problem: &'static str) -> DriveError {
    DriveError::Field(FILE, field, problem)
}

/// The host name in what may be a domain name (Nova adds its `dhcp_domain`): a label of RFC 1123, section 2.1.
fn label(name: &str) -> Option<String> {
    let label = name.split('.').next()?;
    let plain = (1..=63).contains(&label.len()) && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
    (plain && !label.starts_with('-') && !label.ends_with('-')).then(|| label.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_and_what_is_wrong() {
        let json = br#"{"uuid": "8d0c-1", "hostname": "amphora-1.novalocal", "admin_pass": "secret", "launch_index": 0,
            "files": [{"path": "/etc/octavia/certs/server.pem", "content_path": "/content/0001"}]}"#;
        let metadata = parse(json).unwrap();
        assert_eq!((metadata.instance.as_str(), metadata.host_name.as_deref()), ("8d0c-1", Some("amphora-1")));
        assert_eq!(metadata.files[0].1.as_str(), "0001");
        assert_eq!(metadata.notes, Vec::<String>::new());
        let keys = br#"{"uuid": "a", "public_keys": {"operator": "ssh-ed25519 AAAA"}}"#;
        assert_eq!(parse(keys).unwrap().notes, ["meta_data.json has public_keys: not used"]);
        assert_eq!(instance(br#"{"uuid": "a", "hostname": 7, "files": {}}"#).unwrap(), "a");
        for (json, problem) in [
            (r"{}", "missing field `uuid`"),
            (r#"{"uuid": "../x"}"#, "uuid: not an instance id"),
            (r#"{"uuid": ""}"#, "uuid: not an instance id"),
            (r#"{"uuid": "a", "hostname": "-x"}"#, "hostname: its first part"),
            (r#"{"uuid": "a", "hostname": ""}"#, "hostname: its first part"),
            (r#"{"uuid": "a", "files": [{"path": "/etc/octavia/x"}]}"#, "files[0]: missing field `content_path`"),
            (
                r#"{"uuid": "a", "files": [{"path": "/etc/octavia/x", "content_path": "/content/../x"}]}"#,
                "files[0].con",
            ),
            (r#"{"uuid": "a", "files": [{"path": "/etc/shadow", "content_path": "/content/0000"}]}"#, "only files dir"),
            (r#"{"uuid": "a", "files""#, "EOF"),
        ] {
            let error = parse(json.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("meta_data.json: ") && error.contains(problem), "{json}: {error}");
        }
    }
}
