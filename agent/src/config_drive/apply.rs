//! A checked drive onto the disk. Every file is whole and durable, and the instance's id is written last: what a crash leaves
//! is done again from the start by the next boot, and what was done once is never done again.
//!
//! Once an instance, as cloud-init does it: the controller replaces agent-conf and server certificate while the amphora lives
//! (`PUT /1.0/config`, `/1.0/certificate`), and the drive has the old ones for ever.

use std::{fs::File, io, os::fd::AsFd as _, path::Path};

use super::{
    drive::Drive,
    error::DriveError,
    networkd,
    target::{descend, plain},
};
use crate::files::{Directory, Name};

/// The agent's own directory, in Octavia's `base_path`.
const STATE: &str = "/var/lib/octavia/amphora-agent";
/// The file with the id of the instance whose drive was applied.
const APPLIED: &str = "config-drive";
const NETWORKD: &str = "/etc/systemd/network";
const ZONES: &str = "/usr/share/zoneinfo";

/// The file system a drive is applied to.
#[derive(Debug)]
pub(super) struct Machine {
    root: Directory,
    state: Directory,
    /// It is the running one, and not a tree for another.
    running: bool,
    /// One at a time; released with the process.
    _lock: File,
}

impl Machine {
    /// The tree at `root`.
    pub(super) fn open(root: &Path) -> Result<Self, DriveError> {
        let failed = |source| DriveError::Write(root.join(&STATE[1..]).display().to_string(), source);
        let directory =
            Directory::open(root).map_err(failed)?.ok_or_else(|| DriveError::NoDirectory(root.to_owned()))?;
        let state = descend(&directory, STATE, true).map_err(failed)?;
        let lock = File::from(state.as_fd().try_clone_to_owned().map_err(failed)?);
        lock.lock().map_err(failed)?;
        Ok(Self { root: directory, state, running: root == Path::new("/"), _lock: lock })
    }

    /// The instance whose drive was applied here last.
    pub(super) fn applied(&self) -> Result<Option<String>, DriveError> {
        let failed = |source| DriveError::Read(format!("{STATE}/{APPLIED}"), source);
        let contents = self.state.read_at_most(&plain(APPLIED).map_err(failed)?, 100).map_err(failed)?;
        Ok(contents.map(|id| String::from_utf8_lossy(&id).trim_end().to_owned()))
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
                notes.push(format!("{ZONES}/{zone} is not there, or not to be used: the time zone stays"));
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

    /// The NICs' files, and none of another instance's: a disk may have been copied.
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

    /// As `timedatectl` does it; `false` where the zone is not installed, or not named plainly.
    fn time_zone(&self, zone: &str) -> io::Result<bool> {
        let path = format!("{ZONES}/{zone}");
        let (above, last) = path.rsplit_once('/').unwrap_or_default();
        let mut directory = None;
        for part in above.split('/').skip(1) {
            let Some(name) = Name::new(part) else { return Ok(false) };
            let Some(inner) = directory.as_ref().unwrap_or(&self.root).inner(&name)? else { return Ok(false) };
            directory = Some(inner);
        }
        let (Some(directory), Some(last)) = (directory, Name::new(last)) else { return Ok(false) };
        if !directory.names()?.contains(&last) || directory.inner(&last)?.is_some() {
            return Ok(false);
        }
        descend(&self.root, "/etc", false)?.link(&plain("localtime")?, &format!("..{path}"))?;
        Ok(true)
    }
}
