//! A checked drive onto the disk. Every file is whole and durable, and the instance's id is written last: what a crash leaves
//! is done again from the start by the next boot, and what was done once is never done again.
//!
//! Once an instance, as cloud-init does it: the controller replaces agent-conf and server certificate while the amphora lives
//! (`PUT /1.0/config`, `/1.0/certificate`), and the drive has the old ones for ever.

use std::{
    fs::File,
    io,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use super::{
    drive::Drive,
    error::DriveError,
    networkd,
    target::{descend, is_free, plain},
};
use crate::files::{Directory, Name};

/// The agent's own directory, in Octavia's `base_path`.
const STATE: &str = "/var/lib/octavia/amphora-agent";
/// The file with the id of the instance whose drive was applied.
const APPLIED: &str = "config-drive";
const NETWORKD: &str = "/etc/systemd/network";
const ZONES: &str = "/usr/share/zoneinfo";
/// Below the root; an image may have brought it, as a link too.
const AGENT_CONF: &str = "etc/octavia/amphora-agent.conf";

/// The file system a drive is applied to.
#[derive(Debug)]
pub(super) struct Machine {
    root: Directory,
    path: PathBuf,
    state: Directory,
    /// It is the running one, and not a tree for another.
    running: bool,
}

impl Machine {
    /// The tree at `root`.
    pub(super) fn open(root: &Path) -> Result<Self, DriveError> {
        let failed = |source| DriveError::Write(root.join(&STATE[1..]).display().to_string(), source);
        let directory =
            Directory::open(root).map_err(failed)?.ok_or_else(|| DriveError::NoDirectory(root.to_owned()))?;
        let state = descend(&directory, STATE, true).map_err(failed)?;
        Ok(Self { root: directory, path: root.to_owned(), state, running: root == Path::new("/") })
    }

    /// One at a time, until what is returned is dropped.
    pub(super) fn lock(&self) -> Result<File, DriveError> {
        let lock = self.state.as_fd().try_clone_to_owned().map(File::from);
        let locked = lock.and_then(|lock| lock.lock().map(|()| lock));
        locked.map_err(|source| DriveError::Write(STATE.to_owned(), source))
    }

    /// The instance whose drive was applied here last.
    pub(super) fn applied(&self) -> Result<Option<String>, DriveError> {
        let failed = |source| DriveError::Read(format!("{STATE}/{APPLIED}"), source);
        let contents = self.state.read_at_most(&plain(APPLIED).map_err(failed)?, 100).map_err(failed)?;
        Ok(contents.map(|id| String::from_utf8_lossy(&id).trim_end().to_owned()))
    }

    /// Whether it can be made what the drive asks for, as far as can be told before anything is written.
    pub(super) fn check(&self, drive: &Drive) -> Result<(), DriveError> {
        if !drive.has_agent_conf() && !self.path.join(AGENT_CONF).is_file() {
            return Err(DriveError::NoAgentConf);
        }
        let nics: Vec<_> = drive.nics.iter().map(networkd::file_name).collect();
        let mut places: Vec<(&str, &str)> = nics.iter().map(|name| (NETWORKD, name.as_str())).collect();
        places.extend(drive.host_name.iter().map(|_| ("/etc", "hostname")));
        places.extend(drive.timezone.iter().map(|_| ("/etc", "localtime")));
        places.extend(drive.files.iter().map(|file| file.target.place()));
        for (directory, name) in places {
            let path = || format!("{directory}/{name}");
            if !is_free(&self.root, directory, name).map_err(|source| DriveError::Read(path(), source))? {
                return Err(DriveError::InTheWay(path()));
            }
        }
        Ok(())
    }

    /// Makes it what the drive asks for; returns what could not be.
    pub(super) fn apply(&self, drive: &Drive) -> Result<Vec<String>, DriveError> {
        let mut notes = Vec::new();
        self.networks(drive).map_err(|source| DriveError::Write(NETWORKD.to_owned(), source))?;
        if let Some(name) = &drive.host_name {
            let write =
                || descend(&self.root, "/etc", false)?.publish(&plain("hostname")?, format!("{name}\n").as_bytes());
            write().map_err(|source| DriveError::Write("/etc/hostname".to_owned(), source))?;
            if self.running {
                nix::unistd::sethostname(name).map_err(DriveError::HostName)?;
            }
        }
        if let Some(zone) = &drive.timezone {
            let linked = self.time_zone(zone);
            if !linked.map_err(|source| DriveError::Write("/etc/localtime".to_owned(), source))? && zone != "UTC" {
                notes.push(format!("{ZONES}/{zone} is not there: the time zone stays"));
            }
        }
        for file in &drive.files {
            let written = file.target.write(&self.root, &file.contents);
            written.map_err(|source| DriveError::Write(file.target.to_string(), source))?;
        }
        let done =
            plain(APPLIED).and_then(|name| self.state.replace(&name, format!("{}\n", drive.instance).as_bytes()));
        done.map_err(|source| DriveError::Write(format!("{STATE}/{APPLIED}"), source))?;
        Ok(notes)
    }

    /// The NICs' files, and none of another drive's that a crash has left half applied.
    fn networks(&self, drive: &Drive) -> io::Result<()> {
        if drive.nics.is_empty() {
            return Ok(());
        }
        let directory = descend(&self.root, NETWORKD, false)?;
        for nic in &drive.nics {
            directory.publish(&plain(&networkd::file_name(nic))?, networkd::render(nic).as_bytes())?;
        }
        let wanted: Vec<_> = drive.nics.iter().map(networkd::file_name).collect();
        let ours =
            |name: &Name| name.as_str().starts_with(networkd::PREFIX) && !wanted.iter().any(|w| w == name.as_str());
        directory.names()?.iter().filter(|name| ours(name)).try_for_each(|name| directory.remove(name))
    }

    /// As `timedatectl` does it; `false` where the zone is not installed. Its name cannot lead out of [`ZONES`]: there is no
    /// dot in it.
    fn time_zone(&self, zone: &str) -> io::Result<bool> {
        let installed = self.path.join(&ZONES[1..]).join(zone).is_file();
        if installed {
            let target = format!("..{ZONES}/{zone}");
            descend(&self.root, "/etc", false)?.link(&plain("localtime")?, &target)?;
        }
        Ok(installed)
    }
}
