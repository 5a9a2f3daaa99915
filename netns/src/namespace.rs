//! A network namespace as an open handle, and the only place that enters or makes one.
//!
//! A thread that switches namespaces and comes back can be left in the wrong one by any early return or panic, so
//! nothing here comes back: work inside gets a thread made for it, which ends with it. A socket stays in the namespace
//! it was opened in, so a netlink handle made inside serves from anywhere.

use std::{
    fs::File,
    io,
    os::{fd::AsFd, unix::fs::MetadataExt as _},
    panic,
    path::Path,
    sync::Arc,
    thread,
};

use nix::{
    errno::Errno,
    sched::CloneFlags,
    sys::statfs::{NSFS_MAGIC, fstatfs},
};

use crate::{Error, Network, Result, sysctl};

/// An open network namespace; the namespace lives at least as long as this value or a clone of it.
#[derive(Clone, Debug)]
pub struct Namespace {
    file: Arc<File>,
    /// How messages call it: its path, or what it was made for.
    label: Arc<str>,
    /// Device and inode number of its nsfs file, which identify it (namespaces(7)).
    identity: (u64, u64),
}

impl PartialEq for Namespace {
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity
    }
}

impl Eq for Namespace {}

impl Namespace {
    /// Opens the namespace that is mounted at `path`, or that `path` links to (`/proc/PID/ns/net`).
    pub fn open(path: &Path) -> Result<Self> {
        let label = path.display().to_string();
        let fail = |e| Error::io("open namespace", &label, e);
        let file = File::open(path).map_err(fail)?;
        if !is_nsfs(&file).map_err(|e| fail(e.into()))? {
            return Err(fail(Errno::EINVAL.into()));
        }
        let namespace = Self::from_file(file, &label)?;
        namespace.run(|| ())?; // another kind of namespace is nsfs too, and only setns tells
        Ok(namespace)
    }

    /// The namespace of this thread; `/proc/self` would be that of the main thread.
    pub fn current() -> Result<Self> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// Runs `f` inside, on a thread made for it and never used again. Blocks the caller; a panic of `f` goes on in the
    /// caller.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T> {
        on_a_new_thread(|| enter(&self.file).map(|()| f()))
            .and_then(|entered| entered.map_err(io::Error::from))
            .map_err(|e| Error::io("enter namespace", &self.label, e))
    }

    /// What tells this namespace from any other there is now, as text.
    #[must_use]
    pub fn identity(&self) -> String {
        format!("{}:{}", self.identity.0, self.identity.1)
    }

    /// The value of a sysctl in this namespace, without the line's end. See [`Namespace::set_sysctl`] for the key.
    pub fn sysctl(&self, key: &str) -> Result<String> {
        self.run(|| sysctl::read(key))?
    }

    /// Sets a sysctl in this namespace, unless it has that value: then nothing is written and the answer is `false`.
    ///
    /// The key is dotted, as in `net.ipv4.conf.all.arp_ignore`, and begins with `net.`, for other sysctls have no
    /// namespace of this kind. An interface name may have dots of its own: `net.ipv4.conf.eth0.100.arp_ignore`.
    pub fn set_sysctl(&self, key: &str, value: &str) -> Result<bool> {
        self.run(|| sysctl::write(key, value))?
    }

    /// A netlink handle made inside, to be used from anywhere. To be called within a tokio runtime, on which the
    /// handle's connection then lives.
    pub fn network(&self) -> Result<Network> {
        Network::new(self.clone())
    }

    pub(crate) fn from_file(file: File, label: &str) -> Result<Self> {
        let about = file.metadata().map_err(|e| Error::io("open namespace", label, e))?;
        Ok(Self { file: Arc::new(file), label: label.into(), identity: (about.dev(), about.ino()) })
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn label(&self) -> &str {
        &self.label
    }
}

/// Whether an open file is a namespace of some kind, rather than the empty file that marks the place for one.
pub(crate) fn is_nsfs(file: impl AsFd) -> nix::Result<bool> {
    Ok(fstatfs(file)?.filesystem_type() == NSFS_MAGIC)
}

/// Runs `f` on a new thread in a new, empty network namespace, which ends with `f` unless `f` keeps hold of it.
pub(crate) fn in_a_new_one<T: Send>(f: impl FnOnce() -> nix::Result<T> + Send) -> io::Result<T> {
    on_a_new_thread(|| make().and_then(|()| f()))?.map_err(io::Error::from)
}

fn on_a_new_thread<T: Send>(f: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let inside = thread::Builder::new().name("netns".into()).spawn_scoped(scope, f)?;
        Ok(inside.join().unwrap_or_else(|panic| panic::resume_unwind(panic)))
    })
}

#[expect(clippy::disallowed_methods, reason = "this is the one place, and the thread never comes back")]
fn enter(namespace: &File) -> nix::Result<()> {
    nix::sched::setns(namespace, CloneFlags::CLONE_NEWNET)
}

#[expect(clippy::disallowed_methods, reason = "this is the one place, and the thread never comes back")]
fn make() -> nix::Result<()> {
    nix::sched::unshare(CloneFlags::CLONE_NEWNET)
}
