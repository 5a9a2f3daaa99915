//! `withdraw`: ends the speaker, for the unit `amphora-withdraw` as the machine goes down.
//!
//! Neither the end of the agent withdraws nor that of its services, so that they can be upgraded; a machine that goes down
//! has to, and before its load balancers end: its routes would otherwise lead clients to closed ports.

use std::{
    ffi::OsString,
    process::ExitCode,
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{
    deadman::{self, Lock},
    speaker,
};

/// How long an agent may take that is told to end at the same time; it gives its last requests 10 s.
const AGENT: Duration = Duration::from_secs(12);
/// An agent starts a speaker again in some ten milliseconds.
const LOOK: Duration = Duration::from_millis(50);

pub(super) fn run(_: &[OsString]) -> ExitCode {
    let Some(socket) = speaker::last() else { return ExitCode::SUCCESS };
    let begin = Instant::now();
    loop {
        // Asked before: what an agent has started until its end is stopped as well.
        let alone = !Lock::held(&deadman::agents_lock()).unwrap_or(false) || begin.elapsed() > AGENT;
        if let Err(error) = deadman::stop(&socket) {
            eprintln!("withdraw: the speaker behind {} cannot be stopped: {error}", socket.display());
            return ExitCode::FAILURE;
        }
        if alone {
            return ExitCode::SUCCESS;
        }
        sleep(LOOK);
    }
}
