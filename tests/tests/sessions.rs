//! Sessions between agents and real ToRs: passwords, distance, timers, who dials, and what a session that is not up says.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]
#![allow(clippy::doc_markdown, reason = "ToR is a word here, not code")]

mod active;
mod bfd;

use std::net::IpAddr;

use active::{BOTH, PATIENCE, all_answer, boot, peer, plug, register, wait_peer, wait_routes};
use ipnet::IpNet;
use lab::amphora::MANAGEMENT_NIC;
use lab::{
    Amphora, Capture, Fabric, Family, Gobgpd, Neighbours, Options, Place, Tor, TorKind, TorOptions, addresses, wait_for,
};
use nix::sys::signal::Signal;
use serde_json::Value;

/// Writes an amphora's configuration with one peer, whose section is the ToR's own with `more` lines in it.
fn configure(amphora: &Amphora, tor: &Tor, session: Family, more: &str) {
    let sections = amphora.distributor_sections() + &tor.peer_section(session) + more;
    amphora.write_config(&sections).unwrap();
}

/// One of the kernel's TCP counters (`TcpExt` in `/proc/net/netstat`).
fn counter(place: &Place, name: &str) -> u64 {
    let text = place.run(["cat", "/proc/net/netstat"]).unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let found = names.split(' ').zip(values.split(' ')).find(|(have, _)| *have == name);
    found.unwrap_or_else(|| panic!("no counter {name}")).1.parse().unwrap()
}

/// Waits until a counter has grown to `least`: the event that something was refused.
fn wait_counter(place: &Place, name: &str, least: u64) {
    wait_for(&format!("{}: {name}", place.name()), PATIENCE, || match counter(place, name) {
        count if count >= least => Ok(()),
        count => Err(count),
    })
    .unwrap();
}

fn is_up(peer: &Value) -> bool {
    peer["state"] == "Established"
}

fn wait_up(api: &mut lab::Api, tor: &Tor) -> Value {
    wait_peer(api, tor, "the session is up", is_up)
}

/// Right, wrong and missing passwords towards one ToR.
fn passwords(kind: TorKind, session: Family, neighbours: Neighbours) {
    let mut options = Options::new(kind);
    options.tors[0].neighbours = neighbours;
    options.tors[0].password = Some("correct-horse".into());
    let fabric = Fabric::new("md5", &options).unwrap();
    let (tor, [right, wrong, missing]) = (&fabric.tors[0], &fabric.amphorae[..]) else { unreachable!("three") };
    let section = tor.peer_section(session);
    let with = |section: String, amphora: &Amphora| {
        amphora.write_config(&(amphora.distributor_sections() + &section)).unwrap();
    };
    with(section.clone(), right);
    with(section.replace("correct-horse", "wrong-horse"), wrong);
    with(section.split_inclusive('\n').filter(|line| !line.starts_with("auth_")).collect(), missing);
    let mut apis = boot(&fabric);
    let up = wait_up(&mut apis[0], tor);
    assert_eq!((&up["md5"], &up["last_error"]), (&true.into(), &Value::Null), "{up}");

    // Each of the others has tried and been refused, by the ToR's kernel or (where it is the ToR that dials) by its own.
    wait_counter(tor.node(), "TCPMD5Failure", 2);
    wait_counter(tor.node(), "TCPMD5NotFound", 2);
    if neighbours != Neighbours::Range {
        wait_counter(wrong.node(), "TCPMD5Failure", 2);
        wait_counter(missing.node(), "TCPMD5Unexpected", 2);
    }
    assert_eq!(tor.established().unwrap(), [right.management(session)]);
    let [wrong, missing] = [1, 2].map(|index: usize| peer(&mut apis[index], tor));
    for (peer, password) in [(&wrong, true), (&missing, false)] {
        assert!(!is_up(peer), "{peer}");
        assert_eq!((&peer["md5"], &peer["advertised"]), (&password.into(), &0.into()), "{peer}");
        let words = peer["last_error"].as_str().unwrap();
        assert!(words.contains("MD5 password"), "{words}");
    }
    println!("{kind:?} over {session:?}: {} / {}", wrong["last_error"], missing["last_error"]);
}

