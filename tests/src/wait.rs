//! Waiting for what the lab cannot be told of.

use std::fmt::Display;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

const INTERVAL: Duration = Duration::from_millis(5);

/// Looks until `look` answers `Ok`, and returns its value with the time it took (to within 5 ms and one look).
///
/// # Errors
/// [`Error::Deadline`] with what the last look saw: `look`'s `Err` says how things are instead.
pub fn wait_for<T, E: Display>(
    what: &str,
    within: Duration,
    mut look: impl FnMut() -> Result<T, E>,
) -> Result<(T, Duration)> {
    let start = Instant::now();
    loop {
        match look() {
            Ok(value) => return Ok((value, start.elapsed())),
            Err(last) if start.elapsed() >= within => {
                return Err(Error::Deadline { what: what.into(), within, last: last.to_string() });
            }
            Err(_) => thread::sleep(INTERVAL),
        }
    }
}
