//! The task that looks at what is being drained, and makes the next stage durable when its time has come.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bgp::Prefix;
use tokio::sync::watch;

use super::{
    Observed, View, left,
    look::{Accepted, Ends, Found, look},
    machine::{Seen, next},
};
use crate::{
    clock,
    config::Config,
    converge::Progress,
    crash,
    kernel::Kernel,
    owner::Owner,
    pulse::Pulse,
    state::{Change, Drain, Stage},
};

/// How often connections are counted while something is being drained.
const LOOK: Duration = Duration::from_millis(500);

/// The same while a stage that is over cannot be made durable; each attempt is an error in the log.
const HELD_UP: Duration = Duration::from_secs(10);

/// The task, ready to run.
#[derive(Debug)]
pub struct Drains {
    owner: Owner,
    progress: Progress,
    kernel: Kernel,
    config: watch::Receiver<Arc<Config>>,
    view: View,
    clocks: BTreeMap<Prefix, Clock>,
    /// What the namespace had accepted at the last look.
    accepted: Option<Accepted>,
    /// The connections could not be counted at the last look.
    blind: bool,
    /// The last stage that was over could not be made durable yet.
    held_up: bool,
}

/// What this agent knows of a drain's time, by the monotonic clock.
#[derive(Debug)]
struct Clock {
    drain: Drain,
    deadline: Instant,
    /// When the stage began.
    stage: Instant,
    /// When the stage began, a new client came, or the speaker was last out of reach.
    noise: Instant,
    newest: Option<Instant>,
    /// The connections at the last look; absent before the first.
    known: Option<HashSet<Ends>>,
    count: Option<u64>,
}

impl Clock {
    fn new(drain: &Drain, now: Instant) -> Self {
        let deadline = now + left(drain, clock::now());
        let (newest, known, count) = Default::default();
        Self { drain: drain.clone(), deadline, stage: now, noise: now, newest, known, count }
    }

    /// Follows what was committed.
    fn follow(&mut self, drain: &Drain, now: Instant) {
        if (self.drain.deadline, self.drain.timeout_s) != (drain.deadline, drain.timeout_s) {
            self.deadline = now + left(drain, clock::now());
        }
        if self.drain.stage != drain.stage {
            (self.stage, self.noise) = (now, now);
        }
        self.drain.clone_from(drain);
    }
}

impl Drains {
    /// The task, and the view on what it finds.
    #[must_use]
    pub fn new(owner: Owner, progress: Progress, kernel: Kernel, config: watch::Receiver<Arc<Config>>) -> (Self, View) {
        let view = View::default();
        let (clocks, accepted, blind, held_up) = Default::default();
        (Self { owner, progress, kernel, config, view: view.clone(), clocks, accepted, blind, held_up }, view)
    }

    /// Runs as long as the agent does.
    pub async fn run(mut self, pulse: Pulse) {
        let mut commits = self.progress.generations();
        loop {
            pulse.works();
            let held = self.held();
            if !held.is_empty() {
                self.follow(&held);
                let found = self.look(&held).await;
                self.count(found);
                let ended = self.ended();
                self.tell();
                self.commit(ended).await;
            } else if !self.clocks.is_empty() {
                self.clocks.clear();
                self.tell();
            }
            pulse.waits();
            let active = held.values().any(|drain| drain.stage != Stage::Drained);
            let again = tokio::time::Instant::now() + if self.held_up { HELD_UP } else { LOOK };
            loop {
                tokio::select! {
                    () = tokio::time::sleep_until(again), if active => break,
                    changed = commits.changed() => match changed {
                        Err(_) => return, // the converging task is gone, and with it the agent
                        Ok(()) if self.held() != held => break,
                        Ok(()) => {}
                    }
                }
            }
        }
    }

    fn held(&self) -> BTreeMap<Prefix, Drain> {
        self.owner.shared().read(|desired| desired.drains.clone())
    }

    fn follow(&mut self, held: &BTreeMap<Prefix, Drain>) {
        let now = Instant::now();
        self.clocks.retain(|vip, _| held.contains_key(vip));
        for (vip, drain) in held {
            self.clocks.entry(*vip).or_insert_with(|| Clock::new(drain, now)).follow(drain, now);
        }
    }