#[test]
fn only_the_right_md5_password_establishes_with_frr() {
    passwords(TorKind::Frr, Family::V4, Neighbours::Each(Family::V4));
}

#[test]
fn only_the_right_md5_password_establishes_with_bird_over_ipv6() {
    passwords(TorKind::Bird, Family::V6, Neighbours::Each(Family::V6));
}

#[test]
fn only_the_right_md5_password_establishes_with_frr_that_never_dials() {
    passwords(TorKind::Frr, Family::V6, Neighbours::Range);
}

/// A router lies between: what the ToR sends with TTL 255 arrives with 254, which `ttl_hops = 1` refuses.
///
/// Judged by the ToR's routes. gobgpd sets its least TTL on a connection once it has accepted it, so an OPEN that comes
/// fast enough is answered, and a ToR that dials may call that a session until its own hold timer ends it; gobgpd, which
/// gets nothing after that, does not and sends no route.
fn distance(kind: TorKind, session: Family, neighbours: Neighbours, gobgpd: Gobgpd) {
    let mut options = Options::new(kind);
    options.multihop = true;
    options.amphorae = 2;
    options.gobgpd = gobgpd;
    options.tors[0].ttl_hops = Some(2);
    options.tors[0].neighbours = neighbours;
    let fabric = Fabric::new("gtsm", &options).unwrap();
    let (tor, [right, near]) = (&fabric.tors[0], &fabric.amphorae[..]) else { unreachable!("two were asked for") };
    configure(right, tor, session, "");
    let section = tor.peer_section(session).replace("ttl_hops = 2", "ttl_hops = 1");
    near.write_config(&(near.distributor_sections() + &section)).unwrap();
    let from_tor = format!("tcp and src host {} and port 179", tor.peering_address(session));
    let wire = Capture::start(near.node(), MANAGEMENT_NIC, &from_tor).unwrap();
    let mut apis = boot(&fabric);
    let vip = addresses::vip(7);
    for (amphora, api) in fabric.amphorae.iter().zip(&mut apis) {
        plug(amphora, api, vip);
        register(amphora, api, vip, None);
    }
    assert_eq!(wait_up(&mut apis[0], tor)["ttl_hops"], 2);
    wait_routes(tor, vip, &[right]);

    // The kernel drops what comes from too far away, again and again, until the ToR has no session either.
    wait_counter(near.node(), "TCPMinTTLDrop", 5);
    let only_right = || match tor.established() {
        Ok(peers) if peers == [right.management(session)] => Ok(()),
        Ok(peers) => Err(format!("{peers:?}")),
        Err(error) => Err(error.to_string()),
    };
    wait_for("the ToR has one session", PATIENCE, only_right).unwrap();
    wait_routes(tor, vip, &[right]);
    let refused = peer(&mut apis[1], tor);
    assert!(!is_up(&refused) && refused["advertised"] == 0, "{refused}");
    let words = refused["last_error"].as_str().unwrap();
    assert!(words.contains("ttl_hops"), "{words}");
    let events = std::fs::read_to_string(near.agent().unwrap().log()).unwrap();
    assert!(!events.contains("state: Established"), "it was up for a while: {events}");

    let wire = wire.stop().unwrap();
    let far = if session == Family::V4 { "ip[8] = 254" } else { "ip6[7] = 254" };
    let [all, far] = ["", far].map(|filter| wire.count(filter).unwrap());
    let dials = wire.matching("dst port 179").unwrap().iter().filter(|line| line.contains("Flags [S]")).count();
    println!("{kind:?}, {gobgpd:?}: {all} packets from the ToR, {far} with TTL 254, {dials} of them SYN; {words}");
    assert!(far > 0 && all == far, "{all} from the ToR, {far} with TTL 254");
    assert_eq!(dials > 0, neighbours != Neighbours::Range, "{dials} dials");
}

#[test]
fn gtsm_refuses_a_tor_one_hop_too_far_that_is_dialled() {
    distance(TorKind::Frr, Family::V4, Neighbours::Range, Gobgpd::Installed);
}

#[test]
fn gtsm_refuses_a_tor_one_hop_too_far_that_dials() {
    distance(TorKind::Bird, Family::V6, Neighbours::Each(Family::V6), Gobgpd::Installed);
}

