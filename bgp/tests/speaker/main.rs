//! The speaker on real gobgpds (3.10 and 4.x) towards real routers (FRR and BIRD), each in
//! namespaces of its own. Needs root; fails, not skips, without it.

#![allow(clippy::unwrap_used)] // here, an unwrap is an assertion

mod daemon;
mod faults;
mod node;
mod routes;
mod sessions;
mod tor;

use std::{
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use bgp::{
    Announcement, Attributes, Audience, Change, Distance, Family, Global, Peer, RestartTime, Session, SessionState,
    Speaker,
};
use daemon::Daemon;
use node::Node;

/// Runs each test on both versions of gobgpd.
macro_rules! on_both {
    ($($test:ident)*) => {
        mod v3 {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(&crate::daemon::Gobgpd::installed()).await;
            })*
        }
        mod v4 {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                if let Some(gobgpd) = crate::daemon::Gobgpd::unstable(stringify!($test)) {
                    super::$test(&gobgpd).await;
                }
            })*
        }
    };
}
pub(crate) use on_both;

pub(crate) const AMPHORA_AS: u32 = 64_512;
pub(crate) const TOR_AS: u32 = 64_500;
/// Addresses of the amphora and the two routers; `.77` and `::77` are the front-end next hops.
pub(crate) const TOR_A: &str = "192.0.2.1";
pub(crate) const TOR_B: &str = "198.51.100.1";
pub(crate) const TOR_B6: &str = "2001:db8:b::1";
pub(crate) const NEXT_HOP: &str = "192.0.2.77";
pub(crate) const NEXT_HOP6: &str = "2001:db8:a::77";
pub(crate) const VIP: &str = "203.0.113.7";
pub(crate) const VIP6: &str = "2001:db8:100::7";

/// An amphora with a cable to each of two routers.
pub(crate) struct Site {
    pub(crate) amphora: Node,
    pub(crate) tor_a: Node,
    pub(crate) tor_b: Node,
}

impl Site {
    pub(crate) fn new() -> Self {
        let (amphora, tor_a, tor_b) = (Node::new(), Node::new(), Node::new());
        amphora.cable(
            ("eth-a", &["192.0.2.10/24", "2001:db8:a::10/64"]),
            &tor_a,
            ("amphora", &["192.0.2.1/24", "2001:db8:a::1/64"]),
        );
        amphora.cable(
            ("eth-b", &["198.51.100.10/24", "2001:db8:b::10/64"]),
            &tor_b,
            ("amphora", &["198.51.100.1/24", "2001:db8:b::1/64"]),
        );
        Self { amphora, tor_a, tor_b }
    }
}

pub(crate) fn global() -> Global {
    Global {
        local_as: AMPHORA_AS.try_into().unwrap(),
        router_id: "192.0.2.10".parse().unwrap(),
        listen: vec![],
        listen_port: Some(179),
    }
}

pub(crate) fn peer(name: &str, address: &str) -> Peer {
    Peer {
        id: name.parse().unwrap(),
        address: address.parse().unwrap(),
        remote_as: TOR_AS.try_into().unwrap(),
        password: None,
        distance: Distance::Default,
        hold_time: 9.try_into().unwrap(),
        keepalive: 3,
        passive: false,
        local_address: None,
        families: vec![Family::Ipv4, Family::Ipv6],
        connect_retry: Duration::from_secs(5),
        bfd: None,
        attributes: Attributes::default(),
    }
}

pub(crate) fn announcement(prefix: &str, next_hop: &str, audience: Audience) -> Announcement {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    Announcement {
        prefix: ip(prefix).try_into().unwrap(),
        next_hop: ip(next_hop).try_into().unwrap(),
        audience,
        attributes: Attributes::default(),
    }
}

pub(crate) fn only(names: &[&str]) -> Audience {
    Audience::Peers(names.iter().map(|n| n.parse().unwrap()).collect())
}

pub(crate) const RESTART: Option<u64> = Some(30);

/// The order that is safe after a fresh start: policies, paths, peers.
pub(crate) async fn bring_up(daemon: &Daemon<'_>, announcements: &[Announcement], peers: &[Peer]) -> Speaker {
    let speaker = daemon.connect().await;
    assert_eq!(speaker.global().await.unwrap(), None);
    speaker.start(&global()).await.unwrap();
    assert!(speaker.set_policy(peers).await.unwrap());
    let changes: Vec<Change> = announcements.iter().cloned().map(Change::Announce).collect();
    speaker.apply(&changes).await.unwrap();
    speaker.set_peers(peers, restart_time(), false).await.unwrap();
    speaker
}

pub(crate) fn restart_time() -> Option<RestartTime> {
    RESTART.map(|s| s.try_into().unwrap())
}

pub(crate) async fn session(speaker: &Speaker, address: &str) -> Session {
    let address: IpAddr = address.parse().unwrap();
    speaker.sessions().await.unwrap().into_iter().find(|s| s.address == address).expect("no such neighbor")
}

pub(crate) async fn established(speaker: &Speaker, address: &str) -> Session {
    session_when(speaker, address, |s| s.state == SessionState::Established).await
}

pub(crate) async fn session_when(speaker: &Speaker, address: &str, done: impl Fn(&Session) -> bool) -> Session {
    let end = Instant::now() + PATIENCE;
    loop {
        let session = session(speaker, address).await;
        if done(&session) {
            return session;
        }
        assert!(Instant::now() < end, "{session:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// Waits for something to become true; panics with `what` when it does not.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "never: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