    /// Looks at this amphora's VIPs that are plugged; the connections of the others are elsewhere.
    async fn look(&mut self, held: &BTreeMap<Prefix, Drain>) -> Option<(BTreeSet<IpAddr>, Found)> {
        let plugged = |vip: &IpAddr| self.owner.shared().read(|desired| desired.plug_of(*vip).is_some());
        let own = held.values().filter(|drain| drain.own).map(|drain| drain.vip.address());
        let here: BTreeSet<IpAddr> = own.filter(plugged).collect();
        let (inside, vips) = (self.kernel.inside().namespace().clone(), here.clone());
        let base = self.config.borrow().paths.base.clone();
        let found = tokio::task::spawn_blocking(move || look(&inside, &base, &vips)).await;
        match found.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())) {
            Ok(found) => {
                if std::mem::take(&mut self.blind) {
                    tracing::info!("the connections of what is being drained can be counted again");
                }
                Some((here, found))
            }
            Err(error) => {
                if !std::mem::replace(&mut self.blind, true) {
                    tracing::warn!(error, "the connections of what is being drained cannot be counted");
                }
                None
            }
        }
    }

    /// Counts what was found, and notes who is new.
    fn count(&mut self, found: Option<(BTreeSet<IpAddr>, Found)>) {
        let now = Instant::now();
        let Some((here, found)) = found else {
            for clock in self.clocks.values_mut() {
                (clock.count, clock.noise) = (None, now);
            }
            return;
        };
        // A connection that came and went between two looks has only been counted. Less those that are to no VIP, it is
        // clear whose it was where every VIP here is being drained.
        let came = found.accepted.as_ref().zip(self.accepted.as_ref());
        let came = came.is_some_and(|(now, earlier)| now.a_client_since(earlier));
        self.accepted.clone_from(&found.accepted);
        let every = |ip| self.clocks.keys().any(|vip| vip.address() == ip);
        let all = self.owner.shared().read(|d| d.plugs.values().flat_map(|p| &p.vips).all(|v| every(v.ip)));
        for (vip, clock) in &mut self.clocks {
            let ip = vip.address();
            if !here.contains(&ip) {
                continue;
            }
            let of = || found.connections.iter().filter(|c| c.local.ip() == ip);
            let ends: HashSet<Ends> = of().map(|c| (c.remote, c.local)).collect();
            let new = clock.known.as_ref().is_some_and(|known| (came && all) || !ends.is_subset(known));
            if new {
                (clock.newest, clock.noise) = (Some(now), now);
            }
            clock.known = Some(ends);
            let open = of().filter(|c| c.open).count() as u64;
            clock.count = (!found.uncounted.contains(&ip)).then_some(open);
        }
    }

    /// The drains whose stage is over, as they are and as they shall be.
    fn ended(&mut self) -> Vec<(Drain, Drain)> {
        let now = Instant::now();
        let bgp = self.config.borrow().bgp.is_some();
        let (announced, absent) =
            self.progress.read(|report| (report.announced.clone(), bgp && report.speaker.is_some()));
        let mut ended = Vec::new();
        for (vip, clock) in &mut self.clocks {
            if absent {
                clock.noise = now; // the peers may not have been told yet
            }
            let seen = Seen {
                left: clock.deadline.saturating_duration_since(now),
                in_stage: now.duration_since(clock.stage),
                quiet: now.duration_since(clock.noise),
                connections: clock.count,
                announced: absent || announced.contains(vip),
            };
            if let Some(stage) = next(&clock.drain, &seen) {
                if !self.held_up {
                    tracing::info!(vip = %vip.address(), ?stage, ?seen, "a stage of a drain is over");
                }
                ended.push((clock.drain.clone(), Drain { stage, since: clock::now(), ..clock.drain.clone() }));
            }
        }
        ended
    }

    fn tell(&self) {
        let observed = |clock: &Clock| Observed {
            // Nobody looks any more.
            connections: clock.count.filter(|_| clock.drain.stage != Stage::Drained),
            newest: clock.newest,
            deadline: clock.deadline,
            held: clock.drain.deadline,
        };
        self.view.set(self.clocks.iter().map(|(vip, clock)| (*vip, observed(clock))).collect());
    }

    /// Makes the next stages durable, of those that nobody has cancelled or changed meanwhile.
    async fn commit(&mut self, ended: Vec<(Drain, Drain)>) {
        if ended.is_empty() {
            self.held_up = false;
            return;
        }
        crash::point("drain: a stage is over");
        let committed = self.owner.commit(move |desired| {
            let same = |(is, _): &&(Drain, Drain)| desired.drains.get(&is.vip) == Some(is);
            Ok(ended.iter().filter(same).map(|(_, next)| Change::Drain(next.clone())).collect())
        });
        match committed.await {
            Ok(_) => self.held_up = false,
            Err(error) => {
                if !std::mem::replace(&mut self.held_up, true) {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "a drain's next stage could not be made durable; trying again");
                }
            }
        }
    }
}