#[test]
fn gtsm_refuses_a_tor_one_hop_too_far_that_dials_with_gobgpd_4() {
    if let Err(error) = Gobgpd::V4.directory() {
        return lab::skipped("gtsm_refuses_a_tor_one_hop_too_far_that_dials_with_gobgpd_4", &error.to_string());
    }
    distance(TorKind::Bird, Family::V4, Neighbours::Each(Family::V4), Gobgpd::V4);
}

#[test]
fn gtsm_and_md5_go_together_one_hop_away() {
    let mut options = Options::new(TorKind::Frr);
    options.amphorae = 1;
    options.tors = [TorKind::Frr, TorKind::Bird].map(TorOptions::new).into();
    for tor in &mut options.tors {
        (tor.ttl_hops, tor.password) = (Some(1), Some("correct-horse".into()));
    }
    let fabric = Fabric::new("gtsm-md5", &options).unwrap();
    fabric.write_configs(Family::V4).unwrap();
    let mut api = boot(&fabric).remove(0);
    for tor in &fabric.tors {
        tor.wait_established(fabric.amphorae[0].management(Family::V4), PATIENCE).unwrap();
        let up = wait_up(&mut api, tor);
        assert_eq!((&up["md5"], &up["ttl_hops"]), (&true.into(), &1.into()), "{up}");
    }
}

/// What an FRR has negotiated, in seconds: hold time and keepalive interval.
fn negotiated(tor: &Tor, amphora: &Amphora) -> [u64; 2] {
    let said: Value = serde_json::from_str(&tor.ask("show bgp neighbors json").unwrap()).unwrap();
    let session = &said[amphora.management(Family::V4).to_string()];
    ["bgpTimerHoldTimeMsecs", "bgpTimerKeepAliveIntervalMsecs"].map(|key| session[key].as_u64().unwrap() / 1000)
}

/// FRR proposes 180 s; the smaller hold time holds, and each side sends keepalives at an interval of its own.
#[test]
fn the_smaller_hold_time_holds_and_keepalives_come_as_configured() {
    let mut options = Options::new(TorKind::Frr);
    options.tors[0].neighbours = Neighbours::Each(Family::V4);
    let fabric = Fabric::new("timers", &options).unwrap();
    let tor = &fabric.tors[0];
    let written = ["", "hold_time = 40\nkeepalive_interval = 5\n", "hold_time = 600\nkeepalive_interval = 200\n"];
    let want = [[9, 3], [40, 5], [180, 60]];
    for (amphora, lines) in fabric.amphorae.iter().zip(written) {
        configure(amphora, tor, Family::V4, lines);
    }
    let mut apis = boot(&fabric);
    for ((amphora, api), [hold, keepalive]) in fabric.amphorae.iter().zip(&mut apis).zip(want) {
        let up = wait_up(api, tor);
        assert_eq!((&up["hold_time"], &up["keepalive_interval"]), (&hold.into(), &keepalive.into()), "{up}");
        assert_eq!(negotiated(tor, amphora)[0], hold, "{}'s view", tor.name());
    }
    // The default's keepalives arrive every 3 s.
    let received = || -> u64 {
        let said: Value = serde_json::from_str(&tor.ask("show bgp neighbors json").unwrap()).unwrap();
        said[fabric.amphorae[0].management(Family::V4).to_string()]["messageStats"]["keepalivesRecv"].as_u64().unwrap()
    };
    let before = received();
    let ((), took) = wait_for("three keepalives", PATIENCE, || match received() - before {
        count if count >= 3 => Ok(()),
        count => Err(count),
    })
    .unwrap();
    assert!((5.5..15.0).contains(&took.as_secs_f64()), "three keepalives took {took:?}, not 6 to 9 s");
}

