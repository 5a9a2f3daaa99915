//! Whatever dies comes back to what was acknowledged: the speaker, the agent, both for good, the whole machine.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]
#![allow(clippy::doc_markdown, reason = "ToR is a word here, not code")]

mod deadman;
mod keys;
mod lost;
mod notify;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use lab::amphora::{FRONTEND_NIC, HAPROXY_NETNS, MANAGEMENT_NIC};
use lab::error::chain;
use lab::routes::{RouteEvent, RouteWatch};
use lab::{
    Amphora, Api, Capture, Dual, Fabric, Family, Neighbours, Options, Tor, TorKind, Wreck, addresses, command, traffic,
    wait_for,
};
use nix::sys::signal::Signal;
use serde_json::json;

/// A ceiling, for a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_mins(1);
const BOTH: [Family; 2] = [Family::V4, Family::V6];

/// One amphora that serves and announces a dual-stack VIP to one ToR.
struct Lab {
    fabric: Fabric,
    vip: Dual,
    api: Api,
}

impl Lab {
    fn new(name: &str, kind: TorKind, graceful_restart: bool) -> Self {
        Self::with_tors(name, kind, 1, graceful_restart)
    }

    fn with_tors(name: &str, kind: TorKind, tors: usize, graceful_restart: bool) -> Self {
        let mut options = Options::new(kind);
        options.amphorae = 1;
        options.tors[0].neighbours = Neighbours::Each(Family::V4);
        options.tors = vec![options.tors[0].clone(); tors];
        let fabric = Fabric::new(name, &options).unwrap();
        let amphora = &fabric.amphorae[0];
        let peers: String = fabric.tors.iter().map(|tor| tor.peer_section(Family::V4)).collect();
        let mut sections = amphora.distributor_sections() + &peers;
        if !graceful_restart {
            sections = sections.replace("[bgp]\n", "[bgp]\ngraceful_restart_time = 0\n");
        }
        amphora.write_config(&sections).unwrap();
        let vip = addresses::vip(7);
        amphora.start_agent(&[]).unwrap();
        let (mut api, _) = amphora.wait_api(PATIENCE).unwrap();
        api.plug_vip(vip.v4.into(), &amphora.plug_body(vip)).unwrap().success().unwrap();
        for family in BOTH {
            api.register(amphora.id(), vip.of(family), amphora.frontend(family), None).unwrap().success().unwrap();
        }
        let lab = Self { fabric, vip, api };
        lab.wait_announced();
        lab
    }

    fn amphora(&self) -> &Amphora {
        &self.fabric.amphorae[0]
    }

    fn tor(&self) -> &Tor {
        &self.fabric.tors[0]
    }

    fn wait_announced(&self) {
        for (tor, family) in self.fabric.tors.iter().flat_map(|tor| BOTH.map(|family| (tor, family))) {
            let (vip, hop) = (IpNet::from(self.vip.of(family)), self.amphora().frontend(family));
            tor.wait_next_hops(vip, &[hop], PATIENCE).unwrap();
        }
    }

    fn wait_withdrawn(&self) {
        for family in BOTH {
            self.tor().wait_next_hops(IpNet::from(self.vip.of(family)), &[], PATIENCE).unwrap();
        }
    }

    /// The lines about the VIP among a kernel's routing events.
    fn of_vip(&self, events: Vec<RouteEvent>) -> Vec<RouteEvent> {
        let about = |line: &str| BOTH.iter().any(|family| line.contains(&self.vip.of(*family).to_string()));
        events.into_iter().filter(|event| about(&event.line)).collect()
    }

    fn speaker(&self) -> u32 {
        match self.amphora().pids("gobgpd").unwrap()[..] {
            [pid] => pid,
            ref other => panic!("gobgpd has the pids {other:?}"),
        }
    }

