//! How often haproxy was reloaded, for whoever reports it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{Done, Error};

/// Reloads since the agent's start, by what they came to. A call that joined another one is not counted.
#[derive(Debug, Default)]
pub struct Reloads {
    reloaded: AtomicU64,
    started: AtomicU64,
    failed: AtomicU64,
}

impl Reloads {
    pub(super) fn count(&self, result: &Result<Done, Error>) {
        let which = match result {
            Ok(Done::Started) => &self.started,
            Ok(_) => &self.reloaded,
            Err(_) => &self.failed,
        };
        which.fetch_add(1, Relaxed);
    }

    /// Each result, and how often it was had: `reloaded`; `started`, for a haproxy that did not run; `failed`.
    #[must_use]
    pub fn by_result(&self) -> [(&'static str, u64); 3] {
        let of = |result, count: &AtomicU64| (result, count.load(Relaxed));
        [of("reloaded", &self.reloaded), of("started", &self.started), of("failed", &self.failed)]
    }
}
