//! All of a drive, read and checked before anything is written: what cannot be used is found here or never.

use std::fmt;

use super::{
    cloud_config,
    error::DriveError,
    metadata::{self, Metadata},
    network::{self, Nic},
    target::Target,
};
use crate::files::Name;

/// A file to write.
#[derive(PartialEq, Eq)]
pub struct File {
    /// Where.
    pub target: Target,
    /// What; it may be a key.
    pub contents: Vec<u8>,
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (***)", self.target)
    }
}

/// What a drive asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct Drive {
    /// Nova's id of the instance.
    pub instance: String,
    /// Its host name.
    pub host_name: Option<String>,
    /// A name below /usr/share/zoneinfo.
    pub timezone: Option<String>,
    /// The NICs to configure.
    pub nics: Vec<Nic>,
    /// The files, each path once; what the agent starts with is the last.
    pub files: Vec<File>,
    /// What is on the drive and not used, or not on it.
    pub notes: Vec<String>,
}

impl Drive {
    /// Puts together what is on the drive; `content` reads a file of `openstack/content`.
    pub(super) fn new(
        metadata: Metadata,
        network_data: Option<&[u8]>,
        user_data: Option<&[u8]>,
        mut content: impl FnMut(&Name) -> Result<Vec<u8>, DriveError>,
    ) -> Result<Self, DriveError> {
        let Metadata { instance, host_name, files: listed, mut notes } = metadata;
        let config = cloud_config::parse(user_data.unwrap_or_default())?;
        let nics = network_data.map(network::parse).transpose()?.unwrap_or_default();
        notes.extend(config.notes);
        if nics.is_empty() {
            notes.push("network_data.json is missing or has no networks: no NIC is configured".to_owned());
        }
        let mut files: Vec<File> = Vec::new();
        for (target, name) in listed {
            files.push(File { contents: content(&name)?, target });
        }
        files.extend(config.files.into_iter().map(|(target, contents)| File { target, contents }));
        for (at, file) in files.iter().enumerate() {
            if files[..at].iter().any(|earlier| earlier.target == file.target) {
                return Err(DriveError::Field("meta_data.json and user_data", file.target.to_string(), "there twice"));
            }
        }
        // An agent that is started in between, by whomever, has no configuration yet rather than half of what it names.
        files.sort_by_key(|file| file.target.is_agent_conf());
        Ok(Self { instance, host_name, timezone: config.timezone, nics, files, notes })
    }

    /// Whether it brings what the agent starts with.
    pub(super) fn has_agent_conf(&self) -> bool {
        self.files.last().is_some_and(|file| file.target.is_agent_conf())
    }

    /// A drive from its texts, for tests and fuzzing: every file of `openstack/content` is `content`.
    pub fn from_texts(
        meta_data: &[u8],
        network_data: &[u8],
        user_data: &[u8],
        content: &[u8],
    ) -> Result<Self, DriveError> {
        Self::new(metadata::parse(meta_data)?, Some(network_data), Some(user_data), |_| Ok(content.to_vec()))
    }
}
