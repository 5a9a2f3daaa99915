//! Files that others read while we write: replaced whole and durably, never rewritten, and never outside
//! their directory.
//!
//! Every access is relative to an open directory and by a [`Name`], which is one path component whatever a
//! client sent, and no symbolic link is followed. There is no path to escape by.

use std::{
    fmt,
    fs::{DirBuilder, File, Permissions},
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    },
    path::Path,
    sync::{Mutex, PoisonError},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, openat, renameat},
    sys::stat::{Mode, mkdirat},
    unistd::{UnlinkatFlags, symlinkat, unlinkat},
};

use crate::crash;

/// The longest name: what the kernel takes (`NAME_MAX`, 255), less what [`Name::temporary`] adds.
const LONGEST: usize = 250;

/// One replacement at a time: a file's temporary name is its own, so that what a crash leaves is overwritten
/// by the next attempt, and two attempts must not share it.
static WRITING: Mutex<()> = Mutex::new(());

/// The name of a file or directory within its directory: ASCII letters, digits, `-`, `_` and `.`, not
/// starting with a dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// The text as a name, if it is one.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
        let is_name = (1..=LONGEST).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(plain);
        is_name.then(|| Self(text.to_owned()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where the file is written before it is whole. No name, for it starts with a dot.
    fn temporary(&self) -> String {
        format!(".{}.new", self.0)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Puts a file of mode 0600 in the place of the one at a path of the configuration: whole and durable, or not at all.
/// Where that is a symbolic link, what it leads to is replaced, as by a writer that opens it.
pub fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let path = match path.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        found => found?,
    };
    let unusable = || io::Error::other(format!("{}: not a plain file name", path.display()));
    let name = path.file_name().and_then(|name| Name::new(name.to_str()?)).ok_or_else(unusable)?;
    let directory = path.parent().map(Directory::open).transpose()?.flatten();
    directory.ok_or(io::ErrorKind::NotFound)?.replace(&name, contents)
}

/// An open directory.
#[derive(Debug)]
pub struct Directory(OwnedFd);

impl From<OwnedFd> for Directory {
    /// A directory that was opened otherwise, such as a mount of its own.
    fn from(directory: OwnedFd) -> Self {
        Self(directory)
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Directory {
    /// Opens a directory of the configuration; symbolic links on the way to it are the operator's.
    pub fn open(path: &Path) -> io::Result<Option<Self>> {
        match File::open(path) {
            Ok(directory) => Ok(Some(Self(directory.into()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// As [`Directory::open`], making it (0700) where it is missing.
    pub fn open_or_make(path: &Path) -> io::Result<Self> {
        if let Some(directory) = Self::open(path)? {
            return Ok(directory);
        }
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        if let Some(above) = path.parent() {
            File::open(above)?.sync_all()?;
        }
        Ok(Self(File::open(path)?.into()))
    }

    /// A directory in this one; `None` where there is no directory of that name.
    pub fn inner(&self, name: &Name) -> io::Result<Option<Self>> {
        self.open_at(name.as_str(), OFlag::O_RDONLY | OFlag::O_DIRECTORY).map(|found| found.map(Self))
    }

    /// A directory in this one, made (0700) where it is missing.
    pub fn inner_or_make(&self, name: &Name) -> io::Result<Self> {
        match mkdirat(&self.0, name.as_str(), Mode::from_bits_truncate(0o700)) {
            Ok(()) => self.sync()?,
            Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        self.inner(name)?.ok_or_else(|| io::Error::other(format!("{name} is there and is no directory")))
    }

    /// What is in a file; `None` where there is no regular file of that name.
    pub fn read(&self, name: &Name) -> io::Result<Option<Vec<u8>>> {
        self.read_at_most(name, usize::MAX)
    }

    /// As [`Directory::read`], and no more than its first `limit` bytes.
    pub fn read_at_most(&self, name: &Name, limit: usize) -> io::Result<Option<Vec<u8>>> {
        // Not blocking: opening somebody's FIFO would otherwise wait for a writer.
        let opened = self.open_at(name.as_str(), OFlag::O_RDONLY | OFlag::O_NONBLOCK)?;
        let Some(file) = opened.map(File::from) else { return Ok(None) };
        if !file.metadata()?.is_file() {
            return Ok(None);
        }
        let mut contents = Vec::new();
        file.take(u64::try_from(limit).unwrap_or(u64::MAX)).read_to_end(&mut contents)?;
        Ok(Some(contents))
    }

    /// What is in it under names that are [`Name`]s, in no order.
    pub fn names(&self) -> io::Result<Vec<Name>> {
        let how = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut names = Vec::new();
        for entry in nix::dir::Dir::openat(&self.0, ".", how, Mode::empty())?.iter() {
            names.extend(entry?.file_name().to_str().ok().and_then(Name::new));
        }
        Ok(names)
    }

    /// As [`Directory::inner_or_make`], but made for all to enter (0755): programs of other users run what is in it.
    pub fn inner_or_make_open(&self, name: &Name) -> io::Result<Self> {
        if let Some(there) = self.inner(name)? {
            return Ok(there);
        }
        let made = self.inner_or_make(name)?;
        File::from(made.0.try_clone()?).set_permissions(Permissions::from_mode(0o755))?; // whatever the umask
        Ok(made)
    }

    /// Puts a file of mode 0600 in the place of whatever had that name: whole and durable, or not at all.
    pub fn replace(&self, name: &Name, contents: &[u8]) -> io::Result<()> {
        self.put(name, contents, 0o600)
    }

    /// As [`Directory::replace`], for all to read (0644).
    pub fn publish(&self, name: &Name, contents: &[u8]) -> io::Result<()> {
        self.put(name, contents, 0o644)
    }

    /// As [`Directory::replace`], a program for all (0755). Nothing is written where it is there already.
    pub fn replace_program(&self, name: &Name, contents: &[u8]) -> io::Result<()> {
        if self.read(name)?.as_deref() == Some(contents) {
            return Ok(());
        }
        self.put(name, contents, 0o755)
    }

    fn put(&self, name: &Name, contents: &[u8], mode: u32) -> io::Result<()> {
        let _one = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
        let temporary = name.temporary();
        let replaced = self.write(&temporary, contents, mode).and_then(|()| {
            crash::point("file: written");
            Ok(renameat(&self.0, temporary.as_str(), &self.0, name.as_str())?)
        });
        if let Err(error) = replaced {
            let _ = self.unlink(&temporary); // it holds nothing anybody waits for; the error that counts is the first
            return Err(error);
        }
        crash::point("file: replaced");
        self.sync()
    }

    /// Puts a symbolic link in the place of whatever had that name, durably.
    pub fn link(&self, name: &Name, to: &str) -> io::Result<()> {
        let _one = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
        let temporary = name.temporary();
        self.unlink(&temporary)?;
        symlinkat(to, &self.0, temporary.as_str())?;
        renameat(&self.0, temporary.as_str(), &self.0, name.as_str())?;
        crash::point("file: linked");
        self.sync()
    }

    /// Removes a file, durably; also when it is not there.
    pub fn remove(&self, name: &Name) -> io::Result<()> {
        let _one = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
        self.unlink(&name.temporary())?;
        self.unlink(name.as_str())?;
        crash::point("file: removed");
        self.sync()
    }

    /// Gives a file another name, in the place of whatever had that one; durable.
    pub fn rename(&self, from: &Name, to: &Name) -> io::Result<()> {
        let _one = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
        renameat(&self.0, from.as_str(), &self.0, to.as_str())?;
        crash::point("file: renamed");
        self.sync()
    }

    /// Removes a directory in this one with everything in it; also when it is not there. It is gone at once or not at
    /// all: what a crash leaves of it has another name, and goes with the next removal.
    pub fn remove_inner(&self, name: &Name) -> io::Result<()> {
        let _one = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
        let aside = format!(".{name}.old");
        // The kernel's path for an open directory; nothing in it is followed out of it.
        let path = format!("/proc/self/fd/{}/{aside}", self.0.as_raw_fd());
        let clear = || match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        clear()?;
        match renameat(&self.0, name.as_str(), &self.0, aside.as_str()) {
            Err(Errno::ENOENT) => return Ok(()),
            renamed => renamed?,
        }
        self.sync()?;
        crash::point("directory: set aside");
        clear()
    }

    fn write(&self, temporary: &str, contents: &[u8], mode: u32) -> io::Result<()> {
        self.unlink(temporary)?; // a crash may have left it, under whatever mode
        let how = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut file = File::from(openat(&self.0, temporary, how, Mode::from_bits_truncate(0o600))?);
        file.set_permissions(Permissions::from_mode(mode))?; // whatever the umask
        file.write_all(contents)?;
        file.sync_all()
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        match unlinkat(&self.0, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn open_at(&self, name: &str, how: OFlag) -> io::Result<Option<OwnedFd>> {
        match openat(&self.0, name, how | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty()) {
            Ok(found) => Ok(Some(found)),
            // Not there, or not what is looked for: a symbolic link is ELOOP, or ENOTDIR with O_DIRECTORY.
            Err(Errno::ENOENT | Errno::ELOOP | Errno::ENOTDIR) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        Ok(nix::unistd::fsync(&self.0)?)
    }
}

#[cfg(test)]
mod tests;