    /// Waits for a gobgpd that is another than `old`.
    fn wait_new_speaker(&self, old: u32) {
        let look = || match self.amphora().pids("gobgpd").map_err(|error| chain(&error))?[..] {
            [pid] if pid != old => Ok(()),
            ref other => Err(format!("gobgpd has the pids {other:?}")),
        };
        wait_for("another gobgpd", PATIENCE, look).unwrap();
    }

    /// The dead man's switches there are.
    fn watchers(&self) -> Vec<u32> {
        let found = self.amphora().node().run(["pgrep", "-f", "^amphora-agent deadman "]).unwrap_or_default();
        found.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
    }

    fn restart(&mut self) {
        self.amphora().start_agent(&[]).unwrap();
        self.api = self.amphora().wait_api(PATIENCE).unwrap().0;
    }

    fn agents_log(&self) -> String {
        std::fs::read_to_string(self.amphora().agent().unwrap().log()).unwrap()
    }
}

/// A gobgpd that dies comes back with its routes, without a call and with the VIP bound all the time.
fn speaker_dies(name: &str, kind: TorKind, graceful_restart: bool, signal: Signal) {
    let mut lab = Lab::new(name, kind, graceful_restart);
    let watch = lab.tor().watch_routes().unwrap();
    let old = lab.speaker();
    let start = Instant::now();
    assert_eq!(lab.amphora().kill_program("gobgpd", signal).unwrap(), 1);
    lab.wait_new_speaker(old);
    let withdrawn = !graceful_restart || signal == Signal::SIGTERM;
    if withdrawn {
        for family in BOTH {
            let vip = lab.vip.of(family).to_string();
            watch.wait("the route goes", PATIENCE, |line| line.starts_with(&format!("Deleted {vip}"))).unwrap();
        }
    }
    // It is back when the ToR has a session that is younger than the kill.
    let routes = |lab: &mut Lab| {
        let peers = lab.api.peers().map_err(|error| chain(&error))?.json();
        let up = peers[0]["state"] == "Established" && peers[0]["advertised"] == 2;
        if up { Ok(()) } else { Err(peers.to_string()) }
    };
    wait_for("a session with both routes", PATIENCE, || routes(&mut lab)).unwrap();
    lab.wait_announced();
    let back = start.elapsed();
    let events = lab.of_vip(watch.so_far());
    println!("{name}: {signal}, graceful restart {graceful_restart}: back after {back:.1?}");
    for event in &events {
        println!("{name}: +{:.2?} {}", event.at - start, event.line);
    }
    if !withdrawn {
        let gone: Vec<_> = events.iter().filter(|event| event.line.starts_with("Deleted")).collect();
        assert!(gone.is_empty(), "{gone:?}");
    }
    let wreck = Wreck::of(lab.amphora()).unwrap();
    assert_eq!((wreck.announced.len(), wreck.unbacked()), (2, vec![]), "{wreck:?}");
}

#[test]
fn frr_keeps_the_routes_of_a_killed_speaker_until_it_is_back() {
    speaker_dies("frr-gr", TorKind::Frr, true, Signal::SIGKILL);
}

#[test]
fn bird_keeps_the_routes_of_a_killed_speaker_until_it_is_back() {
    speaker_dies("bird-gr", TorKind::Bird, true, Signal::SIGKILL);
}

#[test]
fn without_graceful_restart_the_routes_of_a_killed_speaker_go_and_come_back() {
    for kind in [TorKind::Frr, TorKind::Bird] {
        speaker_dies(&format!("no-gr-{kind:?}").to_lowercase(), kind, false, Signal::SIGKILL);
    }
}

#[test]
fn a_speaker_that_is_stopped_withdraws_and_is_started_again() {
    for kind in [TorKind::Frr, TorKind::Bird] {
        speaker_dies(&format!("sigterm-{kind:?}").to_lowercase(), kind, true, Signal::SIGTERM);
    }
}

