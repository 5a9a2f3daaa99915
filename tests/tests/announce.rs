//! What the fabric learns: routes on real ToRs, whom each announcement is for, and clients that get answers.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]
#![allow(clippy::doc_markdown, reason = "ToR is a word here, not code")]

mod active;
mod attributes;

use std::net::{IpAddr, SocketAddr};

use active::{BOTH, PATIENCE, PORT, answers, boot, plug, register, register_one, wait_routes};
use ipnet::IpNet;
use lab::fabric::{TOR_FRONTEND_NIC, TOR_PEERING_NIC};
use lab::speaker::gobgp;
use lab::{
    Amphora, Api, Capture, Dual, Fabric, Family, Gobgpd, Neighbours, Options, Tor, TorKind, TorOptions, addresses,
    wait_for,
};
use serde_json::{Value, json};

/// Internal sessions have one AS on both sides, external ones two.
#[derive(Clone, Copy, PartialEq)]
enum Bgp {
    Internal,
    External,
}

/// One fabric of the matrix: three amphorae register a dual-stack VIP over sessions of one family on the management
/// network, and clients several hops away are answered by all three, from the VIP, through the front-end gateway.
fn three_amphorae_serve(test: &str, kind: TorKind, bgp: Bgp, session: Family, gobgpd: Gobgpd, neighbours: Neighbours) {
    if let Err(error) = gobgpd.directory() {
        if gobgpd == Gobgpd::V4 {
            return lab::skipped(test, &error.to_string());
        }
        panic!("{error}");
    }
    let mut options = Options::new(kind);
    options.gobgpd = gobgpd;
    options.tors[0].neighbours = neighbours;
    if bgp == Bgp::Internal {
        options.tors[0].asn = options.amphora_as;
    }
    let fabric = Fabric::new(test, &options).unwrap();
    let (tor, vip) = (&fabric.tors[0], addresses::vip(7));
    let version = fabric.amphorae[0].node().run(["gobgpd", "--version"]).unwrap();
    println!("{test}: {}; {}", version.trim(), tor.version().unwrap());
    fabric.write_configs(session).unwrap();
    let mut apis = boot(&fabric);
    for (amphora, api) in fabric.amphorae.iter().zip(&mut apis) {
        plug(amphora, api, vip);
        register(amphora, api, vip, None);
    }
    let all: Vec<_> = fabric.amphorae.iter().collect();
    wait_routes(tor, vip, &all); // the next hops are the front-end IPs
    let mut sessions = tor.established().unwrap();
    sessions.sort();
    let management: Vec<IpAddr> = all.iter().map(|amphora| amphora.management(session)).collect();
    assert_eq!(sessions, management, "the sessions are on the management network");

    for family in BOTH {
        let vip = vip.of(family);
        let frontend = Capture::start(tor.node(), TOR_FRONTEND_NIC, &format!("tcp and src host {vip}")).unwrap();
        let elsewhere = Capture::start(tor.node(), TOR_PEERING_NIC, &format!("host {vip}")).unwrap();
        let split = answers(&fabric, vip, 300);
        println!("{test}: 300 connections to {vip}: {split}");
        assert_eq!(split.answers.len(), 3, "{split}");
        assert!(split.answers.values().all(|count| *count >= 50), "{split}");
        let gateway = tor.node().read_file(&format!("/sys/class/net/{TOR_FRONTEND_NIC}/address"));
        let to_gateway = frontend.stop().unwrap().matching(&format!("ether dst {}", gateway.unwrap().trim())).unwrap();
        // The answer to a SYN has both flags; `tcp[...]` does not work on IPv6 in pcap-filter(7).
        let replies = to_gateway.iter().filter(|line| line.contains("Flags [S.]")).count();
        assert_eq!(replies, 300, "every reply leaves by the front-end gateway");
        assert_eq!(elsewhere.stop().unwrap().count("").unwrap(), 0, "none by the management network");
    }
    // These ToRs send no ADD-PATH, which matters if they are route reflectors: nobody else is of our AS.
    let why = apis[0].get(&format!("/1.0/distributor/why/{}", vip.v4)).unwrap().success().unwrap().json();
    assert_eq!(why["notes"].to_string().contains("offers to send no ADD-PATH"), bgp == Bgp::Internal, "{why}");
}

