//! The device: found by its label, mounted so that nothing but this process can see it.
//!
//! The mount has no place: it is a directory of this process alone (fsmount(2)), and gone with it, also after a crash. It is
//! read-only, without devices, programs or set-user-ID bits.

use std::{
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
};

use super::error::DriveError;
use crate::files::Directory;

/// Where udev links file systems by their label. A VFAT's label may have been turned to capitals by the program that wrote it.
const PLACES: [&str; 2] = ["/dev/disk/by-label/config-2", "/dev/disk/by-label/CONFIG-2"];
/// How often to look.
const LOOK: Duration = Duration::from_millis(50);

/// Waits for the device, at most `wait`.
pub(super) fn find(wait: Duration) -> Result<PathBuf, DriveError> {
    let begin = Instant::now();
    loop {
        if let Some(found) = PLACES.iter().map(Path::new).find(|place| place.exists()) {
            return Ok(found.to_owned());
        }
        if begin.elapsed() >= wait {
            return Err(DriveError::NoDevice(wait));
        }
        sleep(LOOK);
    }
}

/// Mounts it as what Nova makes (`config_drive_format`): ISO9660, or else VFAT.
pub(super) fn mount(device: &Path) -> Result<Directory, DriveError> {
    match mount_as("iso9660", device) {
        Ok(mounted) => Ok(mounted.into()),
        Err(iso) => match mount_as("vfat", device) {
            Ok(mounted) => Ok(mounted.into()),
            Err(vfat) => Err(DriveError::Mount(device.display().to_string(), iso, vfat)),
        },
    }
}

fn mount_as(kind: &str, device: &Path) -> io::Result<OwnedFd> {
    let system = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_flag(&system, "ro")?; // also of the device, which may be a CD-ROM
    fsconfig_set_string(&system, "source", device)?;
    fsconfig_create(&system)?;
    let bare = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    Ok(fsmount(&system, FsMountFlags::FSMOUNT_CLOEXEC, bare)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Name;

    /// A kernel with neither file system, and a device that is none, say so. (The mount itself is shown in a VM.)
    #[test]
    fn what_cannot_be_mounted_says_what_was_tried() {
        let error = mount(Path::new("/dev/null")).unwrap_err().to_string();
        assert!(
            error.contains("/dev/null") && error.contains("as iso9660: ") && error.contains("as vfat: "),
            "{error}"
        );
        let error = find(Duration::ZERO).unwrap_err().to_string();
        assert!(error.contains("no device labelled config-2 within 0 s"), "{error}");
    }

    /// The same calls with a file system every kernel has.
    #[test]
    fn a_mount_is_a_directory_of_this_process_alone() {
        let mounted: Directory = mount_as("tmpfs", Path::new("none")).expect("this test needs root").into();
        assert_eq!(mounted.names().unwrap(), []);
        let refused = mounted.replace(&Name::new("x").unwrap(), b"x").unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ReadOnlyFilesystem);
    }
}
