//! Which routers may hold a route of ours although the speaker announces it no more.
//!
//! A withdrawal reaches a router by its session. One whose session ended without a word keeps our routes until it
//! notices (the hold time, RFC 4271 section 4.2) and, with graceful restart, for the restart time from then on (RFC
//! 4724, section 4.2), unless a new session tells it all there is first. gobgpd knows nothing of this, nor of the peers
//! it had before it restarted or before `[bgp_peer:NAME]` sections went; so what they were promised is remembered here.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant, SystemTime},
};

use bgp::{Peer, PeerDiff, PeerId, RestartTime, Session, SessionState};

use super::age::Clock;

/// A session this old has seen the End-of-RIB, which gobgpd defers by a second; its ages are cut to whole seconds.
pub(super) const TOLD: Duration = Duration::from_secs(3);
/// What gobgpd cuts off its times.
const SECOND: Duration = Duration::from_secs(1);

/// The routers that were set up as peers, now or not long ago.
#[derive(Debug, Default)]
pub(super) struct Holders {
    peers: BTreeMap<IpAddr, Holder>,
    /// When the gobgpd began whose sessions this agent has set up, all of them.
    pub(super) set_up_for: Option<SystemTime>,
    pub(super) clock: Clock,
}

#[derive(Debug)]
struct Holder {
    id: PeerId,
    /// When gobgpd's neighbor was made, or taken away, or first seen; what sessions there were before, nobody can tell.
    made: Instant,
    /// How long it may keep what it heard before that.
    before: Duration,
    /// How long it may keep what it hears from then on; `None` once it is no peer any more.
    keeps: Option<Duration>,
}

/// How long a router may keep the routes of a session that gobgpd has lost.
fn keeps(peer: &Peer, restart: Option<RestartTime>) -> Duration {
    let restart = restart.map_or(0, RestartTime::seconds);
    Duration::from_secs(u64::from(peer.hold_time.seconds()) + u64::from(restart)) + TOLD
}

/// What is known of a session, as ages.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// For how long it has been up, if it is.
    up: Option<Duration>,
    /// How long ago it last went down, if it ever did.
    fell: Option<Duration>,
}

impl Seen {
    fn of(session: &Session, clock: &mut Clock) -> Self {
        let mut age = |at: SystemTime| clock.age_at_least(at);
        let up = session.state == SessionState::Established;
        Self { up: session.since.filter(|_| up).map(&mut age), fell: session.last_down.map(&mut age) }
    }
}

impl Holder {
    /// Whether it may hold a route that was first announced `exposed` ago, before anybody remembers without.
    fn may_hold(&self, exposed: Option<Duration>, seen: Seen) -> bool {
        if seen.up.is_some_and(|up| up >= TOLD) {
            return false;
        }
        // What it heard after that moment, it heard in the session that is up now, or not at all.
        let heard_before = |age: Duration| exposed.is_none_or(|exposed| exposed + SECOND > age);
        let made = self.made.elapsed();
        let kept = |fell: Duration| self.keeps.is_some_and(|keeps| fell <= keeps) && heard_before(fell);
        (made <= self.before && heard_before(made)) || seen.fell.is_some_and(kept)
    }

    /// A new neighbor in place of the old, or none at all.
    fn becomes(&mut self, keeps: Option<Duration>) {
        let earlier = if self.made.elapsed() <= self.before { self.before } else { Duration::ZERO };
        self.before = earlier.max(self.keeps.unwrap_or_default());
        (self.made, self.keeps) = (Instant::now(), keeps);
    }
}

impl Holders {
    /// The sessions have been set up.
    pub(super) fn set_up(&mut self, peers: &[Peer], restart: Option<RestartTime>, difference: &PeerDiff) {
        self.peers.retain(|_, holder| holder.keeps.is_some() || holder.made.elapsed() <= holder.before);
        let gone = |address: &IpAddr| peers.iter().all(|peer| peer.address != *address);
        for holder in self.peers.iter_mut().filter(|(a, h)| gone(a) && h.keeps.is_some()).map(|(_, h)| h) {
            holder.becomes(None);
        }
        for peer in peers {
            let (id, keeps) = (&peer.id, keeps(peer, restart));
            let new = || Holder { id: id.clone(), made: Instant::now(), before: keeps, keeps: Some(keeps) };
            let holder = self.peers.entry(peer.address).or_insert_with(new);
            if !difference.kept.contains(id) || holder.keeps.is_none() {
                holder.becomes(Some(keeps));
            }
            holder.id.clone_from(id);
        }
    }

    /// Some of the sessions have been set up, and nobody can tell which.
    pub(super) fn set_up_in_part(&mut self) {
        self.peers.values_mut().for_each(|holder| holder.becomes(holder.keeps));
    }

