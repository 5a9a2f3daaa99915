//! Whether what is written into a directory stays in memory: `[distributor] require_ramfs`.
//!
//! Octavia's image mounts `base_cert_dir` from an ext2 on dm-crypt on the RAM disk `brd` (its element certs-ramfs); a
//! tmpfs does the same with less. When that mount has failed, a key must not land on the disk below it.

use std::{
    fs, io,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use nix::sys::{
    stat::{fstat, major, minor},
    statfs::{FsType, TMPFS_MAGIC, fstatfs},
};

/// `RAMFS_MAGIC` of linux/magic.h.
const RAMFS: i64 = 0x8584_58f6;

/// What is behind an open directory, if that is no memory.
pub fn not_in_memory(directory: impl AsFd) -> io::Result<Option<String>> {
    let FsType(kind) = fstatfs(&directory)?.filesystem_type();
    if FsType(kind) == TMPFS_MAGIC || kind == RAMFS {
        return Ok(None);
    }
    let device = fstat(&directory)?.st_dev;
    let (major, minor) = (major(device), minor(device));
    let block = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    let Ok(block) = block.canonicalize() else {
        return Ok(Some(format!("its file system (of type {kind:#x}) has no block device of its own")));
    };
    Ok(disk_behind(&block)?.map(|disk| format!("it is on {disk}")))
}

/// A block device that is no memory: this one, or one below it (device mapper); by its directory in /sys.
fn disk_behind(block: &Path) -> io::Result<Option<String>> {
    let name = block.file_name().and_then(|name| name.to_str()).unwrap_or("a disk");
    let numbered = |prefix: &str| {
        name.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|c| c.is_ascii_digit()))
    };
    if numbered("ram") {
        return Ok(None);
    }
    if numbered("zram") {
        // It may write what is idle to a disk.
        let behind = fs::read_to_string(block.join("backing_dev")).unwrap_or_default();
        let none = ["", "none"].contains(&behind.trim());
        return Ok((!none).then(|| format!("{name}, which writes to {}", behind.trim())));
    }
    let below: Vec<_> = match fs::read_dir(block.join("slaves")) {
        Ok(entries) => entries.map(|entry| entry?.path().canonicalize()).collect::<io::Result<_>>()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    for slave in &below {
        if let Some(disk) = disk_behind(slave)? {
            return Ok(Some(format!("{name}, and that on {disk}")));
        }
    }
    Ok(below.is_empty().then(|| name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// /sys as it is in Octavia's image and in others. (Real block devices are for the image's own test.)
    #[test]
    fn memory_is_told_from_disks_also_below_a_mapping() {
        let sys = tempfile::tempdir().unwrap();
        let make = |name: &str, on: &[&str]| {
            let slaves = sys.path().join(name).join("slaves");
            fs::create_dir_all(&slaves).unwrap();
            for on in on {
                std::os::unix::fs::symlink(sys.path().join(on), slaves.join(on)).unwrap();
            }
        };
        for name in ["ram0", "sda1", "zram0", "zram1"] {
            make(name, &[]);
        }
        make("dm-0", &["ram0"]);
        make("dm-1", &["ram0", "sda1"]);
        make("dm-2", &["dm-0"]);
        fs::write(sys.path().join("zram0/backing_dev"), "none\n").unwrap();
        fs::write(sys.path().join("zram1/backing_dev"), "/dev/sda2\n").unwrap();
        let behind = |name: &str| disk_behind(&sys.path().join(name)).unwrap();
        for name in ["ram0", "zram0", "dm-0", "dm-2"] {
            assert_eq!(behind(name), None, "{name}");
        }
        assert_eq!(behind("sda1").as_deref(), Some("sda1"));
        assert_eq!(behind("dm-1").as_deref(), Some("dm-1, and that on sda1"));
        assert_eq!(behind("zram1").as_deref(), Some("zram1, which writes to /dev/sda2"));
    }

    #[test]
    fn a_tmpfs_is_memory_and_proc_is_not() {
        assert_eq!(not_in_memory(fs::File::open("/dev/shm").unwrap()).unwrap(), None);
        assert!(not_in_memory(fs::File::open("/proc").unwrap()).unwrap().is_some());
    }
}
