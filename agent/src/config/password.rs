//! A peer's TCP MD5 password, written in its section or in a file beside.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use ::bgp::Md5Password;

use super::{reader::Reader, sources::read_bounded};

/// The password, and the file it came from.
pub(super) type Authentication = (Option<Md5Password>, Option<PathBuf>);

/// Never weakened: a password that cannot be had is a problem, not a session without one.
pub(super) fn password(reader: &mut Reader<'_>, section: &str) -> Option<Authentication> {
    let before = reader.problems.len();
    let (inline, file) = (reader.written(section, "auth_password"), reader.written(section, "auth_password_file"));
    let md5 = reader.choice(section, "auth_type", &[("md5", ())]).is_some();
    match (reader.written(section, "auth_type"), inline, file) {
        (false, false, false) => return Some((None, None)),
        (false, ..) => {
            reader.problem(section, "auth_type", "is required with a password; set auth_type = md5".to_owned());
        }
        (true, false, false) if md5 => {
            let text = "needs a password; set auth_password_file (or auth_password)".to_owned();
            reader.problem(section, "auth_type", text);
        }
        (true, true, true) => {
            reader.problem(section, "auth_password", "excludes auth_password_file; remove one of the two".to_owned());
        }
        _ => {}
    }
    let password = if inline { reader.read(section, "auth_password", str::parse::<Md5Password>) } else { None };
    let path = reader.path(section, "auth_password_file");
    let from_file = path.as_deref().and_then(|path| password_file(reader, section, path));
    (reader.problems.len() == before).then_some((password.or(from_file), path))
}

fn password_file(reader: &mut Reader<'_>, section: &str, path: &Path) -> Option<Md5Password> {
    const KEY: &str = "auth_password_file";
    let shown = path.display();
    let mut refuse = |text: String| reader.problem(section, KEY, format!("{shown}: {text}"));
    if !path.is_absolute() {
        refuse("is a relative path; write an absolute one".to_owned());
        return None;
    }
    let bytes = match read_bounded(path, 4096) {
        Ok(bytes) => bytes,
        Err(error) => {
            refuse(format!("cannot be read: {error}"));
            return None;
        }
    };
    let text = String::from_utf8(bytes).unwrap_or_else(|_| "\u{fffd}".to_owned()); // refused as not ASCII
    let line = text.strip_suffix('\n').map_or(&*text, |line| line.strip_suffix('\r').unwrap_or(line));
    let password = line.parse::<Md5Password>().map_err(|error| refuse(error.to_string())).ok()?;
    if fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o004 != 0) {
        reader.warn(section, KEY, format!("{shown} is readable by everybody; chmod o-r it"));
    }
    Some(password)
}
