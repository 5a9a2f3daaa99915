//! Namespaces with a name, in the places and by the protocol of `ip netns`, so that either finds what the other made.
//!
//! A name is an nsfs bind mount at `/run/netns/NAME`. The directory is itself a *shared* mount, without which a
//! service already running in a mount namespace of its own would never see a name made later. The reverse cannot be
//! had: what a process makes whose mounts are slaves (systemd's `ProtectSystem=` and its kin) stays its own. In the
//! image the namespace is therefore made by a unit without a sandbox, ordered before its users.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::OFlag,
    mount::{MntFlags, MsFlags, mount, umount2},
};

use crate::{
    Error, Kind, Namespace, Result,
    namespace::{in_a_new_one, is_nsfs},
};

const DIRECTORY: &str = "/run/netns";
const NONE: Option<&str> = None;

impl Namespace {
    /// Makes the namespace `name`, or finds it: an existing one is no error. Nothing in it is brought up, `lo` neither.
    ///
    /// Can be cut off anywhere and called again: the empty file of a creation that came no further is completed.
    /// Any other file in that place is [`Kind::Exists`].
    pub fn create(name: &str) -> Result<Self> {
        let path = path_of("create namespace", name)?;
        let fail = |e| Error::io("create namespace", name, e);
        fs::DirBuilder::new().recursive(true).mode(0o755).create(DIRECTORY).map_err(fail)?;
        let _one_at_a_time = lock().map_err(fail)?;
        if let Some(existing) = mounted(&path, name).map_err(fail)? {
            return Self::from_file(existing, name);
        }
        share().map_err(|e| fail(e.into()))?;
        place(&path).map_err(fail)?;
        in_a_new_one(|| mount(Some("/proc/thread-self/ns/net"), &path, NONE, MsFlags::MS_BIND, NONE)).map_err(fail)?;
        match mounted(&path, name).map_err(fail)? {
            Some(made) => Self::from_file(made, name),
            None => Err(Error::new("create namespace", name, Kind::Missing)),
        }
    }

    /// The namespace `name`, if there is one.
    pub fn find(name: &str) -> Result<Option<Self>> {
        let path = path_of("find namespace", name)?;
        let found = mounted(&path, name).map_err(|e| Error::io("find namespace", name, e))?;
        found.map(|file| Self::from_file(file, name)).transpose()
    }

    /// Takes the name away; none of that name is no error. The namespace itself, its links and its processes live on
    /// while anything holds it open; after that a physical link falls back to the first namespace.
    pub fn delete(name: &str) -> Result<()> {
        let path = path_of("delete namespace", name)?;
        let fail = |e| Error::io("delete namespace", name, e);
        let _one_at_a_time = match lock() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(fail)?,
        };
        while mounted(&path, name).map_err(fail)?.is_some() {
            umount2(&path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).map_err(|e| fail(e.into()))?;
        }
        match fs::symlink_metadata(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(fail(e)),
            Ok(about) if about.is_file() && about.len() == 0 => fs::remove_file(&path).map_err(fail),
            Ok(_) => Err(Error::new("delete namespace", name, Kind::NotOurs)),
        }
    }
}

fn path_of(operation: &'static str, name: &str) -> Result<PathBuf> {
    if name.is_empty() || name.len() > 255 || matches!(name, "." | "..") || name.contains(['/', '\0']) {
        return Err(Error::new(operation, format!("{name:?}"), Kind::Invalid("a name is one part of a path")));
    }
    Ok(Path::new(DIRECTORY).join(name))
}

/// Waits for whoever is making or deleting a name, another process or an `ip netns` among them: both lock the directory.
fn lock() -> io::Result<File> {
    let directory = OpenOptions::new().read(true).custom_flags(OFlag::O_DIRECTORY.bits()).open(DIRECTORY)?;
    directory.lock()?;
    Ok(directory)
}

/// The namespace mounted at `path`. The empty file before the mount, or anything else, is none.
fn mounted(path: &Path, name: &str) -> io::Result<Option<File>> {
    // A FIFO or a link in this place must neither block us nor lead us elsewhere.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    match OpenOptions::new().read(true).custom_flags(flags.bits()).open(path) {
        Ok(file) => Ok(is_nsfs(&file)?.then_some(file)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => {
            tracing::debug!(name, error = %e, "the place of a namespace cannot be opened");
            if e.raw_os_error() == Some(Errno::ELOOP as i32) { Ok(None) } else { Err(e) }
        }
    }
}

/// Makes the directory a mount point of its own and shared, which it stays.
fn share() -> nix::Result<()> {
    let shared = || mount(NONE, DIRECTORY, NONE, MsFlags::MS_SHARED | MsFlags::MS_REC, NONE);
    match shared() {
        // Not a mount point yet.
        Err(Errno::EINVAL) => {
            mount(Some(DIRECTORY), DIRECTORY, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)?;
            shared()
        }
        other => other,
    }
}

/// The empty file to mount on. One that is there already was left by a creation that was cut off.
fn place(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o000).open(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            let about = fs::symlink_metadata(path)?;
            if about.is_file() && about.len() == 0 { Ok(()) } else { Err(e) }
        }
        other => other.map(drop),
    }
}