/// The new gobgpd knows nothing of the VIP, but its peers keep the route until they have been told all it has.
#[test]
fn a_vip_unplugged_while_its_speaker_restarts_is_unbound_only_when_no_router_has_it() {
    for kind in [TorKind::Frr, TorKind::Bird] {
        let mut lab = Lab::new(&format!("stale-{kind:?}").to_lowercase(), kind, true);
        let routes = lab.tor().watch_routes().unwrap();
        let bound = RouteWatch::start(&lab.amphora().haproxy_netns().unwrap()).unwrap();
        lab.amphora().kill_program("gobgpd", Signal::SIGKILL).unwrap();
        let (vip, mut refused) = (lab.vip.v4.into(), Vec::new());
        let unplugged = wait_for("it is unplugged", PATIENCE, || match lab.api.unplug_vip(vip) {
            Ok(reply) if reply.status == 200 => Ok(()),
            Ok(reply) => {
                refused.push(reply.text());
                Err(reply.text())
            }
            Err(error) => Err(chain(&error)),
        });
        let ((), took) = unplugged.unwrap();
        println!("{kind:?}: unplugged after {took:.1?}; before that: {refused:?}");
        assert!(refused.iter().all(|why| why.contains("still bound")), "{refused:?}");
        gone_before_unbound(&lab, &routes, &bound);
    }
}

/// Waits until the ToR has neither route and the amphora has neither VIP, and sees that this was the order.
fn gone_before_unbound(lab: &Lab, routes: &RouteWatch, bound: &RouteWatch) {
    let deleted = |line: &str| {
        let of = |family: &Family| line.starts_with("Deleted") && line.contains(&lab.vip.of(*family).to_string());
        BOTH.into_iter().find(of)
    };
    let mut left = BOTH.to_vec();
    let last = routes.wait("both routes go", PATIENCE, |line| {
        left.retain(|family| deleted(line) != Some(*family));
        left.is_empty()
    });
    let local = |line: &str| deleted(line).is_some() && line.contains("local");
    let (gone, unbound) = (last.unwrap().at, bound.wait("a VIP goes", PATIENCE, local).unwrap().at);
    println!("unbound {:?} after the last route went", unbound.checked_duration_since(gone));
    assert!(gone < unbound, "a VIP was unbound before its route went");
}

#[test]
fn a_thousand_registrations_are_replayed_before_the_session_is_set_up() {
    const MANY: usize = 1000;
    let mut lab = Lab::new("replay", TorKind::Bird, true);
    let hop = lab.fabric.tors[0].frontend(Family::V6);
    let IpAddr::V6(foreign) = hop else { unreachable!("asked for IPv6") };
    let foreign = Ipv6Addr::from_bits(foreign.to_bits() + 100);
    for n in 0..MANY {
        let vip = Ipv6Addr::from_bits(lab.vip.v6.to_bits() + 0x1_0000 + n as u128);
        let body = json!({ "vip_ip": vip, "nexthop_ip": foreign });
        lab.api.post("/1.0/distributor/vips", &body).unwrap().success().unwrap();
    }
    let complete = |lab: &Lab| {
        let routes = lab.tor().node().run(["ip", "-6", "route", "show", "root", "2001:db8:100::/48"]).unwrap();
        match routes.lines().filter(|line| line.contains(&format!("via {foreign} "))).count() {
            MANY => Ok(()),
            count => Err(format!("{count} routes")),
        }
    };
    wait_for("all routes in the ToR's kernel", PATIENCE, || complete(&lab)).unwrap();
    let (old, told_before) = (lab.speaker(), lab.agents_log().lines().count());
    let start = Instant::now();
    lab.amphora().kill_program("gobgpd", Signal::SIGKILL).unwrap();
    lab.wait_new_speaker(old);
    let replayed = || match lab::wreck::announced(lab.amphora()) {
        Ok(all) if all.len() == MANY + 2 => Ok(()),
        other => Err(format!("{:?}", other.map(|all| all.len()))),
    };
    wait_for("the replay", PATIENCE, replayed).unwrap();
    println!("replay: {} routes in the new gobgpd {:.2?} after the kill", MANY + 2, start.elapsed());
    let up = || {
        let peers = lab.api.peers().map_err(|error| chain(&error))?.json();
        if peers[0]["advertised"] == MANY + 2 { Ok(()) } else { Err(peers.to_string()) }
    };
    wait_for("the new session has all of them", PATIENCE, up).unwrap();
    println!("replay: all of them on a new session {:.2?} after the kill", start.elapsed());
    wait_for("all routes in the ToR's kernel", PATIENCE, || complete(&lab)).unwrap();
    lab.wait_announced();

    let log = lab.agents_log();
    let since: Vec<&str> = log.lines().skip(told_before).collect();
    // One line a change, or one for all of a large batch with their number.
    let told = |lines: &[&str]| -> usize {
        let count = |line: &&&str| line.contains("told the speaker");
        let many = |line: &&str| line.split("changes=").nth(1).and_then(|n| n.split_whitespace().next()?.parse().ok());
        lines.iter().filter(count).map(|line| many(line).unwrap_or(1)).sum()
    };
    let sessions = since.iter().position(|line| line.contains("sessions set up")).unwrap();
    assert_eq!(told(&since[..sessions]), MANY + 2);
    assert_eq!(told(&since[sessions..]), 0);
}

