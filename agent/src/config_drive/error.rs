//! What can be wrong with a config drive. Each error says where on the drive it is, so that one line in the journal is
//! enough; none of them shows what is in a file, for that may be a key.

use std::{io, path::PathBuf, time::Duration};

use super::{network::NetworkError, target::TargetError, yaml::YamlError};

/// Why a config drive was not applied.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// No device with the label of a config drive.
    #[error(
        "no config drive: no device labelled config-2 within {} s; boot the amphora with one (Nova: --config-drive true)",
        .0.as_secs()
    )]
    NoDevice(Duration),
    /// Neither as ISO9660 nor as VFAT.
    #[error("the config drive {0} cannot be mounted: as iso9660: {1}; as vfat: {2}")]
    Mount(String, io::Error, io::Error),
    /// `--directory` names nothing.
    #[error("{}: no such directory", .0.display())]
    NoDirectory(PathBuf),
    /// A broken medium.
    #[error("{0}: cannot be read")]
    Read(String, #[source] io::Error),
    /// A file that has to be there.
    #[error("{0}: not on the drive, or no regular file")]
    Missing(String),
    /// Larger than anything Nova writes.
    #[error("{0}: longer than {1} bytes")]
    TooLong(String, usize),
    /// No JSON, or not Nova's.
    #[error("{0}: {1}")]
    Json(&'static str, serde_path_to_error::Error<serde_json::Error>),
    /// Not UTF-8.
    #[error("{0}: not UTF-8 text")]
    NotText(&'static str),
    /// A value that cannot be used.
    #[error("{0}: {1}: {2}")]
    Field(&'static str, String, &'static str),
    /// A file that would be written where the drive has no business.
    #[error("{0}: {1}: {2}")]
    Target(&'static str, String, TargetError),
    /// What the agent starts with, missing from the drive and the disk.
    #[error(
        "no /etc/octavia/amphora-agent.conf, neither on the drive nor on the disk: build the amphora by Octavia, which sends it \
         with the drive; Nova does not keep it over a rebuild or an evacuation, so fail the amphora over instead"
    )]
    NoAgentConf,
    /// A disk with another amphora's identity, keys and state.
    #[error(
        "the disk was set up for instance {disk}, and the drive is instance {drive}'s: boot the amphora from the image itself, \
         not from a copy of another one's disk"
    )]
    OtherInstance {
        /// The instance whose drive was applied.
        disk: String,
        /// The instance whose drive is there.
        drive: String,
    },
    /// Found before anything was written.
    #[error("{0}: cannot be written: a directory has this name, or what should be its directory is none")]
    InTheWay(String),
    /// cloud-config beyond what is taken.
    #[error("user_data")]
    Yaml(#[from] YamlError),
    /// Networks that cannot be configured.
    #[error("network_data.json")]
    Network(#[from] NetworkError),
    /// The disk, or something in the way.
    #[error("{0}: cannot be written")]
    Write(String, #[source] io::Error),
    /// The kernel's own.
    #[error("the host name cannot be set")]
    HostName(#[source] nix::errno::Errno),
}