#[test]
fn a_passive_amphora_waits_to_be_dialled() {
    for kind in [TorKind::Frr, TorKind::Bird] {
        let mut options = Options::new(kind);
        options.amphorae = 1;
        options.tors[0].neighbours = Neighbours::Each(Family::V6);
        let fabric = Fabric::new("passive", &options).unwrap();
        let (tor, amphora) = (&fabric.tors[0], &fabric.amphorae[0]);
        configure(amphora, tor, Family::V6, "passive = true\n");
        let wire = Capture::start(amphora.node(), MANAGEMENT_NIC, "tcp port 179").unwrap();
        let mut api = boot(&fabric).remove(0);
        let up = wait_up(&mut api, tor);
        assert_eq!(up["passive"], true, "{up}");
        let packets = wire.stop().unwrap().matching(&format!("src host {}", amphora.management(Family::V6))).unwrap();
        assert!(packets.len() > 2, "the session's own packets");
        let dials = packets.iter().filter(|line| line.contains("Flags [S]")).count();
        assert_eq!(dials, 0, "{packets:?}");
    }
}

#[test]
fn sessions_to_tors_behind_a_router_carry_routes_and_clients() {
    let mut options = Options::new(TorKind::Frr);
    options.multihop = true;
    options.tors = [TorKind::Frr, TorKind::Bird].map(TorOptions::new).into();
    let fabric = Fabric::new("multihop", &options).unwrap();
    let families = [Family::V4, Family::V6]; // one session each: over IPv4 to FRR, over IPv6 to BIRD
    for amphora in &fabric.amphorae {
        let peers: String = fabric.tors.iter().zip(families).map(|(tor, family)| tor.peer_section(family)).collect();
        assert!(peers.contains("ebgp_multihop = 4"), "{peers}");
        amphora.write_config(&(amphora.distributor_sections() + &peers)).unwrap();
    }
    let mut apis = boot(&fabric);
    let vip = addresses::vip(7);
    for (amphora, api) in fabric.amphorae.iter().zip(&mut apis) {
        plug(amphora, api, vip);
        register(amphora, api, vip, None);
    }
    let all: Vec<_> = fabric.amphorae.iter().collect();
    for (tor, family) in fabric.tors.iter().zip(families) {
        wait_routes(tor, vip, &all);
        let management: Vec<IpAddr> = all.iter().map(|amphora| amphora.management(family)).collect();
        assert_eq!(tor.established().unwrap(), management, "{}", tor.name());
    }
    for family in BOTH {
        all_answer(&fabric, vip.of(family), 120, 3);
    }
}

/// Without graceful restart a dead speaker's routes go at once; its agent starts it again and they come back.
#[test]
fn without_graceful_restart_a_dead_speaker_is_withdrawn_at_once() {
    for kind in [TorKind::Frr, TorKind::Bird] {
        let mut options = Options::new(kind);
        options.amphorae = 2;
        options.tors[0].neighbours = Neighbours::Each(Family::V4);
        let fabric = Fabric::new("no-gr", &options).unwrap();
        let (tor, vip) = (&fabric.tors[0], addresses::vip(7));
        for amphora in &fabric.amphorae {
            let sections = amphora.distributor_sections().replace("[bgp]\n", "[bgp]\ngraceful_restart_time = 0\n");
            amphora.write_config(&(sections + &tor.peer_section(Family::V4))).unwrap();
        }
        let mut apis = boot(&fabric);
        for (amphora, api) in fabric.amphorae.iter().zip(&mut apis) {
            plug(amphora, api, vip);
            register(amphora, api, vip, None);
        }
        let [victim, other] = &fabric.amphorae[..] else { unreachable!("two were asked for") };
        wait_routes(tor, vip, &[victim, other]);
        let watch = tor.watch_routes().unwrap();
        assert_eq!(victim.kill_program("gobgpd", Signal::SIGKILL).unwrap(), 1);
        for family in BOTH {
            let (route, hop) = (vip.of(family).to_string(), victim.frontend(family).to_string());
            let without = |line: &str| line.contains(&route) && (line.starts_with("Deleted") || !line.contains(&hop));
            // The families' events come in either order, and `wait` drops what is before the one it wants.
            if family == Family::V4 {
                watch.wait("the dead speaker's route goes", PATIENCE, without).unwrap();
            }
            let look = || match tor.kernel_routes(IpNet::from(vip.of(family))) {
                Ok(hops) if hops.contains(&victim.frontend(family)) => Ok(()),
                Ok(hops) => Err(format!("{hops:?}")),
                Err(error) => Err(error.to_string()),
            };
            wait_for("the route is back without a call", PATIENCE, look).unwrap();
        }
        wait_routes(tor, vip, &[victim, other]);
    }
}
