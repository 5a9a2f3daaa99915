//! The lab's own directory, `target/lab/PID-N-NAME`: logs, captures, state on a real disk. It goes away with the lab
//! unless the test panicked; what a killed program left is removed by the next one.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::error::{Error, Result, io};

const LOCK: &str = "lock";
const KEPT: &str = "kept";
const NEW: &str = ".new-";
/// How much of each log a failing test shows.
const TAIL_LINES: usize = 25;

/// The directory of one lab.
#[derive(Debug)]
pub struct Workdir {
    path: PathBuf,
    /// Held as long as the lab lives, also by nobody else: how the next program knows that this one is gone.
    _lock: File,
}

impl Workdir {
    /// Makes the directory, and removes those of programs that were killed.
    pub fn new(name: &str) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let all = target_dir()?.join("lab");
        fs::create_dir_all(&all).map_err(io(all.display().to_string()))?;
        remove_abandoned(&all);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = all.join(format!("{}-{number}-{name}", std::process::id()));
        let make = || {
            // Locked before it has its name, or another program could take it for abandoned.
            let new = all.join(format!("{NEW}{}-{number}", std::process::id()));
            fs::create_dir(&new)?;
            let lock = File::create(new.join(LOCK))?;
            lock.lock()?;
            let _ = fs::remove_dir_all(&path); // kept by an earlier program with our id
            fs::rename(&new, &path)?;
            Ok::<_, std::io::Error>(lock)
        };
        let lock = make().map_err(io(path.display().to_string()))?;
        Ok(Self { path, _lock: lock })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps the directory after the lab's end.
    pub fn keep(&self) -> Result<()> {
        File::create(self.path.join(KEPT)).map(drop).map_err(io("keep the lab's directory"))
    }

    fn show_logs(&self) {
        eprintln!("the lab's logs are kept in {}", self.path.display());
        let Ok(entries) = fs::read_dir(&self.path) else { return };
        let mut logs: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        logs.sort();
        for log in logs.iter().filter(|path| path.extension().is_some_and(|ext| ext == "log")) {
            let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            if !lines.is_empty() {
                eprintln!("--- the end of {}", log.display());
            }
            for line in &lines[lines.len().saturating_sub(TAIL_LINES)..] {
                eprintln!("{line}");
            }
        }
    }
}

impl Drop for Workdir {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_logs();
            let _ = self.keep();
        }
        if !self.path.join(KEPT).exists() {
            let _ = fs::remove_dir_all(&self.path); // at worst the next lab removes it
        }
    }
}

fn remove_abandoned(all: &Path) {
    for path in fs::read_dir(all).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let Ok(lock) = File::open(path.join(LOCK)) else { continue };
        if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(NEW.as_bytes())) && is_young(&lock) {
            continue; // its maker may be about to lock it
        }
        if lock.try_lock().is_ok() && !path.join(KEPT).exists() {
            let _ = fs::remove_dir_all(&path); // another program may be removing it too
        }
    }
}

fn is_young(file: &File) -> bool {
    let changed = file.metadata().and_then(|facts| facts.modified());
    changed.is_ok_and(|at| at.elapsed().is_ok_and(|age| age < Duration::from_mins(1)))
}

/// The directory cargo builds into: the one above `debug` or `release`, where this program is.
pub(crate) fn target_dir() -> Result<PathBuf> {
    Ok(program_dir()?.parent().expect("cargo's layout: target/debug").to_path_buf())
}

/// A program built by this workspace, beside this one.
///
/// # Errors
/// [`Error::Missing`], saying how to build it.
pub fn built_program(name: &str) -> Result<PathBuf> {
    let path = program_dir()?.join(name);
    if path.is_file() {
        return Ok(path);
    }
    Err(Error::Missing(format!("{} is not there: run `make build`", path.display())))
}

fn program_dir() -> Result<PathBuf> {
    let exe = std::env::current_exe().map_err(io("where this program is"))?;
    let dir = exe.parent().expect("a file is in a directory");
    // Tests are in target/debug/deps, programs in target/debug.
    let dir = if dir.ends_with("deps") { dir.parent().expect("cargo's layout: target/debug/deps") } else { dir };
    Ok(dir.to_path_buf())
}