/// The six fabrics that cover every pair of ToR, eBGP or iBGP, family of the session, and generation of gobgpd. In two
/// the amphorae dial, in the others the ToR does too (which spares gobgpd 3.10's slow first attempt).
macro_rules! matrix {
    ($($test:ident: $kind:ident, $bgp:ident, over $session:ident, gobgpd $gobgpd:ident, $neighbours:expr;)*) => {
        $(#[test]
        fn $test() {
            let (session, gobgpd) = (Family::$session, Gobgpd::$gobgpd);
            three_amphorae_serve(stringify!($test), TorKind::$kind, Bgp::$bgp, session, gobgpd, $neighbours);
        })*
    };
}

matrix! {
    frr_ebgp_over_ipv4: Frr, External, over V4, gobgpd Installed, Neighbours::Each(Family::V4);
    frr_ibgp_over_ipv6_with_gobgpd_4: Frr, Internal, over V6, gobgpd V4, Neighbours::Range;
    bird_ebgp_over_ipv6: Bird, External, over V6, gobgpd Installed, Neighbours::Range;
    bird_ibgp_over_ipv4_with_gobgpd_4: Bird, Internal, over V4, gobgpd V4, Neighbours::Each(Family::V4);
    frr_ebgp_over_ipv6_with_gobgpd_4: Frr, External, over V6, gobgpd V4, Neighbours::Each(Family::V6);
    bird_ibgp_over_ipv4: Bird, Internal, over V4, gobgpd Installed, Neighbours::Each(Family::V4);
}

/// A VIP's one family, in the words of gobgp, FRR and `ip`.
fn host_route(vip: IpAddr) -> String {
    IpNet::from(vip).to_string()
}

/// UPDATE messages an FRR has had from its neighbours.
fn updates(tor: &Tor) -> u64 {
    let said: Value = serde_json::from_str(&tor.ask("show bgp neighbors json").unwrap()).unwrap();
    said.as_object().unwrap().values().filter_map(|peer| peer["messageStats"]["updatesRecv"].as_u64()).sum()
}

/// The prefixes an FRR has from its neighbours, in one family.
fn learned(tor: &Tor, family: &str) -> Vec<String> {
    let said: Value = serde_json::from_str(&tor.ask(&format!("show bgp {family} unicast json")).unwrap()).unwrap();
    let from_outside = |paths: &Value| paths.as_array().unwrap().iter().any(|path| path["peerId"] != "(unspec)");
    let routes = said["routes"].as_object().unwrap();
    routes.iter().filter(|(_, paths)| from_outside(paths)).map(|(prefix, _)| prefix.clone()).collect()
}

/// An amphora and three ToRs, each an AS of its own.
fn three_tors(name: &str, filters: bool) -> Fabric {
    let mut options = Options::new(TorKind::Frr);
    options.amphorae = 1;
    options.tors = [64500, 64501, 64502]
        .map(|asn| TorOptions { asn, filters, neighbours: Neighbours::Each(Family::V4), ..options.tors[0].clone() })
        .into();
    let fabric = Fabric::new(name, &options).unwrap();
    fabric.write_configs(Family::V4).unwrap();
    fabric
}

/// Plugs a dual-stack VIP and more IPv4 ones on the same NIC.
fn plug_several(amphora: &Amphora, api: &mut Api, vip: Dual, more: &[IpAddr]) {
    let mut body = amphora.plug_body(vip);
    for vip in more {
        let additional = json!({ "ip_address": vip, "subnet_cidr": addresses::FRONTEND.v4 });
        body["additional_vips"].as_array_mut().unwrap().push(additional);
    }
    api.plug_vip(vip.v4.into(), &body).unwrap().success().unwrap();
}

