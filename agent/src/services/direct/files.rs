//! What the direct backend keeps: what is installed, over reboots, and what is to run, until the next one.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    files::Directory,
    services::{Service, ServiceName},
};

/// The most of a log that an error repeats, in bytes.
const TAIL: u64 = 4096;

/// Where it keeps them, and what it works with.
#[derive(Clone, Debug)]
pub struct Places {
    /// The installed services: a directory that outlives the machine's restarts.
    pub definitions: PathBuf,
    /// Records and sockets, of this run of the machine. For us alone.
    pub runtime: PathBuf,
    /// What the services write: `NAME.log` in here, appended to, so `copytruncate` rotates it.
    pub logs: PathBuf,
    /// The network namespace they run in, by the name `ip netns` knows.
    pub namespace: String,
    /// The `amphora-agent` program, whose `run-service` starts them.
    pub helper: PathBuf,
}

/// What is to be of a service until the machine is restarted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// `processes::boot` of the run of the machine it was written in. Of an earlier one it says nothing.
    pub(super) boot: String,
    /// Whether it is to run.
    pub(super) wanted: bool,
    /// The main process that was last ready, by its pid and start (`processes::Seen`). Any other was being started
    /// by an agent that has died: nobody has heard whether it is ready.
    pub(super) ready: Option<(u32, u64)>,
}

impl Places {
    pub(super) fn make(&self) -> io::Result<()> {
        for directory in [&self.definitions, &self.runtime] {
            Directory::open_or_make(directory)?;
        }
        std::fs::create_dir_all(&self.logs)
    }

    /// The installed services. One that cannot be read is told of and passed over: the others must run.
    pub(super) fn installed(&self) -> io::Result<Vec<Service>> {
        let mut services = Vec::new();
        for entry in std::fs::read_dir(&self.definitions)? {
            let file = entry?.file_name().into_string();
            let name = file.ok().and_then(|file| ServiceName::new(file.strip_suffix(".json")?));
            let Some(name) = name else { continue };
            match self.definition(&name) {
                Ok(service) => services.extend(service),
                Err(error) => tracing::error!(service = %name, %error, "its definition is unusable; not started"),
            }
        }
        Ok(services)
    }

    pub(super) fn definition(&self, name: &ServiceName) -> io::Result<Option<Service>> {
        read(&self.definitions, name)
    }

    pub(super) fn define(&self, service: &Service) -> io::Result<()> {
        write(&self.definitions, &service.name, service)
    }

    pub(super) fn record(&self, name: &ServiceName) -> io::Result<Option<Record>> {
        read(&self.runtime, name)
    }

    pub(super) fn put_record(&self, name: &ServiceName, record: &Record) -> io::Result<()> {
        write(&self.runtime, name, record)
    }

    /// Forgets a service: first what makes it be there.
    pub(super) fn forget(&self, name: &ServiceName) -> io::Result<()> {
        for directory in [&self.definitions, &self.runtime] {
            Directory::open_or_make(directory)?.remove(&name.file(".json"))?;
        }
        match std::fs::remove_file(self.socket(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// A short name, for a socket's path has 107 characters (unix(7)).
    pub(super) fn socket(&self, name: &ServiceName) -> PathBuf {
        self.runtime.join(format!("{:08x}.notify", crc32fast::hash(name.as_str().as_bytes())))
    }

    pub(super) fn log(&self, name: &ServiceName) -> PathBuf {
        self.logs.join(format!("{name}.log"))
    }
}

fn read<T: for<'a> Deserialize<'a>>(directory: &Path, name: &ServiceName) -> io::Result<Option<T>> {
    let Some(directory) = Directory::open(directory)? else { return Ok(None) };
    let contents = directory.read(&name.file(".json"))?;
    contents.map(|contents| serde_json::from_slice(&contents).map_err(io::Error::other)).transpose()
}

fn write(directory: &Path, name: &ServiceName, value: &impl Serialize) -> io::Result<()> {
    let contents = serde_json::to_vec(value).map_err(io::Error::other)?;
    Directory::open_or_make(directory)?.replace(&name.file(".json"), &contents)
}

/// How long a log is, to read later what was added; 0 where there is none.
pub(super) fn length(log: &Path) -> u64 {
    std::fs::metadata(log).map_or(0, |about| about.len())
}

/// The end of what has been added to a log, trimmed.
pub(super) fn added(log: &Path, since: u64) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(log)?;
        let end = file.metadata()?.len();
        let since = if since > end { 0 } else { since }; // it has been truncated
        file.seek(SeekFrom::Start(since.max(end.saturating_sub(TAIL))))?;
        let mut text = Vec::new();
        file.take(TAIL).read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).trim().to_owned())
    };
    read().unwrap_or_default() // an error about an error helps nobody
}
