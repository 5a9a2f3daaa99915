//! The fabric tested without an agent: real routers take what bare gobgpds announce, and clients get answers.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]
#![allow(clippy::doc_markdown, reason = "ToR is a word here, not code")]

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use lab::bare::{self, Neighbour, ROUTE_TIME, SESSION_TIME};
use lab::fabric::TOR_FRONTEND_NIC;
use lab::{Capture, Dual, Fabric, Family, Gobgpd, Neighbours, Options, TorKind, TorOptions, addresses};
use nix::sys::signal::Signal;

const BOTH: [Family; 2] = [Family::V4, Family::V6];

/// 300 connections per family reach all three amphorae, and the answers leave by the front-end gateway.
fn clients_reach_everybody(fabric: &Fabric, vip: Dual) {
    for family in BOTH {
        let vip = vip.of(family);
        let wire = Capture::start(fabric.tors[0].node(), TOR_FRONTEND_NIC, &format!("tcp and src host {vip}")).unwrap();
        let split = lab::traffic::connect(&fabric.client, SocketAddr::new(vip, 80), 300).unwrap();
        let replies = wire.stop().unwrap();
        assert_eq!((split.answered(), split.failed()), (300, 0), "{split}");
        assert_eq!(split.answers.len(), fabric.amphorae.len(), "{split}");
        assert!(split.answers.values().all(|count| *count >= 50), "{split}");
        // The answer to a SYN has both flags; `tcp[...]` does not work on IPv6 in pcap-filter(7).
        let syn_acks = replies.matching("").unwrap().iter().filter(|line| line.contains("Flags [S.]")).count();
        assert_eq!(syn_acks, 300, "every reply passes the ToR's front-end NIC once");
    }
}

fn three_amphorae(name: &str, mut options: Options, session: Family) {
    options.tors[0].neighbours = Neighbours::Each(session); // saves gobgpd 3.10's slow first dial
    let vip = addresses::vip(7);
    let fabric = bare::fabric(name, &options, session, vip).unwrap();
    clients_reach_everybody(&fabric, vip);
}

#[test]
fn frr_over_ipv4() {
    three_amphorae("frr-v4", Options::new(TorKind::Frr), Family::V4);
}

#[test]
fn frr_over_ipv6() {
    three_amphorae("frr-v6", Options::new(TorKind::Frr), Family::V6);
}

#[test]
fn bird_over_ipv4() {
    three_amphorae("bird-v4", Options::new(TorKind::Bird), Family::V4);
}

#[test]
fn bird_over_ipv6() {
    three_amphorae("bird-v6", Options::new(TorKind::Bird), Family::V6);
}

#[test]
fn ibgp_with_gobgpd_4() {
    if let Err(error) = Gobgpd::V4.directory() {
        return lab::skipped("ibgp_with_gobgpd_4", &error.to_string());
    }
    for kind in [TorKind::Frr, TorKind::Bird] {
        let mut options = Options::new(kind);
        options.gobgpd = Gobgpd::V4;
        options.tors[0].asn = options.amphora_as;
        three_amphorae("ibgp", options, Family::V4);
    }
}

#[test]
fn two_tors_behind_a_router_take_dialled_sessions() {
    for kind in [TorKind::Frr, TorKind::Bird] {
        let mut options = Options::new(kind);
        options.multihop = true;
        options.tors.push(TorOptions::new(kind));
        let vip = addresses::vip(7);
        let fabric = bare::fabric("multihop", &options, Family::V6, vip).unwrap();
        for family in BOTH {
            let split = lab::traffic::connect(&fabric.client, SocketAddr::new(vip.of(family), 80), 60).unwrap();
            assert_eq!((split.answered(), split.failed()), (60, 0), "{split}");
        }
    }
}

