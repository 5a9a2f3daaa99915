//! What a new configuration does to sessions and announcements: only what it says differently.

use ipnet::IpNet;
use lab::fabric::TOR_PEERING_NIC;
use lab::{Amphora, Api, Capture, Fabric, Family, Neighbours, Options, Tor, TorKind, TorOptions, addresses, wait_for};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{MAIN, PATIENCE, put};

/// What is neither a keepalive alone (RFC 4271 section 4.4: 19 bytes, type 4) nor a bare acknowledgement: any other BGP
/// message, and any connection that is opened or ended.
const NEWS: &str = "tcp port 179 and (tcp[tcpflags] & (tcp-syn|tcp-fin|tcp-rst) != 0 or \
                    (ip[2:2] - ((ip[0] & 0xf) << 2) - ((tcp[12] & 0xf0) >> 2) != 0 and \
                    (ip[2:2] - ((ip[0] & 0xf) << 2) - ((tcp[12] & 0xf0) >> 2) != 19 or \
                    tcp[((tcp[12] & 0xf0) >> 2) + 18] != 4)))";

/// One amphora that announces a dual-stack VIP to ToRs of FRR that dial. They do not filter: with a filter FRR asks for
/// everything once more (ROUTE-REFRESH) seconds after its start, and is answered.
fn announcing(test: &str, tors: usize) -> (Fabric, Api) {
    let mut options = Options::new(TorKind::Frr);
    options.amphorae = 1;
    options.tors =
        vec![TorOptions { neighbours: Neighbours::Each(Family::V4), filters: false, ..options.tors[0].clone() }; tors];
    let fabric = Fabric::new(test, &options).unwrap();
    let amphora = &fabric.amphorae[0];
    amphora.write_config(&(amphora.distributor_sections() + &fabric.tors[0].peer_section(Family::V4))).unwrap();
    amphora.start_agent(&[]).unwrap();
    let mut api = amphora.wait_api(PATIENCE).unwrap().0;
    let vip = addresses::vip(7);
    api.plug_vip(vip.v4.into(), &amphora.plug_body(vip)).unwrap().success().unwrap();
    for family in [Family::V4, Family::V6] {
        api.register(amphora.id(), vip.of(family), amphora.frontend(family), None).unwrap().success().unwrap();
    }
    has_routes(&fabric.tors[0], amphora);
    (fabric, api)
}

fn wait_routes(tor: &Tor, family: Family, hops: &[std::net::IpAddr]) {
    tor.wait_next_hops(IpNet::from(addresses::vip(7).of(family)), hops, PATIENCE).unwrap();
}

fn has_routes(tor: &Tor, amphora: &Amphora) {
    for family in [Family::V4, Family::V6] {
        wait_routes(tor, family, &[amphora.frontend(family)]);
    }
}

fn sessions(api: &mut Api) -> Vec<Value> {
    let reply = api.peers().unwrap().success().unwrap();
    reply.json().as_array().unwrap().clone()
}

fn wait_sessions(api: &mut Api, names: &[&str]) -> Vec<Value> {
    let look = || {
        let sessions = sessions(api);
        let up = |name: &&&str| sessions.iter().any(|s| s["peer_id"] == **name && s["state"] == "Established");
        let all = sessions.len() == names.len() && names.iter().filter(up).count() == names.len();
        if all { Ok(sessions) } else { Err(format!("{sessions:?}")) }
    };
    wait_for(&format!("sessions with {names:?}"), PATIENCE, look).unwrap().0
}

/// SIGHUP, and that it was taken.
fn hang_up(amphora: &Amphora) {
    let count = || crate::support::log(amphora).matches("configuration read again").count();
    let before = count();
    amphora.agent().unwrap().kill(Signal::SIGHUP).unwrap();
    wait_for("the reload", PATIENCE, || if count() > before { Ok(()) } else { Err(crate::support::log(amphora)) })
        .unwrap();
}

