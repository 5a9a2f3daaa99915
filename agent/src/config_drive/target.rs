//! Where a file of the drive may go: a short list of directories, and one plain name in one of them. A path is taken apart
//! here once and never handed to the kernel as a whole, so that there is nothing to escape by.

use std::{fmt, io};

use crate::files::{Directory, Name};

/// A directory files may be written to.
#[derive(Debug, PartialEq, Eq)]
struct Allowed {
    path: &'static str,
    /// Others than root read what is in it (rsyslog runs as a user of its own).
    public: bool,
    /// For root alone, where the image does not bring it.
    closed: bool,
}

/// What Octavia's controller sends files for (`ComputeCreate` and `CertComputeCreate` in its `compute_tasks.py`), and where
/// an operator's BGP profile goes.
const ALLOWED: [Allowed; 4] = [
    Allowed { path: "/etc/octavia", public: false, closed: false },
    Allowed { path: "/etc/octavia/amphora-agent.conf.d", public: false, closed: true },
    Allowed { path: "/etc/octavia/certs", public: false, closed: true },
    Allowed { path: "/etc/rsyslog.d", public: true, closed: false },
];

/// A directory of Octavia's that is none of these, in one of them.
const INTERFACES: &str = "/etc/octavia/interfaces";

/// Why a file is not written there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Relative to what?
    #[error("{0:?} is not an absolute path")]
    Relative(String),
    /// No way up, and none round.
    #[error("{0:?}: a path with `.`, `..` or an empty part is not taken")]
    Detour(String),
    /// A name other programs would trip over.
    #[error("{0:?}: the file name may have letters, digits, `-`, `_` and `.` only, and no `.` at its start")]
    Name(String),
    /// Not one of ours.
    #[error(
        "{0:?}: only files directly in /etc/octavia, /etc/octavia/amphora-agent.conf.d, /etc/octavia/certs and \
         /etc/rsyslog.d are taken"
    )]
    Elsewhere(String),
    /// Where others put their files.
    #[error("{0:?} is a directory")]
    Directory(String),
}

/// A path the drive may write to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    directory: &'static Allowed,
    name: Name,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.directory.path, self.name)
    }
}

impl Target {
    /// The path as a target, if it is one.
    pub fn parse(path: &str) -> Result<Self, TargetError> {
        let shown = || path.chars().take(200).collect::<String>();
        let parts = path.strip_prefix('/').ok_or_else(|| TargetError::Relative(shown()))?;
        if parts.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(TargetError::Detour(shown()));
        }
        if path == INTERFACES || ALLOWED.iter().any(|allowed| allowed.path == path) {
            return Err(TargetError::Directory(shown()));
        }
        let (directory, name) = path.rsplit_once('/').ok_or_else(|| TargetError::Relative(shown()))?;
        let directory = ALLOWED.iter().find(|allowed| allowed.path == directory);
        let directory = directory.ok_or_else(|| TargetError::Elsewhere(shown()))?;
        Ok(Self { directory, name: Name::new(name).ok_or_else(|| TargetError::Name(shown()))? })
    }

    /// Whether it is what the agent starts with.
    pub(super) fn is_agent_conf(&self) -> bool {
        self.directory.path == "/etc/octavia" && self.name.as_str() == "amphora-agent.conf"
    }

    /// Its directory and its name there.
    pub(super) fn place(&self) -> (&'static str, &str) {
        (self.directory.path, self.name.as_str())
    }

    /// Puts the contents there, below the open directory `root`: 0600, or 0644 where others read it.
    pub(super) fn write(&self, root: &Directory, contents: &[u8]) -> io::Result<()> {
        let directory = descend(root, self.directory.path, self.directory.closed)?;
        if self.directory.public {
            directory.publish(&self.name, contents)
        } else {
            directory.replace(&self.name, contents)
        }
    }
}

/// Opens a directory below `root` by its absolute path, following no symbolic link and making what is missing; the last
/// one for root alone where it is to be `closed`.
pub(super) fn descend(root: &Directory, path: &'static str, closed: bool) -> io::Result<Directory> {
    let mut parts = path.split('/').skip(1).peekable();
    let mut open: Option<Directory> = None;
    while let Some(part) = parts.next() {
        let above = open.as_ref().unwrap_or(root);
        let name = plain(part)?;
        let last = parts.peek().is_none();
        open = Some(if last && closed { above.inner_or_make(&name)? } else { above.inner_or_make_open(&name)? });
    }
    open.ok_or_else(|| io::Error::other(format!("{path}: no directory")))
}

/// Whether a file can be put there: whatever there is of the directory's path are directories, and no directory has the
/// file's name. A symbolic link of that name would be replaced.
pub(super) fn is_free(root: &Directory, path: &str, file: &str) -> io::Result<bool> {
    let mut open: Option<Directory> = None;
    for part in path.split('/').skip(1) {
        let (above, name) = (open.as_ref().unwrap_or(root), plain(part)?);
        match above.inner(&name)? {
            Some(inner) => open = Some(inner),
            None => return Ok(!above.names()?.contains(&name)), // all that follows is made
        }
    }
    Ok(open.as_ref().unwrap_or(root).inner(&plain(file)?)?.is_none())
}

/// One of our own names, as a name.
pub(super) fn plain(name: &str) -> io::Result<Name> {
    Name::new(name).ok_or_else(|| io::Error::other(format!("{name}: not a plain name")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_octavia_sends_is_taken_and_nothing_else() {
        for path in [
            "/etc/octavia/amphora-agent.conf",
            "/etc/octavia/certs/server.pem",
            "/etc/octavia/certs/client_ca.pem",
            "/etc/octavia/amphora-agent.conf.d/50-bgp.conf",
            "/etc/rsyslog.d/10-rsyslog.conf",
        ] {
            assert_eq!(Target::parse(path).unwrap().to_string(), path);
        }
        for (path, why) in [
            ("etc/octavia/x", "absolute"),
            ("", "absolute"),
            ("/etc/octavia/../shadow", "`..`"),
            ("/etc/octavia/./x", "`.`"),
            ("/etc/octavia//x", "empty part"),
            ("/etc/octavia/", "empty part"),
            ("/etc/octavia/certs/a b.pem", "file name"),
            ("/etc/octavia/certs/.hidden", "file name"),
            ("/etc/octavia/certs/a\0.pem", "file name"),
            ("/etc/octavia/certs/deep/x.pem", "only files directly in"),
            ("/etc/octavia/interfaces/eth1.json", "only files directly in"),
            ("/etc/octavia/interfaces", "is a directory"),
            ("/etc/octavia/certs", "is a directory"),
            ("/etc/octavia/amphora-agent.conf.d", "is a directory"),
            ("/etc/shadow", "only files directly in"),
            ("/root/.ssh/authorized_keys", "only files directly in"),
        ] {
            let refused = Target::parse(path).unwrap_err().to_string();
            assert!(refused.contains(why), "{path:?}: {refused}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_taken_is_one_name_below_a_listed_directory(path in "(/etc/octavia|/etc/rsyslog.d|[a-z/.]{0,9})(/[a-z.\\x00/~]{0,9}){0,3}") {
            if let Ok(target) = Target::parse(&path) {
                prop_assert_eq!(target.to_string(), path.clone());
                prop_assert!(ALLOWED.iter().any(|a| path.strip_prefix(a.path).and_then(|rest| rest.strip_prefix('/'))
                    .is_some_and(|name| !name.contains(['/', '\0']) && !name.starts_with('.'))));
            }
        }
    }
}
