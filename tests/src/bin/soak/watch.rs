//! The promise, looked at from the ToR's side all the time: where its kernel has a route, the VIP is bound, and somebody
//! listens.
//!
//! A look is: what is bound, then the ToR's routes, then what is bound again. A VIP that was unbound before *and* after a
//! route was seen was unbound while it was there: nobody binds, announces, withdraws and unbinds within a look. A look
//! follows every event of either kernel at once, and besides each 250 ms; so a route that outlives its VIP by more than
//! a look takes is seen.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use lab::addresses::ANYCAST;
use lab::amphora::HAPROXY_NETNS;
use lab::routes::{self, RouteWatch};
use lab::{Family, TorKind};
use netns::{Namespace, Network};

use crate::Result;
use crate::world::{AMPHORAE, BOTH, Deed, Which, World, hop};

const AT_LEAST_EACH: Duration = Duration::from_millis(250);
/// How long a route may lead to an amphora where nothing listens on the VIP.
pub(crate) const DEAF: Duration = Duration::from_secs(5);
/// The same where nobody was there to see or to say it: since its agent or its speaker was killed, or the agent came back.
pub(crate) const DEAF_AFTER_A_KILL: Duration = Duration::from_secs(20);
/// How soon after a kill of haproxy the ToR may lose a next hop of the steady VIP.
pub(crate) const LOST_WITHIN: Duration = Duration::from_secs(5);
/// What FRR itself takes from an UPDATE to the kernel's route, on a busy machine: so long it may lag behind what it was told.
const FRR_LAGS: Duration = Duration::from_millis(500);

/// What was seen besides.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// The longest time a route led to an amphora where nothing listened, without and with a kill of agent or speaker.
    pub(crate) deaf: [Duration; 2],
    /// How often a VIP was unbound.
    pub(crate) unbound: usize,
}

/// A route of the ToR's, as an amphora's: the VIP, and whose.
type Routed = (IpAddr, usize);

struct Watcher<'a> {
    world: &'a World,
    amphorae: Vec<(Namespace, Network)>,
    runtime: tokio::runtime::Runtime,
    routed: BTreeSet<Routed>,
    unbound_since: BTreeMap<Routed, Instant>,
    deaf_since: BTreeMap<Routed, Instant>,
    seen: Seen,
}

/// Looks until the soak is over.
pub(crate) fn run(world: &World) -> Result<Seen> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut amphorae = Vec::new();
    for index in 0..AMPHORAE {
        let path = format!("/proc/{}/root/run/netns/{HAPROXY_NETNS}", world.amphora(index).node().pid());
        let namespace = Namespace::open(Path::new(&path))?;
        let network = runtime.block_on(async { namespace.network() })?;
        amphorae.push((namespace, network));
    }
    let routes = world.tor().watch_routes()?;
    let inside = (0..AMPHORAE).map(|index| RouteWatch::start(&world.amphora(index).haproxy_netns()?));
    let inside = inside.collect::<lab::Result<Vec<_>>>()?;
    let (routed, unbound_since, deaf_since, seen) = Default::default();
    let mut watcher = Watcher { world, amphorae, runtime, routed, unbound_since, deaf_since, seen };
    let passing = BOTH.map(|family| format!(" {} ", Which::Passing.vip().of(family)));
    let mut last = Instant::now().checked_sub(AT_LEAST_EACH).unwrap_or_else(Instant::now);
    while !world.is_over() {
        let of_tor = routes.so_far();
        let unbinds = |line: &str| line.starts_with("Deleted local ") && passing.iter().any(|vip| line.contains(vip));
        let unbound = inside.iter().flat_map(RouteWatch::so_far).filter(|event| unbinds(&event.line)).count();
        if of_tor.is_empty() && unbound == 0 && last.elapsed() < AT_LEAST_EACH {
            thread::sleep(Duration::from_millis(5));
            continue;
        }
        last = Instant::now();
        watcher.look()?;
        watcher.seen.unbound += unbound;
    }
    Ok(watcher.seen)
}

