//! When a stage of a drain is over: a pure function of what is seen.

use std::time::Duration;

use crate::state::{Drain, Stage};

/// For how long no new client may have come before a less preferred route is withdrawn; also the least that a route is less
/// preferred. A ToR moves its clients within milliseconds (BIRD) or some 60 (FRR) of the UPDATE; behind it are routers that
/// tell each other at intervals, of 5 s within an AS (RFC 4271, section 9.2.1.1, suggested `MinRouteAdvertisementInterval`).
/// Clients that are quiet for so long are taken to be elsewhere, also where nobody else is left for them.
pub const SETTLE: Duration = Duration::from_secs(5);
/// How long a VIP stays bound at least after it was withdrawn, for routers that have yet to hear of it and packets that are
/// on their way.
pub const GRACE: Duration = Duration::from_secs(1);

/// What is seen of a VIP that is being drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Until connections are waited for no longer; zero from then on.
    pub left: Duration,
    /// Since the stage began, by this agent's knowledge.
    pub in_stage: Duration,
    /// Since the stage began, the last new client came, or the speaker was last out of reach.
    pub quiet: Duration,
    /// Connections of clients; `None` where nobody can know: another amphora's, or the kernel does not say.
    pub connections: Option<u64>,
    /// The speaker announces it, or cannot be asked.
    pub announced: bool,
}

/// The stage that follows now, if one does.
#[must_use]
pub fn next(drain: &Drain, seen: &Seen) -> Option<Stage> {
    let few = seen.connections.is_some_and(|n| n <= drain.max_connections.into());
    match drain.stage {
        Stage::Deprefer if seen.left.is_zero() || (few && seen.quiet >= SETTLE) => Some(Stage::Withdrawn),
        Stage::Withdrawn if seen.announced || seen.in_stage < GRACE => None,
        Stage::Withdrawn if seen.left.is_zero() || few => Some(Stage::Drained),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