#[test]
fn a_registration_is_for_the_peer_it_names_and_moving_it_touches_nobody_else() {
    let fabric = three_tors("peer-id", true);
    let amphora = &fabric.amphorae[0];
    let [first, second, bystander] = &fabric.tors[..] else { unreachable!("three were asked for") };
    let [moving, standing, fence] = [7, 8, 9].map(|n| IpAddr::from(addresses::vip(n).v4));
    let mut api = boot(&fabric).remove(0);
    plug_several(amphora, &mut api, addresses::vip(7), &[standing, fence]);
    let hop = [amphora.frontend(Family::V4)];
    let wait = |tor: &Tor, vip, hops: &[IpAddr]| {
        tor.wait_next_hops(IpNet::from(vip), hops, PATIENCE).unwrap();
    };
    let has = |tor, vip| wait(tor, vip, &hop);
    let has_not = |tor, vip| wait(tor, vip, &[]);

    register_one(amphora, &mut api, moving, Some("tor-0"));
    register_one(amphora, &mut api, standing, None);
    fabric.tors.iter().for_each(|tor| has(tor, standing));
    has(first, moving);
    for tor in [second, bystander] {
        // It came with what everybody has got, if it came at all.
        assert!(!tor.has_learned(IpNet::from(moving)).unwrap(), "{} has tor-0's route", tor.name());
    }
    let before = fabric.tors.iter().map(updates).collect::<Vec<_>>();
    let watches = fabric.tors.iter().map(|tor| tor.watch_routes().unwrap()).collect::<Vec<_>>();

    register_one(amphora, &mut api, moving, Some("tor-1"));
    has(second, moving);
    has_not(first, moving);
    // What was sent to the bystander before the fence has arrived before it.
    register_one(amphora, &mut api, fence, None);
    fabric.tors.iter().for_each(|tor| has(tor, fence));
    let after = fabric.tors.iter().zip(&before).map(|(tor, before)| updates(tor) - before).collect::<Vec<_>>();
    assert_eq!(after, [2, 2, 1], "UPDATEs: the withdrawal, the announcement, and the fence for all");
    for (tor, watch) in fabric.tors.iter().zip(watches) {
        let others = watch.so_far().into_iter().filter(|event| event.line.contains(&standing.to_string()));
        assert_eq!(others.map(|event| event.line).collect::<Vec<_>>(), [""; 0], "{}: another VIP's route", tor.name());
    }
    let said = api.amphorae().unwrap().success().unwrap().text();
    println!("the agent, after the move: {said}");

    register_one(amphora, &mut api, moving, None);
    fabric.tors.iter().for_each(|tor| has(tor, moving));
    api.unregister(amphora.id(), &format!("vip_ip={moving}")).unwrap().success().unwrap();
    fabric.tors.iter().for_each(|tor| has_not(tor, moving));
    fabric.tors.iter().for_each(|tor| has(tor, standing));
    api.unregister(amphora.id(), "").unwrap().success().unwrap();
    for vip in [standing, fence] {
        fabric.tors.iter().for_each(|tor| has_not(tor, vip));
    }
}

#[test]
fn an_amphora_is_no_transit_router_and_learns_nothing() {
    // ToRs without filters: each tells its connected networks and takes whatever comes.
    let fabric = three_tors("transit", false);
    let (amphora, vip) = (&fabric.amphorae[0], addresses::vip(7));
    let mut api = boot(&fabric).remove(0);
    plug(amphora, &mut api, vip);
    let tables = || {
        let inside = amphora.haproxy_netns().unwrap();
        let routes = ["-4", "-6"].map(|family| {
            let show = ["ip", family, "route", "show", "table", "all"];
            amphora.node().run(show).unwrap() + &inside.run(show).unwrap()
        });
        // The table of the amphora's own addresses fills as the kernel sees that nobody else has them.
        routes.concat().lines().filter(|route| !route.contains("table local")).map(str::to_owned).collect::<Vec<_>>()
    };
    let before = tables();
    register(amphora, &mut api, vip, None);
    fabric.tors.iter().for_each(|tor| wait_routes(tor, vip, &[amphora]));
    // The speaker has heard of every ToR's networks (what import rejects stays in adj-in).
    for (index, tor) in fabric.tors.iter().enumerate() {
        let ip = tor.peering_address(Family::V4).to_string();
        let own = addresses::transit(index).of(Family::V4).to_string();
        wait_for(&format!("{} tells its networks", tor.name()), PATIENCE, || {
            let heard = gobgp(amphora.node(), &["neighbor", &ip, "adj-in"]).map_err(|error| error.to_string())?;
            if heard.contains(&own) { Ok(()) } else { Err(heard) }
        })
        .unwrap();
    }
    // A registration afterwards: what was passed on would have arrived before it.
    api.unregister(amphora.id(), "").unwrap().success().unwrap();
    fabric.tors.iter().for_each(|tor| wait_routes(tor, vip, &[]));
    register(amphora, &mut api, vip, None);
    fabric.tors.iter().for_each(|tor| wait_routes(tor, vip, &[amphora]));
    for tor in &fabric.tors {
        assert_eq!(learned(tor, "ipv4"), [host_route(vip.v4.into())], "{}", tor.name());
        assert_eq!(learned(tor, "ipv6"), [host_route(vip.v6.into())], "{}", tor.name());
    }
    for (family, vip) in [("ipv4", vip.of(Family::V4)), ("ipv6", vip.of(Family::V6))] {
        let held = gobgp(amphora.node(), &["global", "rib", "-a", family, "-j"]).unwrap();
        let held: Value = serde_json::from_str(&held).unwrap();
        assert_eq!(held.as_object().unwrap().keys().collect::<Vec<_>>(), [&host_route(vip)], "the speaker's table");
    }
    assert_eq!(tables(), before, "BGP has changed the amphora's routes");
}

