//! The durable log: desired state as a file of JSON lines that only grows, inside a fixed size.
//!
//! A commit is one line, one write and one `fdatasync`, whatever the number of entries held. The file
//! never changes its size: it is made whole (header, snapshot, padding of newlines, end mark), synced and
//! renamed into place, and lines are then written over the padding. When the padding is used up the next
//! file is made the same way. That buys three things:
//!
//! * a file that was cut short has lost its end mark and is refused, never guessed at;
//! * a line torn by a power failure stands last and fails its checksum: it was never acknowledged, so it
//!   is dropped; a bad line with good ones after it is damage and refused;
//! * a full disk cannot hurt a commit that fits, and one that needs a new file fails with the old intact.
//!
//! Each line is `CRC32 JSON`, the checksum in hex over the JSON bytes.
//!
//! The first line names the format. A file has the oldest one that its content allows, so that an older release can take
//! over whatever it knows.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::crash;

/// The newest format there is. Raised when an older agent could misread the file.
const VERSION: u32 = 3;
/// The oldest format that is written: that of all that an [`Entry`] says nothing else of.
pub(super) const OLDEST: u32 = 2;
const SMALLEST: usize = 64 * 1024;
const END: &[u8] = b"end\n";
/// How the name of a file starts that is not whole yet.
const UNFINISHED: &str = ".state-";

/// Why the state file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The operating system said no.
    #[error("cannot {doing} {path}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Written by a later release.
    #[error(
        "{path} was written by a newer amphora-agent (format {found}, this one reads {VERSION}): \
         run that release again, or move the file away and plug and register anew"
    )]
    Newer {
        /// The state file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// Cut short or damaged.
    #[error(
        "{path} is damaged ({what}) and nothing was changed: restore it from a backup, \
         or move it away and plug and register anew"
    )]
    Damaged {
        /// The state file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Header {
    amphora_agent_state: u32,
}

/// One change of the desired state.
pub trait Entry: Serialize {
    /// The oldest format whose agents know it.
    fn format(&self) -> u32 {
        OLDEST
    }
}

/// An open log.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    /// Of the file that is in place.
    format: u32,
    /// Absent after a failed write, until a fresh file takes the place of the one in doubt.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Where the next line goes.
    used: usize,
    /// Where the end mark starts.
    room: usize,
}

impl Log {
    /// Opens the log, or starts an empty one, and returns every change in it, oldest first. The next commit starts a
    /// fresh file, so that whatever stood behind the last good line is gone.
    pub fn open<C: Entry + DeserializeOwned>(path: &Path) -> Result<(Self, Vec<C>), LogError> {
        let io = |doing| move |source| LogError::Io { doing, path: path.to_owned(), source };
        let (mut changes, mut format) = (Vec::new(), OLDEST);
        match File::open(path) {
            Ok(mut file) => {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).map_err(io("read"))?;
                let (found, commits) = lines(path, &bytes)?;
                format = found;
                for commit in commits {
                    let commit: Vec<C> = serde_json::from_slice(commit)
                        .map_err(|e| LogError::Damaged { path: path.to_owned(), what: e.to_string() })?;
                    changes.extend(commit);
                }
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(io("open")(e)),
        }
        remove_unfinished(path).map_err(io("tidy up beside"))?;
        Ok((Self { path: path.to_owned(), format, open: None }, changes))
    }

    /// Makes `commit` durable. On an error nothing of it counts: a file that may hold a part of it is replaced by one
    /// that does not, now if the disk lets us, else with the next call.
    ///
    /// `snapshot` gives the changes that lead to the state held *before* this commit; it is asked for only
    /// when a fresh file is needed.
    pub fn commit<C: Entry>(&mut self, commit: &[C], snapshot: impl FnOnce() -> Vec<C>) -> Result<(), LogError> {
        let line = line(commit);
        match self.open.take() {
            Some(mut open) if open.used + line.len() <= open.room && needed(commit) <= self.format => {
                crash::point("log: before the write");
                if let Err(source) = open.append(&line) {
                    self.open = self.fresh(&snapshot(), &[]).ok();
                    return Err(self.io("write", source));
                }
                crash::point("log: after the sync");
                self.open = Some(open);
                Ok(())
            }
            _ => {
                self.open = Some(self.fresh(&snapshot(), commit)?);
                Ok(())
            }
        }
    }

    /// Whether the file is in a newer format than it takes to hold `held`.
    #[must_use]
    pub fn is_newer_than(&self, held: u32) -> bool {
        self.format > held
    }

