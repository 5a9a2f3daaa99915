//! Draining a VIP of an amphora: what follows when after a call that is durable (`Change::Drain`).
//!
//! ```text
//!   call ──► deprefer ───────────────► withdrawn ───────────► drained
//!            announced, less           bound, not             neither
//!            preferred                 announced
//! ```
//!
//! The boundary is here so that time is apart from everything else: [`machine`] says what a stage's end is, without clock;
//! [`look`] counts connections; the task brings both together and commits the next stage, and that is all it does. What a
//! stage means for kernel and speaker is [`crate::resolve`]'s, and in which order it is reached [`crate::plan`]'s. A call
//! that cancels forgets the drain, and with it everything is as it was.
//!
//! Time: the deadline is durable as a moment of the wall's clock, for a reboot has no other. A running agent goes by the
//! monotonic clock, so a clock that is set while it runs moves nothing. At its start it takes what is left by the wall's
//! clock, never more than the `timeout_s` of the call: a clock that has gone backwards delays the end by that at most,
//! one that has gone ahead ends the waiting.

mod look;
pub mod machine;
mod task;

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use bgp::Prefix;
pub use task::Drains;

use crate::{
    clock,
    converge::Report,
    state::{Drain, Stage},
};

/// How far the shown deadline may be off before the clock is held to have been set, in seconds.
const CLOCK_WAS_SET: u64 = 2;

/// What the last look at a VIP that is being drained found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Connections of clients; `None` where nobody can know.
    pub connections: Option<u64>,
    /// When the last new client came, by this agent's knowledge, since the drain began or the agent started.
    pub newest: Option<Instant>,
    /// When connections are waited for no longer.
    pub deadline: Instant,
    /// The same as it is held, when this was found.
    pub held: u64,
}

/// The drains as they are seen, for the API.
#[derive(Clone, Debug, Default)]
pub struct View(Arc<RwLock<BTreeMap<Prefix, Observed>>>);

impl View {
    /// What the last look at a VIP found.
    #[must_use]
    pub fn of(&self, vip: &Prefix) -> Option<Observed> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(vip).cloned()
    }

    fn set(&self, observed: BTreeMap<Prefix, Observed>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = observed;
    }
}

impl Observed {
    /// When connections are waited for no longer, in seconds since 1970, as the wall's clock goes now.
    #[must_use]
    pub fn deadline(&self, drain: &Drain) -> u64 {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || self.held != drain.deadline {
            return drain.deadline;
        }
        let shown = clock::now() + left.as_secs();
        if shown.abs_diff(drain.deadline) > CLOCK_WAS_SET { shown } else { drain.deadline }
    }
}

/// Why the VIP of a drain that is through is still bound here; `None` where it is not, or the drain is not through.
#[must_use]
pub fn still_bound(drain: &Drain, report: &Report) -> Option<String> {
    let vip = drain.vip.address();
    if !drain.own || drain.stage != Stage::Drained || report.bound.as_ref().is_some_and(|bound| !bound.contains(&vip)) {
        return None;
    }
    Some(report.lingering.get(&vip).cloned().unwrap_or_else(|| "it is being unbound".to_owned()))
}

/// The stage as it is told: `drained` only when the VIP is off `lo`, for that may take as long as a peer may hold the route.
#[must_use]
pub fn told(drain: &Drain, report: &Report) -> Stage {
    if still_bound(drain, report).is_some() { Stage::Withdrawn } else { drain.stage }
}

/// What is left of a drain's time when it is first met, by the wall's clock `now`.
#[must_use]
fn left(drain: &Drain, now: u64) -> Duration {
    Duration::from_secs(drain.deadline.saturating_sub(now).min(drain.timeout_s.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(deadline: u64) -> Drain {
        Drain {
            vip: Prefix::try_from(std::net::IpAddr::from([203, 0, 113, 7])).unwrap(),
            amphora: "me".into(),
            own: true,
            stage: Stage::Deprefer,
            since: 1_000,
            deadline,
            timeout_s: 300,
            max_connections: 0,
        }
    }

    #[test]
    fn the_shown_deadline_follows_a_clock_that_is_set_and_a_call_with_other_numbers() {
        let (now, deadline) = (clock::now(), Instant::now() + Duration::from_secs(100));
        let at = |held: u64, of: u64| {
            let seen = Observed { connections: None, newest: None, deadline, held };
            seen.deadline(&drain(of))
        };
        assert_eq!(at(now + 100, now + 100), now + 100);
        assert_eq!(at(now + 100, now + 900), now + 900, "a newer call");
        let set = at(now + 5_000, now + 5_000);
        assert!((now + 98..=now + 102).contains(&set), "{set}");
    }

    #[test]
    fn a_vip_that_a_peer_may_hold_is_not_told_to_be_drained_before_it_is_unbound() {
        let drained = Drain { stage: Stage::Drained, ..drain(1_300) };
        let vip = drained.vip.address();
        let mut report = Report::default();
        assert_eq!(told(&drained, &report), Stage::Withdrawn, "nobody has looked yet");
        report.bound = Some([vip].into());
        report.lingering.insert(vip, "tor-a may hold it".to_owned());
        assert_eq!(still_bound(&drained, &report).unwrap(), "tor-a may hold it");
        assert_eq!(told(&drained, &report), Stage::Withdrawn);
        assert_eq!(told(&Drain { own: false, ..drained.clone() }, &report), Stage::Drained, "it is bound elsewhere");
        assert_eq!(told(&drain(1_300), &report), Stage::Deprefer);
        (report.bound, report.lingering) = (Some([].into()), [].into());
        assert_eq!((told(&drained, &report), still_bound(&drained, &report)), (Stage::Drained, None));
    }

    #[test]
    fn what_is_left_after_a_reboot_is_never_more_than_what_was_asked_for() {
        let drain = drain(1_300);
        for (now, seconds) in [(1_000, 300), (1_100, 200), (1_300, 0), (9_999, 0), (0, 300)] {
            assert_eq!(left(&drain, now), Duration::from_secs(seconds), "{now}");
        }
    }
}
