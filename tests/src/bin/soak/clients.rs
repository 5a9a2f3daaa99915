//! Clients of the steady VIP, and why their requests fail.

use std::fmt;
use std::time::{Duration, Instant};

use lab::load::Failure;
use lab::{Load, Result};

use crate::world::{Deed, Event, World};

/// Some 180 requests a second.
const CLIENTS: usize = 18;
const PAUSE: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(2);

/// How long after a haproxy was killed requests may fail for it.
const BY_A_KILL: Duration = Duration::from_secs(5);
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
    by_kills: usize,
    by_next_hops: usize,
    unexplained: usize,
}

impl Clients {
    pub(crate) fn start(world: &World) -> Result<Self> {
        let load = Load::start(&world.fabric.client, World::targets(), CLIENTS, PAUSE, PATIENCE)?;
        let (answered, pending, by_kills, by_next_hops, unexplained) = Default::default();
        Ok(Self { load: Some(load), answered, pending, by_kills, by_next_hops, unexplained })
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
                Some(Deed::OtherNextHops) => self.by_next_hops += 1,
                Some(_) => self.by_kills += 1,
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

/// What happened shortly before the request or during it.
fn explain(failure: &Failure, events: &[Event]) -> Option<Deed> {
    let met = |event: &&Event, within: Duration, late: Duration| {
        event.at <= failure.ended + late && failure.began <= event.at + within
    };
    let by = |deed: Deed, within: Duration, late: Duration| {
        events.iter().rev().filter(|event| event.deed == deed).find(|event| met(event, within, late)).map(|e| e.deed)
    };
    by(Deed::HaproxyKilled, BY_A_KILL, Duration::ZERO)
        .or_else(|| by(Deed::OtherNextHops, BY_OTHER_NEXT_HOPS, SEEN_LATE))
}

impl fmt::Display for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = self.by_kills + self.by_next_hops + self.unexplained;
        write!(
            f,
            "{} requests, {failed} failed: {} within {BY_A_KILL:?} of a haproxy's kill, {} when the ToR had other next hops, \
             {} unexplained",
            self.answered + failed + self.pending.len(),
            self.by_kills,
            self.by_next_hops,
            self.unexplained
        )
    }
}