    /// Replaces the file by one that holds `snapshot`, all there is, in the oldest format that will do. On an error it is as
    /// durable as before.
    pub fn renew<C: Entry>(&mut self, snapshot: &[C]) -> Result<(), LogError> {
        let (before, format) = (self.open.take(), self.format);
        let fresh = self.fresh(snapshot, &[]);
        // Also a failure may come when the old one has been replaced, but that shows by its format.
        let (open, result) = match fresh {
            Ok(open) => (Some(open), Ok(())),
            Err(error) => (before.filter(|_| self.format == format), Err(error)),
        };
        self.open = open;
        result
    }

    /// Writes a new file that holds `snapshot` and then `last`, and puts it in the place of the old.
    fn fresh<C: Entry>(&mut self, snapshot: &[C], last: &[C]) -> Result<Open, LogError> {
        let format = needed(snapshot).max(needed(last));
        let mut bytes = with_checksum(&json(&Header { amphora_agent_state: format }));
        for commit in [snapshot, last].into_iter().filter(|commit| !commit.is_empty()) {
            bytes.extend(line(commit));
        }
        let used = bytes.len();
        // Four times what is held: a fresh file is then needed once per three times its size in commits.
        let room = (used * 4).max(SMALLEST) - END.len();

        let directory = self.path.parent().unwrap_or(Path::new("."));
        let mut new = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .tempfile_in(directory)
            .map_err(|e| self.io("create a file beside", e))?;
        crash::point("log: a fresh file is empty");
        let padding = io::repeat(b'\n').take((room - used) as u64).chain(END);
        let written = io::copy(&mut bytes.as_slice().chain(padding), &mut new);
        written.map_err(|e| self.io("write a file beside", e))?;
        crash::point("log: a fresh file is not synced");
        new.as_file().sync_all().map_err(|e| self.io("sync a file beside", e))?;
        crash::point("log: a fresh file is whole");
        let file = new.persist(&self.path).map_err(|e| self.io("replace", e.error))?;
        self.format = format;
        crash::point("log: a fresh file is in place");
        File::open(directory).and_then(|d| d.sync_all()).map_err(|e| self.io("sync the directory of", e))?;
        crash::point("log: a fresh file is durable");
        Ok(Open { file, used, room })
    }

    fn io(&self, doing: &'static str, source: io::Error) -> LogError {
        LogError::Io { doing, path: self.path.clone(), source }
    }
}

impl Open {
    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        self.file.write_all_at(line, self.used as u64)?;
        crash::point("log: written, not synced");
        self.file.sync_data()?;
        self.used += line.len();
        Ok(())
    }
}

/// Removes the files that predecessors were killed over.
fn remove_unfinished(path: &Path) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    for entry in directory.read_dir()? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(UNFINISHED.as_bytes()) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn json<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("our own types have string keys and no failing serializer")
}

/// The oldest format whose agents know all of these.
fn needed<C: Entry>(changes: &[C]) -> u32 {
    changes.iter().map(Entry::format).max().unwrap_or(OLDEST)
}

fn line<C: Serialize>(commit: &[C]) -> Vec<u8> {
    with_checksum(&json(commit))
}

fn with_checksum(json: &[u8]) -> Vec<u8> {
    let mut line = format!("{:08x} ", crc32fast::hash(json)).into_bytes();
    line.extend(json);
    line.push(b'\n');
    line
}

fn checked(line: &[u8]) -> Option<&[u8]> {
    let (sum, json) = line.split_at_checked(9)?;
    let sum = std::str::from_utf8(sum.strip_suffix(b" ")?).ok()?;
    (u32::from_str_radix(sum, 16).ok()? == crc32fast::hash(json)).then_some(json)
}

/// The format, and the JSON of every commit, in order.
fn lines<'a>(path: &Path, bytes: &'a [u8]) -> Result<(u32, Vec<&'a [u8]>), LogError> {
    let damaged = |what: &str| LogError::Damaged { path: path.to_owned(), what: what.to_owned() };
    let mut rest = bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty());
    // The header first: a newer release may have changed everything after it.
    let header = rest.next().and_then(checked).ok_or_else(|| damaged("it does not start with its header"))?;
    let header: Header = serde_json::from_slice(header).map_err(|_| damaged("it does not start with its header"))?;
    if header.amphora_agent_state > VERSION {
        return Err(LogError::Newer { path: path.to_owned(), found: header.amphora_agent_state });
    }
    if bytes.len() < SMALLEST || !bytes.ends_with(END) {
        return Err(damaged("it has been cut short"));
    }
    let (mut good, mut torn) = (Vec::new(), false);
    for line in rest {
        match checked(line) {
            _ if line == b"end" => break,
            Some(_) if torn => return Err(damaged("a line in its middle fails its checksum")),
            Some(json) => good.push(json),
            None => torn = true,
        }
    }
    if torn {
        tracing::warn!(path = %path.display(), "the last line is torn; it was never acknowledged and is dropped");
    }
    Ok((header.amphora_agent_state, good))
}

#[cfg(test)]
mod tests;
