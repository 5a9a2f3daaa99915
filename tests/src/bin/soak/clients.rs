//! Clients of the steady VIP, and why their requests fail.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use lab::load::Failure;
use lab::{Load, Result};

use crate::world::{Deed, Event, World};

/// Some 180 requests a second.
const CLIENTS: usize = 18;
const PAUSE: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(2);

/// How long after a haproxy was killed requests may begin that fail for it: the route is gone after some 50 ms.
const BY_A_KILL: Duration = Duration::from_secs(1);
/// How many may fail for one kill: fewer than one of three amphorae is asked in that time (some 60).
const FOR_A_KILL: usize = 50;
/// How long the call takes that reloads a haproxy, and how long after its end the old process still has connections.
const RELOAD: Duration = Duration::from_secs(1);
/// haproxy 2.6 itself, under no agent, resets one connection in some 600 reloads on a busy machine: docs/failures.md.
const FOR_A_RELOAD: usize = 1;
/// How long after the ToR has had other next hops, with what a look takes to see that.
const BY_OTHER_NEXT_HOPS: Duration = Duration::from_secs(1);
/// How much later than it happened a look may see it.
const SEEN_LATE: Duration = Duration::from_secs(1);

/// The clients, and what they had.
#[derive(Debug)]
pub(crate) struct Clients {
    load: Option<Load>,
    answered: usize,
    /// Not judged yet.
    pending: Vec<Failure>,
    /// By when the haproxy was killed.
    by_kills: BTreeMap<Instant, usize>,
    /// By when the reload's call ended.
    by_reloads: BTreeMap<Instant, usize>,
    by_next_hops: usize,
    unexplained: usize,
}

impl Clients {
    pub(crate) fn start(world: &World) -> Result<Self> {
        let load = Load::start(&world.fabric.client, World::targets(), CLIENTS, PAUSE, PATIENCE)?;
        let (answered, pending, by_kills, by_reloads, by_next_hops, unexplained) = Default::default();
        Ok(Self { load: Some(load), answered, pending, by_kills, by_reloads, by_next_hops, unexplained })
    }

    /// Judges what failed, but for the newest: what explains these may not have been seen yet.
    pub(crate) fn judge(&mut self, world: &World) {
        self.judge_until(world, Instant::now().checked_sub(2 * SEEN_LATE));
    }

    /// Stops the clients and judges the rest.
    pub(crate) fn end(&mut self, world: &World) {
        self.judge(world);
        if let Some(load) = self.load.take() {
            self.take(&load);
        }
        self.judge_until(world, None);
    }

    fn take(&mut self, load: &Load) {
        let outcome = load.take();
        self.answered += outcome.answers.values().sum::<usize>();
        self.pending.extend(outcome.failures);
    }

    fn judge_until(&mut self, world: &World, until: Option<Instant>) {
        if let Some(load) = self.load.take() {
            self.take(&load);
            self.load = Some(load);
        }
        let events = world.events();
        let (ripe, pending) =
            self.pending.drain(..).partition::<Vec<_>, _>(|failure| until.is_none_or(|until| failure.ended < until));
        self.pending = pending;
        for failure in ripe {
            match explain(&failure, &events) {
                Some(Event { deed: Deed::OtherNextHops, .. }) => self.by_next_hops += 1,
                Some(event) => self.count(world, event),
                None => {
                    self.unexplained += 1;
                    let at = failure.began.saturating_duration_since(world.start).as_secs_f64();
                    world.violation(&format!(
                        "a request to {} begun at {at:.2} s failed and nothing explains it: {}",
                        failure.to, failure.reason
                    ));
                }
            }
        }
    }
}

impl Clients {
    fn count(&mut self, world: &World, event: Event) {
        let (counts, most, what) = match event.deed {
            Deed::Reloaded => (&mut self.by_reloads, FOR_A_RELOAD, "reload"),
            _ => (&mut self.by_kills, FOR_A_KILL, "kill"),
        };
        let count = counts.entry(event.at).or_default();
        *count += 1;
        if *count == most + 1 {
            let at = event.at.saturating_duration_since(world.start).as_secs_f64();
            world.violation(&format!("more than {most} requests failed for one {what} of a haproxy at {at:.2} s"));
        }
    }
}

/// What happened shortly before the request or during it.
fn explain(failure: &Failure, events: &[Event]) -> Option<Event> {
    let met = |event: &&Event, within: Duration, late: Duration| {
        event.at <= failure.ended + late && failure.began <= event.at + within
    };
    let by = |deed: Deed, within: Duration, late: Duration| {
        events.iter().rev().filter(|event| event.deed == deed).find(|event| met(event, within, late)).copied()
    };
    by(Deed::HaproxyKilled, BY_A_KILL, Duration::ZERO)
        .or_else(|| by(Deed::Reloaded, RELOAD, RELOAD))
        .or_else(|| by(Deed::OtherNextHops, BY_OTHER_NEXT_HOPS, SEEN_LATE))
}

impl fmt::Display for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by_kills = self.by_kills.values().sum::<usize>();
        let by_reloads = self.by_reloads.values().sum::<usize>();
        let failed = by_kills + by_reloads + self.by_next_hops + self.unexplained;
        write!(
            f,
            "{} requests, {failed} failed: {by_kills} begun within {BY_A_KILL:?} of a haproxy's kill ({} for one at most), \
             {by_reloads} at a reload, {} when the ToR had other next hops, {} unexplained",
            self.answered + failed + self.pending.len(),
            self.by_kills.values().max().copied().unwrap_or_default(),
            self.by_next_hops,
            self.unexplained
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a deed at 10 s explains a request that failed, by when that began and ended in milliseconds.
    fn explains(deed: Deed) -> impl Fn(u64, u64) -> bool {
        let start = Instant::now();
        let ms = move |ms| start + Duration::from_millis(ms);
        let events = [Event { at: ms(10_000), deed, amphora: 1 }];
        move |began, ended| {
            let to = std::net::SocketAddr::from(([203, 0, 113, 7], 80));
            let failure = Failure { began: ms(began), ended: ms(ended), to, reason: "reset".to_owned() };
            explain(&failure, &events).is_some()
        }
    }

    #[test]
    fn a_kill_explains_what_it_met_and_what_began_soon_after() {
        let explained = explains(Deed::HaproxyKilled);
        assert!(explained(9_900, 10_001) && explained(10_900, 12_900));
        assert!(!explained(9_000, 9_999) && !explained(11_100, 11_200));
    }

    #[test]
    fn a_reload_explains_what_was_under_way_while_it_was_called() {
        let explained = explains(Deed::Reloaded);
        assert!(explained(9_700, 9_800) && explained(10_900, 10_950));
        assert!(!explained(8_900, 8_950) && !explained(11_100, 11_200));
    }
}