impl Watcher<'_> {
    fn bound(&self, index: usize) -> Result<BTreeSet<IpAddr>> {
        let addresses = self.runtime.block_on(self.amphorae[index].1.addresses())?;
        Ok(addresses.into_iter().map(|address| address.ip).collect())
    }

    fn all_bound(&self) -> Result<Vec<BTreeSet<IpAddr>>> {
        (0..AMPHORAE).map(|index| self.bound(index)).collect()
    }

    fn look(&mut self) -> Result<()> {
        let before = self.all_bound()?;
        let mut now = BTreeSet::new();
        for family in BOTH {
            for (vip, hops) in routes::inside(self.world.tor().node(), ANYCAST.of(family))? {
                now.extend(hops.into_iter().map(|hop| (vip, whose(hop, vip, family))));
            }
        }
        let at = Instant::now();
        let after = self.all_bound()?;
        let listening =
            self.amphorae.iter().map(|(namespace, _)| namespace.listening()).collect::<netns::Result<Vec<_>>>()?;
        self.world.count(|tally| tally.looks += 1);

        for (vip, whose) in &now {
            let Some(index) = *whose else {
                self.world.violation(&format!("the ToR routes {vip} to a next hop that is nobody's"));
                continue;
            };
            let (vip, of) = (*vip, (*vip, index));
            let unbound = !before[index].contains(&vip) && !after[index].contains(&vip);
            self.judge_unbound(of, unbound, at);
            let deaf = !listening[index].iter().any(|socket| socket.ip() == vip);
            self.judge_deaf(of, deaf, at);
        }
        let now: BTreeSet<Routed> = now.into_iter().filter_map(|(vip, whose)| Some((vip, whose?))).collect();
        self.unbound_since.retain(|of, _| now.contains(of));
        self.deaf_since.retain(|of, _| now.contains(of));
        for of in self.routed.difference(&now).copied().collect::<Vec<_>>() {
            self.routed.remove(&of);
            self.changed(of, true);
        }
        for of in now {
            if self.routed.insert(of) {
                self.changed(of, false);
            }
        }
        Ok(())
    }

    fn judge_unbound(&mut self, of: Routed, unbound: bool, at: Instant) {
        if !unbound {
            self.unbound_since.remove(&of);
            return;
        }
        let since = *self.unbound_since.entry(of).or_insert(at);
        // FRR's kernel may have a route that FRR has been told to take away.
        let lag = if self.world.tor().options().kind == TorKind::Frr { FRR_LAGS } else { Duration::ZERO };
        if at - since >= lag {
            let name = self.world.amphora(of.1).name();
            self.world.violation(&format!("the ToR routes {} to {name}, where it is not bound", of.0));
        }
    }

    fn judge_deaf(&mut self, of: Routed, deaf: bool, at: Instant) {
        if !deaf {
            self.deaf_since.remove(&of);
            return;
        }
        let first = !self.deaf_since.contains_key(&of);
        let since = *self.deaf_since.entry(of).or_insert(at);
        let lasts = at - since;
        let kills = [Deed::AgentKilled, Deed::AgentBack, Deed::SpeakerKilled];
        let (kind, limit) = deaf_limit(&self.world.each(of.1, &kills), since);
        self.seen.deaf[kind] = self.seen.deaf[kind].max(lasts);
        if lasts > limit && !first {
            let name = self.world.amphora(of.1).name();
            self.world
                .violation(&format!("the ToR has routed {} to {name} for {lasts:.1?}, where nothing listens", of.0));
            self.deaf_since.insert(of, at); // said again when it lasts as long again
        }
    }

    /// The ToR has lost or found a next hop.
    fn changed(&mut self, (vip, index): Routed, lost: bool) {
        if BOTH.iter().all(|family| Which::Steady.vip().of(*family) != vip) {
            return;
        }
        self.world.note(Deed::OtherNextHops, index);
        let killed = self.world.last(index, &[Deed::HaproxyKilled]);
        if lost && killed.is_none_or(|at| at.elapsed() > LOST_WITHIN) {
            let name = self.world.amphora(index).name();
            self.world.violation(&format!("the ToR lost the route of {vip} to {name}, whose haproxy nobody killed"));
        }
    }
}

/// How long a route may lead to where nothing has listened since then, and whether that is for a kill. The first that counts
/// is the one: later ones excuse no amphora that has been deaf all the time.
fn deaf_limit(kills: &[Instant], since: Instant) -> (usize, Duration) {
    let counts = |killed: &&Instant| **killed + DEAF_AFTER_A_KILL > since && **killed < since + DEAF;
    match kills.iter().find(counts) {
        None => (0, DEAF),
        Some(killed) => (1, DEAF_AFTER_A_KILL + killed.saturating_duration_since(since)),
    }
}

/// The amphora that has this next hop for this VIP.
fn whose(next_hop: IpAddr, vip: IpAddr, family: Family) -> Option<usize> {
    let which = if Which::Steady.vip().of(family) == vip { Which::Steady } else { Which::Passing };
    (0..AMPHORAE).find(|index| hop(*index, which, family) == next_hop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deaf_amphora_is_excused_by_the_first_kill_and_not_by_those_that_follow() {
        const S: Duration = Duration::from_secs(1);
        let start = Instant::now();
        let since = start + 30 * S;
        assert_eq!(deaf_limit(&[], since), (0, DEAF));
        assert_eq!(deaf_limit(&[start + 5 * S], since), (0, DEAF), "long before");
        assert_eq!(deaf_limit(&[start + 20 * S], since), (1, DEAF_AFTER_A_KILL));
        let kills = [start, start + 32 * S, start + 45 * S, start + 60 * S];
        assert_eq!(deaf_limit(&kills, since), (1, DEAF_AFTER_A_KILL + 2 * S));
        assert_eq!(deaf_limit(&kills[2..], since), (0, DEAF), "it had been deaf for too long by then");
    }
}
