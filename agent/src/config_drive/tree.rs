//! The files of a drive, mounted or given as a directory: `openstack/latest`, or else its newest dated version, and
//! `openstack/content`. Nothing is read by a path, no symbolic link is followed, and everything has an end.

use std::path::Path;

use super::error::DriveError;
use crate::files::{Directory, Name};

/// More than Nova takes for user data (64 KiB) and for all metadata.
const LARGEST: usize = 1 << 20; // bytes

/// A drive's files.
#[derive(Debug)]
pub(super) struct Tree {
    openstack: Directory,
    version: Directory,
    /// `openstack/latest`, for errors.
    path: String,
}

impl Tree {
    /// The drive in a directory.
    pub(super) fn open(path: &Path) -> Result<Self, DriveError> {
        let read = |source| DriveError::Read(path.display().to_string(), source);
        Self::new(&Directory::open(path).map_err(read)?.ok_or_else(|| DriveError::NoDirectory(path.to_owned()))?)
    }

    /// The drive mounted there.
    pub(super) fn new(root: &Directory) -> Result<Self, DriveError> {
        let openstack = inner(root, "", "openstack")?.ok_or_else(|| DriveError::Missing("openstack".to_owned()))?;
        if let Some(version) = inner(&openstack, "openstack/", "latest")? {
            return Ok(Self { openstack, version, path: "openstack/latest".to_owned() });
        }
        let read = |source| DriveError::Read("openstack".to_owned(), source);
        let mut versions: Vec<_> = openstack.names().map_err(read)?.into_iter().filter(is_dated).collect();
        versions.sort(); // dates sort as texts
        let missing = || DriveError::Missing("openstack/latest".to_owned());
        let newest = versions.pop().ok_or_else(missing)?;
        let version = inner(&openstack, "openstack/", newest.as_str())?.ok_or_else(missing)?;
        Ok(Self { openstack, version, path: format!("openstack/{newest}") })
    }

    /// A file of the version, if there is one.
    pub(super) fn file(&self, name: &'static str) -> Result<Option<Vec<u8>>, DriveError> {
        read(&self.version, &self.path, &plain(name)?)
    }

    /// As [`Tree::file`], which has to be there.
    pub(super) fn required(&self, name: &'static str) -> Result<Vec<u8>, DriveError> {
        self.file(name)?.ok_or_else(|| DriveError::Missing(format!("{}/{name}", self.path)))
    }

    /// A file's contents in `openstack/content`.
    pub(super) fn content(&self, name: &Name) -> Result<Vec<u8>, DriveError> {
        let missing = || DriveError::Missing(format!("openstack/content/{name}"));
        let content = inner(&self.openstack, "openstack/", "content")?.ok_or_else(missing)?;
        read(&content, "openstack/content", name)?.ok_or_else(missing)
    }
}

/// 2018-08-27 and the like.
fn is_dated(name: &Name) -> bool {
    let name = name.as_str().as_bytes();
    name.len() == 10
        && name.iter().enumerate().all(|(at, c)| if matches!(at, 4 | 7) { *c == b'-' } else { c.is_ascii_digit() })
}

fn plain(name: &str) -> Result<Name, DriveError> {
    Name::new(name).ok_or_else(|| DriveError::Missing(name.to_owned()))
}

fn inner(directory: &Directory, above: &str, name: &str) -> Result<Option<Directory>, DriveError> {
    directory.inner(&plain(name)?).map_err(|source| DriveError::Read(format!("{above}{name}"), source))
}

fn read(directory: &Directory, path: &str, name: &Name) -> Result<Option<Vec<u8>>, DriveError> {
    let file = || format!("{path}/{name}");
    let contents = directory.read_at_most(name, LARGEST + 1).map_err(|source| DriveError::Read(file(), source))?;
    match contents {
        Some(contents) if contents.len() > LARGEST => Err(DriveError::TooLong(file(), LARGEST)),
        contents => Ok(contents),
    }
}