/// Everything on the wire that is no keepalive: handshakes, ends, and BGP messages of another length than 19 octets.
const NO_KEEPALIVE: &str = "tcp port 179 and (tcp[tcpflags] & (tcp-syn|tcp-fin|tcp-rst) != 0 or \
    (ip[2:2] - ((ip[0]&0xf)<<2) - ((tcp[12]&0xf0)>>2) != 0 and ip[2:2] - ((ip[0]&0xf)<<2) - ((tcp[12]&0xf0)>>2) != 19))";
const KEEPALIVE: &str = "tcp port 179 and ip[2:2] - ((ip[0]&0xf)<<2) - ((tcp[12]&0xf0)>>2) = 19";

#[test]
fn an_agent_that_is_killed_stopped_or_replaced_is_not_noticed_on_the_wire() {
    // Not FRR: it asks for all routes again (ROUTE-REFRESH) 5 s after it has read its route-maps.
    let mut lab = Lab::new("unnoticed", TorKind::Bird, true);
    let vip = SocketAddr::new(lab.vip.v4.into(), 80);
    lab.amphora().start_haproxy(&[lab.vip.v4.into(), lab.vip.v6.into()], 80).unwrap();
    wait_for("the first answer", PATIENCE, || match traffic::connect(&lab.fabric.client, vip, 1) {
        Ok(split) if split.failed() == 0 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .unwrap();
    let since = lab.api.peers().unwrap().json()[0]["since"].clone();
    assert!(since.is_u64(), "{since}");
    let (speaker, watchers) = (lab.speaker(), lab.watchers());
    let watch = lab.tor().watch_routes().unwrap();
    let wire = Capture::start(lab.amphora().node(), MANAGEMENT_NIC, "tcp port 179").unwrap();
    let program = lab::workdir::built_program("amphora-agent").unwrap();
    lab.amphora().node().run(["cp".as_ref(), program.as_os_str(), "/run/amphora-agent-new".as_ref()]).unwrap();

    let over = AtomicBool::new(false);
    let client = &*lab.fabric.client;
    let (answered, failed) = std::thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            let (mut answered, mut failed) = (0, 0);
            while !over.load(Ordering::Relaxed) {
                let split = traffic::connect(client, vip, 32).unwrap();
                (answered, failed) = (answered + split.answered(), failed + split.failed());
            }
            (answered, failed)
        });
        let amphora = &lab.fabric.amphorae[0];
        let start = Instant::now();
        for _ in 0..3 {
            amphora.kill_agent().unwrap();
            amphora.start_agent(&[]).unwrap();
            amphora.wait_api(PATIENCE).unwrap();
            amphora.stop_agent().unwrap();
            amphora.start_agent(&[]).unwrap();
            amphora.wait_api(PATIENCE).unwrap();
        }
        // Another program in its place, which takes the lock as soon as the old one has gone.
        let mut new = command(["/run/amphora-agent-new", "--config-file", "/etc/octavia/amphora-agent.conf"]);
        new.args(["--config-dir", "/etc/octavia/amphora-agent.conf.d"]);
        let old = amphora.agent().unwrap();
        let new = amphora.node().spawn("agent-new", &mut new).unwrap();
        old.kill(Signal::SIGTERM).unwrap();
        old.wait(PATIENCE).unwrap();
        let mut api = amphora.api().unwrap();
        let active = || {
            let routes = api.amphorae().map_err(|error| chain(&error))?.json();
            let all = routes.as_array().map(|all| all.iter().filter(|r| r["operating_status"] == "ONLINE").count());
            if all == Some(2) { Ok(()) } else { Err(routes.to_string()) }
        };
        wait_for("the new agent reads back both routes", PATIENCE, active).unwrap();
        assert_eq!(api.peers().unwrap().json()[0]["since"], since, "the session is the same");
        sleep(Duration::from_secs(7).saturating_sub(start.elapsed())); // two keepalives
        over.store(true, Ordering::Relaxed);
        new.kill_and_wait().unwrap();
        traffic.join().unwrap()
    });
    let packets = wire.stop().unwrap();
    let events = lab.of_vip(watch.so_far());
    println!(
        "unnoticed: 7 restarts, {answered} requests answered, {failed} lost, {} keepalives, {} other segments with data",
        packets.count(KEEPALIVE).unwrap(),
        packets.count(NO_KEEPALIVE).unwrap()
    );
    assert!(answered > 0 && failed == 0, "{answered} answered, {failed} lost");
    assert!(packets.count(KEEPALIVE).unwrap() >= 2);
    assert_eq!(packets.matching(NO_KEEPALIVE).unwrap(), [] as [String; 0]);
    assert!(events.is_empty(), "{events:?}");
    assert_eq!((lab.speaker(), lab.watchers()), (speaker, watchers));
}