#[test]
fn md5_and_gtsm_admit_who_agrees_and_nobody_else() {
    for kind in [TorKind::Frr, TorKind::Bird] {
        for neighbours in [Neighbours::Range, Neighbours::Each(Family::V4)] {
            let mut options = Options::new(kind);
            options.amphorae = 2;
            options.tors[0].password = Some("correct horse".replace(' ', "-"));
            options.tors[0].ttl_hops = Some(1);
            options.tors[0].neighbours = neighbours;
            let fabric = Fabric::new("md5", &options).unwrap();
            let tor = &fabric.tors[0];
            let [good, bad] = &fabric.amphorae[..] else { unreachable!("two were asked for") };
            let right = Neighbour::of(tor, Family::V4);
            let wrong = Neighbour { password: Some("wrong".into()), ..right.clone() };
            bare::start_speaker(good, &[right]).unwrap();
            bare::start_speaker(bad, &[wrong]).unwrap();
            let took = tor.wait_established(good.management(Family::V4), SESSION_TIME).unwrap();
            std::thread::sleep(took.max(Duration::from_secs(2))); // as long again for the one that must not
            assert_eq!(tor.established().unwrap(), [good.management(Family::V4)], "{kind:?} {neighbours:?}");
        }
    }
}

/// A ToR without filters is how a test sees that an amphora passes nothing on: a bare gobgpd does.
#[test]
fn without_filters_a_bare_speaker_shows_as_a_transit_router() {
    for kind in [TorKind::Frr, TorKind::Bird] {
        for filters in [true, false] {
            let mut options = Options::new(kind);
            options.amphorae = 1;
            options.tors.push(TorOptions::new(kind));
            for (tor, asn) in options.tors.iter_mut().zip([64500, 64501]) {
                tor.asn = asn;
                tor.filters = filters;
                tor.neighbours = Neighbours::Each(Family::V4);
            }
            let fabric = Fabric::new("transit", &options).unwrap();
            let [first, second] = &fabric.tors[..] else { unreachable!("two were asked for") };
            let both = [first, second].map(|tor| Neighbour::of(tor, Family::V4));
            bare::start_speaker(&fabric.amphorae[0], &both).unwrap();
            for tor in [first, second] {
                tor.wait_established(fabric.amphorae[0].management(Family::V4), SESSION_TIME).unwrap();
            }
            let wire_of_first = addresses::transit(0).of(Family::V4);
            let learned = || second.has_learned(wire_of_first).map_err(|error| error.to_string());
            if filters {
                std::thread::sleep(Duration::from_secs(2)); // what does not come has no event; the other case takes 1 s
                assert!(!learned().unwrap());
            } else {
                let learn = || if learned()? { Ok(()) } else { Err("nothing".to_owned()) };
                lab::wait_for("the other ToR's network arrives", ROUTE_TIME, learn).unwrap();
            }
            assert!(!first.has_learned(wire_of_first).unwrap(), "its own network is not learned");
        }
    }
}

#[test]
fn routes_are_followed_as_they_change() {
    for kind in [TorKind::Frr, TorKind::Bird] {
        let mut options = Options::new(kind);
        options.tors[0].neighbours = Neighbours::Each(Family::V4);
        let vip = addresses::vip(7);
        let fabric = bare::fabric("watch", &options, Family::V4, vip).unwrap();
        let (tor, leaver) = (&fabric.tors[0], &fabric.amphorae[1]);
        leaver.node().connect_unix(lab::speaker::SOCKET).unwrap();
        let watch = tor.watch_routes().unwrap();
        let start = Instant::now();
        bare::withdraw(leaver, vip.v4.into()).unwrap();
        let gone = watch
            .wait("the VIP's route without the leaver", ROUTE_TIME, |line| {
                line.contains(&vip.v4.to_string())
                    && !line.contains(&leaver.frontend(Family::V4).to_string())
                    && !line.starts_with("Deleted")
            })
            .unwrap();
        assert!(gone.at - start < Duration::from_secs(1), "{kind:?} took {:?}", gone.at - start);
        let left = [&fabric.amphorae[0], &fabric.amphorae[2]].map(|amphora| amphora.frontend(Family::V4));
        tor.wait_next_hops(IpNet::from(IpAddr::from(vip.v4)), &left, ROUTE_TIME).unwrap();
        assert_eq!(leaver.kill_program("gobgpd", Signal::SIGKILL).unwrap(), 1);
        let left = [&fabric.amphorae[0], &fabric.amphorae[2]].map(|amphora| amphora.frontend(Family::V6));
        tor.wait_next_hops(IpNet::from(IpAddr::from(vip.v6)), &left, ROUTE_TIME).unwrap();
    }
}

#[test]
fn labs_run_side_by_side() {
    std::thread::scope(|scope| {
        for name in ["left", "right"] {
            scope.spawn(move || three_amphorae(name, Options::new(TorKind::Bird), Family::V4));
        }
    });
}