#[test]
fn a_stock_configuration_put_on_an_anycast_amphora_sends_no_bgp_message() {
    let (fabric, mut api) = announcing("config-silent", 1);
    let (amphora, tor) = (&fabric.amphorae[0], &fabric.tors[0]);
    let old = amphora.node().read_file(MAIN).unwrap();
    let own = "/etc/octavia/amphora-agent.conf.d/50-lab.conf";
    let sections = amphora.node().read_file(own).unwrap();
    let since = wait_sessions(&mut api, &["tor-0"])[0]["since"].clone();
    let wire = Capture::start(tor.node(), TOR_PEERING_NIC, "tcp port 179").unwrap();
    let routes = tor.watch_routes().unwrap();
    // What a controller changes: where heartbeats go, how often, under what key, and its debug flag.
    let new = old
        .replace("controller_ip_port_list =", "controller_ip_port_list = 192.0.2.1:5555, 192.0.2.2:5555")
        .replace("heartbeat_interval = 10", "heartbeat_interval = 3")
        .replace("lab-heartbeat-key", "another-key")
        .replace("debug = False", "debug = True");
    for config in [&new, &new, &old] {
        assert_eq!(put(&mut api, "/1.0/config", config.clone()).unwrap().status, 202);
    }
    hang_up(amphora);
    // Longer than a keepalive interval of 3 s: the capture is known to see what is sent.
    std::thread::sleep(std::time::Duration::from_secs(4));
    let packets = wire.stop().unwrap();
    let from_us = format!("src host {} and {NEWS}", amphora.management(Family::V4));
    assert_eq!(packets.matching(&from_us).unwrap(), [""; 0]);
    assert!(packets.count(&format!("src host {}", amphora.management(Family::V4))).unwrap() > 0);
    assert_eq!(routes.so_far().into_iter().map(|event| event.line).collect::<Vec<_>>(), [""; 0]);
    assert_eq!(wait_sessions(&mut api, &["tor-0"])[0]["since"], since);
    assert_eq!(amphora.node().read_file(own).unwrap(), sections, "conf.d is the operator's");
}

#[test]
fn a_gate_that_a_new_configuration_closes_withdraws_and_one_it_opens_announces() {
    let (fabric, mut api) = announcing("config-gate", 1);
    let (amphora, tor) = (&fabric.amphorae[0], &fabric.tors[0]);
    let (good, v4) = (amphora.distributor_sections() + &tor.peer_section(Family::V4), amphora.frontend(Family::V4));
    let allowed = format!("{}, {}", addresses::ANYCAST.v4, addresses::ANYCAST.v6);
    assert!(good.contains(&allowed));
    amphora.write_config(&good.replace(&allowed, &addresses::ANYCAST.v6.to_string())).unwrap();
    // The controller's file, unchanged, brings in what is beside it.
    let main = amphora.node().read_file(MAIN).unwrap();
    assert_eq!(put(&mut api, "/1.0/config", main).unwrap().status, 202);
    wait_routes(tor, Family::V4, &[]);
    wait_routes(tor, Family::V6, &[amphora.frontend(Family::V6)]);
    let vip = addresses::vip(7).v4;
    let route = api.get(&format!("/1.0/distributor/amphorae?vip_ip={vip}")).unwrap().text();
    assert!(route.contains("outside [distributor] allowed_prefixes"), "{route}");
    assert_eq!(api.register(amphora.id(), addresses::vip(8).v4.into(), v4, None).unwrap().status, 400);
    amphora.write_config(&good).unwrap();
    hang_up(amphora);
    has_routes(tor, amphora);
}

