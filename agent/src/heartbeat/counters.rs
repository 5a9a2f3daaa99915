//! What was last reported of each listener's counters, kept across restarts in `stats_counters.json`, the file of
//! Octavia's own agent and readable by it.
//!
//! It is written before a heartbeat leaves, so an agent that dies between the two loses that one heartbeat's numbers;
//! nothing is ever reported twice. It is replaced by renaming and never synced: what this process wrote survives its
//! death in the kernel's memory, and when the machine itself dies, haproxy's counters start at zero with it, which an
//! older file notices as well as a newer one. So a heartbeat costs no disk access, and where no listener had traffic
//! not even a write.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};

use super::message::Totals;

const FILE: &str = "stats_counters.json";
/// How long a heartbeat waits for its numbers to be written.
const PATIENCE: Duration = Duration::from_millis(500);

/// The counters last reported.
#[derive(Debug)]
pub(super) struct Counters {
    path: PathBuf,
    reported: BTreeMap<String, Totals>,
    stored: BTreeMap<String, Totals>,
    /// A write that a disk holds up.
    writing: Option<JoinHandle<io::Result<BTreeMap<String, Totals>>>>,
    /// Whether the last attempt to write failed.
    unwritable: bool,
}

impl Counters {
    /// Those of the file; what cannot be read counts as never reported, as with Octavia's agent.
    pub(super) fn load(base: &Path) -> Self {
        let path = base.join(FILE);
        let stored = read(&path).unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(file = %path.display(), %error, "cannot be read; traffic is counted from zero");
            }
            BTreeMap::new()
        });
        Self { path, reported: stored.clone(), stored, writing: None, unwritable: false }
    }

    /// What was added since it was last reported; from now on that is reported.
    pub(super) fn report(&mut self, listener: &str, totals: Totals) -> Totals {
        let last = self.reported.insert(listener.to_owned(), totals);
        totals.since(last.unwrap_or_default())
    }

    /// Takes back what has been reported since the last [`Counters::store`]: it has not been sent.
    pub(super) async fn take_back(&mut self, before: BTreeMap<String, Totals>) {
        self.reported = before;
        self.store().await;
    }

    /// What is reported now.
    pub(super) fn snapshot(&self) -> BTreeMap<String, Totals> {
        self.reported.clone()
    }

    /// Writes them down where they have changed. A failure is logged and costs nothing but a restart's numbers; a disk that
    /// hangs holds no heartbeat up for longer than [`PATIENCE`].
    pub(super) async fn store(&mut self) {
        while self.writing.is_some() || self.reported != self.stored {
            let (path, counters) = (self.path.clone(), self.reported.clone());
            let write = || spawn_blocking(move || write(&path, &counters).map(|()| counters));
            let writing = self.writing.get_or_insert_with(write);
            let written = match timeout(PATIENCE, writing).await {
                Ok(written) => {
                    self.writing = None;
                    written.unwrap_or_else(|panic| Err(io::Error::other(panic)))
                }
                Err(_) => Err(io::ErrorKind::TimedOut.into()), // it is waited for again the next time
            };
            match written {
                Ok(stored) => {
                    self.stored = stored;
                    if std::mem::take(&mut self.unwritable) {
                        tracing::info!(file = %self.path.display(), "written again");
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.unwritable, true) {
                        let file = self.path.display();
                        tracing::warn!(%file, %error, "cannot be written; a restart would count twice");
                    }
                    return;
                }
            }
        }
    }
}

fn read(path: &Path) -> io::Result<BTreeMap<String, Totals>> {
    let entries: BTreeMap<String, Value> = serde_json::from_slice(&fs::read(path)?)?;
    Ok(entries.into_iter().filter_map(|(id, totals)| Some((id, serde_json::from_value(totals).ok()?))).collect())
}

fn write(path: &Path, counters: &BTreeMap<String, Totals>) -> io::Result<()> {
    let new = path.with_extension("json.new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {} // a crash may have left it
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o640).open(&new)?;
    io::Write::write_all(&mut file, &serde_json::to_vec(counters)?)?;
    crate::crash::point("heartbeat: counters written");
    fs::rename(&new, path)?;
    crate::crash::point("heartbeat: counters stored");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(bin: u64, stot: u64) -> Totals {
        Totals { bin, bout: 7, ereq: 0, stot }
    }

    #[tokio::test]
    async fn what_was_reported_is_not_reported_again_also_after_a_restart() {
        let base = tempfile::tempdir().unwrap();
        let mut counters = Counters::load(base.path());
        assert_eq!(counters.report("l", totals(10, 2)), totals(10, 2));
        counters.store().await;
        let mut counters = Counters::load(base.path());
        assert_eq!(counters.report("l", totals(15, 2)), Totals { bin: 5, ..Totals::default() });
        // haproxy was restarted: what went back counts from zero, what did not goes on, as upstream has it.
        assert_eq!(counters.report("l", totals(4, 3)), Totals { bin: 4, stot: 1, ..Totals::default() });
        assert_eq!(Counters::load(base.path()).reported["l"], totals(10, 2), "not stored");
    }

    #[tokio::test]
    async fn what_could_not_be_sent_is_reported_with_the_next() {
        let base = tempfile::tempdir().unwrap();
        let mut counters = Counters::load(base.path());
        counters.report("l", totals(10, 2));
        counters.store().await;
        let before = counters.snapshot();
        counters.report("l", totals(30, 2));
        counters.store().await;
        counters.take_back(before).await;
        assert_eq!(Counters::load(base.path()).report("l", totals(31, 2)).bin, 21);
    }

    #[tokio::test]
    async fn octavias_file_is_read_and_a_damaged_one_is_no_obstacle() {
        let base = tempfile::tempdir().unwrap();
        let file = base.path().join(FILE);
        fs::write(&file, r#"{"l": {"bin": 1, "bout": 2, "ereq": 3, "stot": 4}, "odd": null}"#).unwrap();
        let read = Counters::load(base.path()).reported;
        assert_eq!(read, [("l".to_owned(), Totals { bin: 1, bout: 2, ereq: 3, stot: 4 })].into());
        for damaged in ["", "null", "{\"l\": {\"bin\"", "[]"] {
            fs::write(&file, damaged).unwrap();
            let mut counters = Counters::load(base.path());
            assert_eq!(counters.report("l", totals(9, 9)), totals(9, 9), "{damaged}");
            counters.store().await;
            assert!(counters.reported == Counters::load(base.path()).reported);
        }
    }
}