/// What a reboot leaves: the disk, and the NICs by their MACs.
#[test]
fn after_a_reboot_everything_is_as_acknowledged_although_the_nic_has_another_name() {
    let mut lab = Lab::new("reboot", TorKind::Frr, true);
    let before = Wreck::of(lab.amphora()).unwrap();
    lab.amphora().kill_agent().unwrap();
    let node = lab.amphora().node();
    for pid in lab.watchers() {
        node.run(["kill", "-9", &pid.to_string()]).unwrap();
    }
    lab.amphora().kill_program("gobgpd", Signal::SIGKILL).unwrap();
    let inside = lab.amphora().haproxy_netns().unwrap();
    inside.run(["ip", "link", "set", "eth1", "down", "netns", "1", "name", "enp9s0"]).unwrap();
    node.run(["ip", "netns", "delete", HAPROXY_NETNS]).unwrap();
    drop(inside);
    node.run(["sh", "-c", "while umount /run/netns 2>/dev/null; do :; done; rm -rf /run/*"]).unwrap();
    assert!(node.run(["ip", "link", "show", FRONTEND_NIC]).is_err());

    let start = Instant::now();
    lab.restart();
    let as_before = || match Wreck::of(lab.amphora()) {
        Ok(now) if now == before => Ok(()),
        other => Err(format!("{other:?} instead of {before:?}")),
    };
    wait_for("everything is as it was", PATIENCE, as_before).unwrap();
    println!("reboot: all bound and announced again {:.1?} after the agent's start", start.elapsed());
    lab.tor().wait_established(lab.amphora().management(Family::V4), PATIENCE).unwrap();
    lab.wait_announced();
    let again = lab.api.plug_vip(lab.vip.v4.into(), &lab.amphora().plug_body(lab.vip)).unwrap();
    assert_eq!(again.status, 409, "what was acknowledged is plugged: {}", again.text());
}