#[test]
fn peers_come_and_go_and_those_that_stay_the_same_hear_nothing_of_it() {
    let (fabric, mut api) = announcing("config-peers", 3);
    let (amphora, [first, second, third]) = (&fabric.amphorae[0], &fabric.tors[..]) else { panic!("three") };
    let [a, b, c] = [first, second, third].map(|tor| tor.peer_section(Family::V4));
    let base = amphora.distributor_sections();
    let since = wait_sessions(&mut api, &["tor-0"])[0]["since"].clone();
    let wire = Capture::start(first.node(), TOR_PEERING_NIC, "tcp port 179").unwrap();
    let set = |sections: &str| {
        amphora.write_config(sections).unwrap();
        hang_up(amphora);
    };
    set(&format!("{base}{a}{b}{c}"));
    wait_sessions(&mut api, &["tor-0", "tor-1", "tor-2"]);
    for tor in [second, third] {
        has_routes(tor, amphora);
    }
    // One goes, and another has other communities: both at once.
    set(&format!("{base}{a}{b}communities = 64500:7\n"));
    wait_sessions(&mut api, &["tor-0", "tor-1"]);
    for family in [Family::V4, Family::V6] {
        wait_routes(third, family, &[]);
    }
    let prefix = IpNet::from(std::net::IpAddr::from(addresses::vip(7).v4));
    wait_for("tor-1 sees the community", PATIENCE, || {
        match second.ask(&format!("show bgp ipv4 unicast {prefix} json")) {
            Ok(route) if route.contains("64500:7") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .unwrap();
    // What needs a restart is kept and the rest is taken.
    set(&format!("{base}{a}").replace("local_as = 64512", "local_as = 64513"));
    wait_sessions(&mut api, &["tor-0"]);
    for family in [Family::V4, Family::V6] {
        wait_routes(second, family, &[]);
    }
    assert!(crate::support::log(amphora).contains("[bgp] local_as: takes effect when the agent is restarted"));

    let from_us = format!("src host {} and {NEWS}", amphora.management(Family::V4));
    assert_eq!(wire.stop().unwrap().matching(&from_us).unwrap(), [""; 0], "the first session is as it was");
    assert_eq!(wait_sessions(&mut api, &["tor-0"])[0]["since"], since);
    has_routes(first, amphora);
}

#[test]
fn the_interfaces_files_are_written_where_a_reload_says() {
    let (fabric, mut api) = announcing("config-directory", 1);
    let node = fabric.amphorae[0].node();
    let contents = || node.read_file("/run/interfaces/eth1.json");
    assert!(contents().is_err());
    let old = node.read_file(MAIN).unwrap();
    let new = old.replace("[amphora_agent]\n", "[amphora_agent]\nagent_server_network_dir = /run/interfaces\n");
    assert_eq!(put(&mut api, "/1.0/config", new).unwrap().status, 202);
    wait_for("the files there", PATIENCE, || contents().map_err(|error| error.to_string())).unwrap();
    assert_eq!(contents().unwrap(), node.read_file("/etc/octavia/interfaces/eth1.json").unwrap());
}

#[test]
fn while_the_speaker_is_away_the_peers_are_idle_and_say_why() {
    let (fabric, mut api) = announcing("config-away", 1);
    let amphora = &fabric.amphorae[0];
    // It cannot be started again until the program is back.
    amphora.node().run(["mount", "--bind", "/bin/false", "/usr/bin/gobgpd"]).unwrap();
    assert_eq!(amphora.kill_program("gobgpd", Signal::SIGKILL).unwrap(), 1);
    let idle = || match sessions(&mut api).remove(0) {
        peer if peer["state"] == "Idle" && peer["last_error"].as_str().is_some_and(|e| e.contains("no speaker")) => {
            Ok(())
        }
        peer => Err(peer),
    };
    wait_for("an idle peer", PATIENCE, idle).unwrap();
    // A change of the peers meanwhile is what the next speaker is told.
    let sections =
        amphora.distributor_sections() + &fabric.tors[0].peer_section(Family::V4) + "communities = 64500:9\n";
    amphora.write_config(&sections).unwrap();
    hang_up(amphora);
    // Lazily: the agent may be trying it at this moment.
    amphora.node().run(["umount", "-l", "/usr/bin/gobgpd"]).unwrap();
    wait_sessions(&mut api, &["tor-0"]);
    has_routes(&fabric.tors[0], amphora);
}
