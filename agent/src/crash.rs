//! Points at which a test can kill the agent.
//!
//! Built only with the feature `crash-points`; a release has none of it. The lab starts the agent with
//! `AMPHORA_AGENT_CRASH_AT=n`: the n-th point reached ends the process as `kill -9` would, with nothing
//! flushed and no destructor run. Counting instead of naming makes a test walk through every step there
//! is, also those written later. With `AMPHORA_AGENT_CRASH_BUT=prefix` points of such names are not counted: what the
//! agent does beside a call passes them now sooner, now later.

/// The agent may die here.
#[cfg(feature = "crash-points")]
pub(crate) fn point(name: &str) {
    use std::sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    };

    static AT: LazyLock<Option<u64>> = LazyLock::new(|| std::env::var("AMPHORA_AGENT_CRASH_AT").ok()?.parse().ok());
    static BUT: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("AMPHORA_AGENT_CRASH_BUT").ok());
    static REACHED: AtomicU64 = AtomicU64::new(0);

    let Some(at) = *AT else { return };
    if BUT.as_ref().is_some_and(|prefix| name.starts_with(prefix)) {
        return;
    }
    if REACHED.fetch_add(1, Ordering::SeqCst) + 1 == at {
        eprintln!("crash point {at}: {name}");
        let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
    }
}

/// Nothing, in a release.
#[cfg(not(feature = "crash-points"))]
pub(crate) fn point(_name: &str) {}
