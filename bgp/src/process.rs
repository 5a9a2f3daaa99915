//! The daemon as a process: its command line and the place of its socket.
//!
//! Only these. Whoever supervises (systemd, or the agent where there is none) starts and stops it.

use std::{
    ffi::OsString,
    fs::{DirBuilder, Permissions},
    io,
    os::unix::{
        fs::{DirBuilderExt, FileTypeExt, PermissionsExt, chown},
        net::UnixStream,
    },
    path::{Path, PathBuf},
};

use nix::unistd::User;

/// Go's own ceiling for the heap: keeps 10,000 paths near half the memory they take without.
const MEMORY_LIMIT: (&str, &str) = ("GOMEMLIMIT", "24MiB");

/// The daemon's only capability. MD5, GTSM and 10,000 paths need no other.
const CAPABILITY: &str = "net_bind_service";

/// Whom the daemon runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// User id; not 0.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl Account {
    /// A user of this machine; [`io::ErrorKind::NotFound`] if there is none of this name.
    pub fn named(name: &str) -> io::Result<Self> {
        let user =
            User::from_name(name)?.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no user {name}")))?;
        Ok(Self { uid: user.uid.as_raw(), gid: user.gid.as_raw() })
    }
}

/// A gobgpd and the way it is run here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The binary.
    pub path: PathBuf,
    /// Where its API will be. The socket is its folder's only content.
    pub socket: PathBuf,
    /// The account it runs as; its capabilities are reduced to binding port 179.
    pub account: Account,
}

/// What a binary says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flags {
    /// Major and minor version, as in `(4, 8)`.
    pub version: (u32, u32),
    /// Whether it serves Prometheus metrics on TCP unless told not to (later 3.x and 4.x).
    has_metrics: bool,
}

impl Flags {
    /// Reads what `gobgpd --version` and `gobgpd --help` print; `None` if that is no gobgpd's.
    #[must_use]
    pub fn parse(version: &str, help: &str) -> Option<Self> {
        let mut numbers = version.trim().strip_prefix("gobgpd version ")?.split('.');
        let mut number = || numbers.next()?.parse().ok();
        Some(Self { version: (number()?, number()?), has_metrics: help.contains("--metrics-path") })
    }
}

impl Program {
    /// The command, to be run in the network namespace of the sessions with
    /// [`environment`](Self::environment).
    ///
    /// A shell sets the umask, so that the socket is born 0600, and util-linux's `setpriv` drops to
    /// the account; both `exec`, so the process is gobgpd's. `-r` is left out: it only concerns
    /// neighbors of a configuration file; ours are told by [`crate::Speaker::set_peers`].
    #[must_use]
    pub fn command(&self, flags: &Flags) -> Vec<OsString> {
        let mut argv: Vec<OsString> = ["/bin/sh", "-c", r#"umask 0177 && exec "$@""#, "gobgpd"].map(Into::into).into();
        let only = format!("-all,+{CAPABILITY}");
        let (uid, gid) = (self.account.uid.to_string(), self.account.gid.to_string());
        argv.extend(["setpriv", "--reuid", &uid, "--regid", &gid, "--clear-groups"].map(Into::into));
        argv.extend(["--inh-caps", &only, "--ambient-caps", &only, "--bounding-set", &only].map(Into::into));
        argv.extend(["--no-new-privs", "--"].map(Into::into));
        argv.push(self.path.clone().into());
        argv.extend(self.arguments(flags));
        argv
    }

    /// The daemon's own arguments, for whoever has set umask, account and capabilities.
    #[must_use]
    pub fn arguments(&self, flags: &Flags) -> Vec<OsString> {
        let mut hosts = OsString::from("--api-hosts=unix://");
        hosts.push(&self.socket);
        let mut arguments = vec![hosts, "--pprof-disable".into(), "--log-plain".into()];
        if flags.has_metrics {
            arguments.push("--metrics-path=".into()); // else localhost:6060 stays open, pprof or not
        }
        arguments
    }

    /// Variables to set for the command.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, &'static str); 1] {
        [MEMORY_LIMIT]
    }

    /// Makes the socket's folder, mode 0700 and the account's, and removes the socket a killed
    /// daemon left, which gobgpd would take for one in use and go on without an API. Of its
    /// capabilities the caller needs `CAP_CHOWN` and `CAP_FOWNER`.
    ///
    /// [`io::ErrorKind::AddrInUse`] if somebody answers on it; it is then [taken over](Self::take_over).
    pub fn prepare(&self) -> io::Result<()> {
        let folder = self.folder();
        if let Some(parent) = folder.parent() {
            std::fs::create_dir_all(parent)?; // with common modes: the account has to pass
        }
        match DirBuilder::new().mode(0o700).create(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        self.check_folder()?;
        match self.take_over() {
            Ok(()) if UnixStream::connect(&self.socket).is_ok() => {
                return Err(io::Error::new(io::ErrorKind::AddrInUse, "a speaker already listens there"));
            }
            Ok(()) => std::fs::remove_file(&self.socket)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        std::fs::set_permissions(folder, Permissions::from_mode(0o700))?;
        chown(folder, Some(self.account.uid), Some(self.account.gid))
    }

    /// Gives folder and socket to the caller's account once the daemon listens. An agent without
    /// `CAP_DAC_OVERRIDE` can then connect, and the daemon's account itself no longer can.
    pub fn take_over(&self) -> io::Result<()> {
        let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        chown(self.folder(), Some(uid), Some(gid))?; // first: from now on no one swaps the socket
        if !std::fs::symlink_metadata(&self.socket)?.file_type().is_socket() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a socket"));
        }
        chown(&self.socket, Some(uid), Some(gid))
    }

    /// The folder changes hands and mode, so it must be for the socket alone: never `/run` itself.
    fn check_folder(&self) -> io::Result<()> {
        let folder = self.folder();
        let metadata = std::fs::symlink_metadata(folder)?;
        let own = metadata.is_dir() && metadata.permissions().mode() & 0o777 == 0o700;
        let mut others = std::fs::read_dir(folder)?
            .filter_map(Result::ok)
            .filter(|e| Some(&*e.file_name()) != self.socket.file_name());
        if own && others.next().is_none() {
            return Ok(());
        }
        let text = format!("{} is not a folder of mode 0700 with nothing but the socket in it", folder.display());
        Err(io::Error::new(io::ErrorKind::InvalidInput, text))
    }

    fn folder(&self) -> &Path {
        self.socket.parent().unwrap_or(Path::new("/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_is_known_by_its_words() {
        let flags = Flags::parse("gobgpd version 4.8.0\n", "  --metrics-path=  specify path").unwrap();
        assert_eq!(flags, Flags { version: (4, 8), has_metrics: true });
        assert_eq!(Flags::parse("gobgpd version 3.10.0", "").unwrap().version, (3, 10));
        assert_eq!(Flags::parse("frr 8.4.4", ""), None);
    }

    #[test]
    fn a_socket_is_removed_only_when_nobody_listens() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("run/speaker/gobgpd.sock");
        let account = Account { uid: nix::unistd::getuid().as_raw(), gid: nix::unistd::getgid().as_raw() };
        let program = Program { path: "gobgpd".into(), socket: socket.clone(), account };
        program.prepare().unwrap();
        let mode = |path: &str| folder.path().join(path).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode("run/speaker"), 0o700);
        assert_eq!(mode("run") & 0o011, 0o011, "the account has to pass");

        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert_eq!(program.prepare().unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        program.prepare().unwrap();
        assert!(!socket.exists());
    }
}