#[test]
fn an_amphora_reaches_another_ones_vip_of_the_same_anycast_subnet_through_the_fabric() {
    let mut options = Options::new(TorKind::Bird);
    options.amphorae = 2;
    options.tors[0].neighbours = Neighbours::Each(Family::V4);
    let fabric = Fabric::new("neighbours", &options).unwrap();
    fabric.write_configs(Family::V4).unwrap();
    let mut apis = boot(&fabric);
    let vips = [addresses::vip(7), addresses::vip(8)];
    for ((amphora, api), vip) in fabric.amphorae.iter().zip(&mut apis).zip(vips) {
        plug(amphora, api, vip);
        register(amphora, api, vip, None);
        wait_routes(&fabric.tors[0], vip, &[amphora]);
    }
    let [one, other] = &fabric.amphorae[..] else { unreachable!("two were asked for") };
    let inside = one.haproxy_netns().unwrap();
    for family in BOTH {
        let (own, others) = (vips[0].of(family), vips[1].of(family));
        let gateway = fabric.tors[0].frontend(family).to_string();
        for source in [None, Some(own.to_string())] {
            let mut look_up = vec!["ip".to_owned(), "route".into(), "get".into(), others.to_string()];
            look_up.extend(source.iter().flat_map(|source| ["from".to_owned(), source.clone()]));
            let route = inside.run(&look_up).unwrap();
            assert!(route.contains(&format!("via {gateway} ")), "the VIP's subnet is on-link: {route}");
            let link = Capture::start(fabric.tors[0].node(), TOR_FRONTEND_NIC, &format!("tcp and host {others}"));
            let link = link.unwrap();
            let mut curl = vec!["curl".to_owned(), "-sS".into(), "--max-time".into(), "10".into()];
            curl.extend(source.iter().flat_map(|source| ["--interface".to_owned(), source.clone()]));
            curl.push(format!("http://{}/", SocketAddr::new(others, PORT)));
            assert_eq!(inside.run(&curl).unwrap(), other.name(), "from {source:?} to {others}");
            let syns = link.stop().unwrap().matching("").unwrap();
            let syns = syns.iter().filter(|line| line.contains("Flags [S]")).count();
            assert_eq!(syns, 2, "the SYN passes the ToR: in and out by its front-end NIC");
        }
        // Its own VIP is its own, and the client gets each VIP from the amphora that has it.
        assert_eq!(answers(&fabric, own, 20).answers.keys().collect::<Vec<_>>(), [one.name()]);
        assert_eq!(answers(&fabric, others, 20).answers.keys().collect::<Vec<_>>(), [other.name()]);
    }
}

/// Until the front-end NIC's link-local address has passed duplicate address detection the kernel does not ask for the
/// gateway's MAC, so the answer to a first SYN would not leave and the client would send it again after a second.
#[test]
fn an_ipv6_vip_is_announced_no_sooner_than_its_answers_can_leave() {
    let mut options = Options::new(TorKind::Bird);
    options.tors[0].neighbours = Neighbours::Each(Family::V4);
    let fabric = Fabric::new("first-syn", &options).unwrap();
    fabric.write_configs(Family::V4).unwrap();
    let mut apis = boot(&fabric);
    let tor = &fabric.tors[0];
    for ((amphora, api), number) in fabric.amphorae.iter().zip(&mut apis).zip(7..) {
        let vip = addresses::vip(number);
        tor.wait_established(amphora.management(Family::V4), PATIENCE).unwrap();
        plug(amphora, api, vip);
        register(amphora, api, vip, None);
        let route = IpNet::from(vip.of(Family::V6));
        tor.wait_next_hops(route, &[amphora.frontend(Family::V6)], PATIENCE).unwrap();
        answers(&fabric, vip.of(Family::V6), 1);
    }
    let tcp = fabric.client.run(["nstat", "-asz", "TcpRetransSegs"]).unwrap();
    let sent_again = tcp.lines().find(|line| line.starts_with("TcpRetransSegs")).unwrap();
    assert_eq!(sent_again.split_whitespace().nth(1), Some("0"), "{sent_again}");
}