    /// A router that may hold one of the routes that were first announced `exposed` ago, and why.
    pub(super) fn of(&mut self, sessions: &[Session], exposed: &[Option<Duration>]) -> Option<String> {
        self.clock.retain(|at| sessions.iter().any(|s| [s.since, s.last_down].contains(&Some(at))));
        let seen: BTreeMap<_, _> = sessions.iter().map(|s| (s.address, Seen::of(s, &mut self.clock))).collect();
        self.peers.iter().find_map(|(address, holder)| {
            let session = seen.get(address);
            // A peer without a neighbor is about to be set up again.
            let unknown = session.is_none() && holder.keeps.is_some();
            let seen = session.copied().filter(|_| holder.keeps.is_some()).unwrap_or_default();
            let holds = unknown || exposed.iter().any(|exposed| holder.may_hold(*exposed, seen));
            let keeps = holder.before.max(holder.keeps.unwrap_or_default()).as_secs();
            let (id, how) = (&holder.id, if seen.up.is_some() { "is being told anew" } else { "has no session" });
            holds.then(|| {
                format!("{id} ({address}) {how} and may keep its route for up to {keeps} s after the last one")
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEPS: Duration = Duration::from_secs(42);

    fn holder(made: u64) -> Holder {
        let made = Instant::now().checked_sub(Duration::from_secs(made)).unwrap();
        Holder { id: "a".parse().unwrap(), made, before: KEEPS, keeps: Some(KEEPS) }
    }

    fn seconds(age: u64) -> Duration {
        Duration::from_secs(age)
    }

    #[test]
    fn a_router_is_cleared_by_a_session_that_told_it_all_or_by_time() {
        let old = holder(1000);
        let seen = |up: Option<u64>, fell: Option<u64>| Seen { up: up.map(seconds), fell: fell.map(seconds) };
        for (what, exposed, seen, holds) in [
            ("up for long", None, seen(Some(900), None), false),
            ("up again, not told all", None, seen(Some(1), Some(10)), true),
            ("up again, told all", None, seen(Some(3), Some(10)), false),
            ("announced only since it came up", Some(5), seen(Some(2), Some(20)), false),
            ("just lost", Some(500), seen(None, Some(0)), true),
            ("still in its time", Some(500), seen(None, Some(42)), true),
            ("down for good", Some(500), seen(None, Some(43)), false),
            ("announced only since it went down", Some(10), seen(None, Some(30)), false),
            ("never up", Some(500), seen(None, None), false),
        ] {
            assert_eq!(old.may_hold(exposed.map(seconds), seen), holds, "{what}");
        }
        let restarted = holder(10);
        assert!(restarted.may_hold(None, seen(None, None)), "it may know of an earlier life");
        assert!(restarted.may_hold(Some(seconds(500)), seen(Some(2), None)));
        assert!(!restarted.may_hold(Some(seconds(5)), seen(None, None)), "announced only since");
    }

    #[test]
    fn what_a_peer_was_promised_is_remembered_when_it_goes_or_is_promised_less() {
        let a = Peer {
            id: "a".parse().unwrap(),
            address: "192.0.2.1".parse().unwrap(),
            remote_as: 64500.try_into().unwrap(),
            password: None,
            distance: bgp::Distance::Default,
            hold_time: 9.try_into().unwrap(),
            keepalive: 3,
            passive: false,
            local_address: None,
            families: vec![bgp::Family::Ipv4],
            connect_retry: SECOND,
            bfd: None,
            attributes: bgp::Attributes::default(),
        };
        let restart = RestartTime::try_from(30).ok();
        let added = PeerDiff { added: vec![a.id.clone()], ..PeerDiff::default() };
        let mut holders = Holders::default();
        holders.set_up(std::slice::from_ref(&a), restart, &added);
        let long = keeps(&a, restart);
        assert!(long > keeps(&a, None));
        holders.set_up(std::slice::from_ref(&a), None, &PeerDiff::default());
        let held = &holders.peers[&a.address];
        assert_eq!((held.before, held.keeps), (long, Some(keeps(&a, None))));
        holders.set_up(&[], None, &PeerDiff::default());
        let held = &holders.peers[&a.address];
        assert_eq!((held.before, held.keeps), (long, None));
        assert!(holders.of(&[], &[None]).unwrap().contains("192.0.2.1"));
        assert_eq!(holders.of(&[], &[]), None);
        holders.peers.get_mut(&a.address).unwrap().made = Instant::now().checked_sub(long + SECOND).unwrap();
        assert_eq!(holders.of(&[], &[None]), None);
        holders.set_up(&[], None, &PeerDiff::default());
        assert!(holders.peers.is_empty(), "and forgotten in the end");
    }
}
