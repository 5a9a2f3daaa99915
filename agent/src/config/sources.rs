//! Which files make the configuration, and in what order: later ones win.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    document::Document,
    ini,
    problem::{Place, Problem},
    reader::Reader,
};

/// No configuration is this long; a larger file is a mistake (or a device) and would cost its size in memory.
const MAX_FILE: u64 = 1 << 20;

/// A `--config-file` or `--config-dir` of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flag {
    /// `--config-file F`
    File(PathBuf),
    /// `--config-dir D`
    Directory(PathBuf),
}

/// Where the configuration comes from. Reading it again is a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    /// In the order they are read; a default that does not exist is not missed.
    read: Vec<(Flag, Presence)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    Required,
    Default,
}

impl Sources {
    /// The order of oslo.config: the default file unless a file was named, then the default directory unless a
    /// directory was named, then what was named, in its order. So with the stock unit's
    /// `--config-file /etc/octavia/amphora-agent.conf` that file overrides conf.d, and without flags conf.d
    /// overrides it.
    ///
    /// `defaults` is `/etc/octavia`.
    #[must_use]
    pub fn new(flags: Vec<Flag>, defaults: &Path) -> Self {
        let mut read = Vec::new();
        if !flags.iter().any(|flag| matches!(flag, Flag::File(_))) {
            read.push((Flag::File(defaults.join("amphora-agent.conf")), Presence::Default));
        }
        if !flags.iter().any(|flag| matches!(flag, Flag::Directory(_))) {
            read.push((Flag::Directory(defaults.join("amphora-agent.conf.d")), Presence::Default));
        }
        read.extend(flags.into_iter().map(|flag| (flag, Presence::Required)));
        Self { read }
    }

    /// The file that `PUT /1.0/config` replaces: the first that was named, else the default one.
    #[must_use]
    pub fn main(&self) -> &Path {
        let mut files = self.read.iter().filter_map(|(flag, _)| match flag {
            Flag::File(path) => Some(path.as_path()),
            Flag::Directory(_) => None,
        });
        files.next().expect("there is the default where none was named")
    }

    /// What there is of the files, in the order they are read. What cannot be read is not missed.
    pub(super) fn texts(&self) -> Vec<String> {
        let files = self.read.iter().flat_map(|(flag, _)| match flag {
            Flag::File(path) => vec![path.clone()],
            Flag::Directory(path) => configuration_files(path).unwrap_or_default(),
        });
        let bytes = files.filter_map(|path| read_bounded(&path, MAX_FILE).ok());
        bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect()
    }

    /// An option's text in effect, its default included, and a problem to be filled in that is about it. `None` where it
    /// has no value, or where the files cannot be read.
    #[must_use]
    pub fn option(&self, section: &str, key: &str) -> Option<(String, Problem)> {
        let document = self.read(None).ok()?;
        let reader = Reader { document: &document, problems: Vec::new(), warnings: Vec::new() };
        let text = document.text(section, key).ok()??;
        Some((text, reader.at(section, key, String::new())))
    }

    /// Reads everything; `main` instead of what is in the main file.
    pub(super) fn read(&self, main: Option<&[u8]>) -> Result<Document, Vec<Problem>> {
        let (mut document, mut problems) = (Document::default(), Vec::new());
        for (flag, presence) in &self.read {
            match flag {
                Flag::File(path) => match main.filter(|_| path == self.main()) {
                    Some(bytes) => parse(path, bytes, &mut document, &mut problems),
                    None => read_file(path, *presence, &mut document, &mut problems),
                },
                Flag::Directory(path) => match configuration_files(path) {
                    Ok(files) => {
                        for file in files {
                            let mut part = Document::default();
                            read_file(&file, Presence::Required, &mut part, &mut problems);
                            document.add_by_hand(part);
                        }
                    }
                    Err(error) if may_lack(&error, *presence) => {}
                    Err(error) => problems.push(unreadable(path, &error)),
                },
            }
        }
        if problems.is_empty() { Ok(document) } else { Err(problems) }
    }
}

/// `*.conf` in the order of their names; as a shell's glob, not those that begin with a dot.
fn configuration_files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let bytes = name.as_encoded_bytes();
        if bytes.ends_with(b".conf") && !bytes.starts_with(b".") {
            files.push(directory.join(name));
        }
    }
    files.sort();
    Ok(files)
}

fn read_file(path: &Path, presence: Presence, document: &mut Document, problems: &mut Vec<Problem>) {
    let bytes = match read_bounded(path, MAX_FILE) {
        Ok(bytes) => bytes,
        Err(error) if may_lack(&error, presence) => return,
        Err(error) => return problems.push(unreadable(path, &error)),
    };
    parse(path, &bytes, document, problems);
}

fn parse(path: &Path, bytes: &[u8], document: &mut Document, problems: &mut Vec<Problem>) {
    let file = Arc::new(path.to_owned());
    match decode(bytes) {
        Ok(text) => match ini::parse(text) {
            Ok(ini) => document.add(&file, ini),
            Err(errors) => problems.extend(
                errors.into_iter().map(|error| at(Place { file: file.clone(), line: error.line }, error.text.into())),
            ),
        },
        Err((line, text)) => problems.push(at(Place { file, line }, text.into())),
    }
}

fn decode(bytes: &[u8]) -> Result<&str, (usize, &'static str)> {
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return Err((1, "the file begins with a byte order mark; save it as UTF-8 without one"));
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        (1 + before.split(|&b| b == b'\n').count() - 1, "not UTF-8; save the file as UTF-8")
    })
}

/// Reads a regular file of at most `limit` bytes. Anything else (a FIFO would block for ever) is refused unopened.
pub(super) fn read_bounded(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {limit} bytes")));
    }
    Ok(bytes)
}

fn may_lack(error: &io::Error, presence: Presence) -> bool {
    presence == Presence::Default && error.kind() == io::ErrorKind::NotFound
}

fn unreadable(path: &Path, error: &io::Error) -> Problem {
    at(Place { file: Arc::new(path.to_owned()), line: 0 }, format!("cannot be read: {error}"))
}

fn at(place: Place, text: String) -> Problem {
    Problem { place: Some(place), section: None, key: None, text }
}
