//! The agent dies at every step of every operation. With it dead nothing moves, so each time the amphora is looked at as
//! it was left: whatever is announced is bound and silent. Then a new agent has what was acknowledged, and a retry
//! completes what was not.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]
#![allow(clippy::doc_markdown, reason = "ToR is a word here, not code")]

mod one;
mod order;
mod registered;
mod table;
mod walk;

use std::collections::BTreeSet;
use std::net::IpAddr;

use lab::{Api, Family, TorKind, Wreck};
use serde_json::json;

use one::{One, PATIENCE};
use walk::{Operation, walk};

fn plugged(wreck: &Wreck, lab: &One) -> bool {
    let tables: BTreeSet<_> =
        ["-4 default", "-4 192.0.2.0/25", "-6 default", "-6 2001:db8:2::/64"].map(String::from).into();
    wreck.bound == lab.both() && wreck.silent && wreck.rules == lab.both() && wreck.table_1.is_superset(&tables)
}

#[test]
fn an_agent_killed_at_any_step_of_an_anycast_plug_completes_it_on_a_retry() {
    let lab = One::new("crash-plug", TorKind::Bird);
    let before = || {
        lab.amphora().kill_agent().unwrap();
        lab.forget();
    };
    let call = |api: &mut Api| {
        let reply = lab.plug(api)?;
        if reply.status == 202 {
            let wreck = lab.look();
            assert!(plugged(&wreck, &lab), "answered before it was done: {wreck:?}");
        }
        Ok(reply)
    };
    let after = |wreck: &Wreck| plugged(wreck, &lab);
    walk(&lab, &Operation { name: "plug", before: &before, call: &call, after: &after, again: 409 });
}

#[test]
fn an_agent_killed_at_any_step_of_an_interface_plug_or_unplug_completes_it_on_a_retry() {
    let mut lab = One::new("crash-interface", TorKind::Bird);
    lab.body["vip_mode"] = "interface".into();
    lab.body["frontend_ips"].take();
    lab.body["additional_vips"].take(); // IPv6 would wait for duplicate address detection each time
    let vip: BTreeSet<IpAddr> = [lab.vip.v4.into()].into();
    let sections = lab.amphora().distributor_sections()
        + &lab.fabric.tors[0].peer_section(Family::V4)
        + "[controller_worker]\nloadbalancer_topology = SINGLE\n";
    lab.amphora().write_config(&sections).unwrap();
    let on_nic = |wreck: &Wreck| {
        wreck.on_nics.is_superset(&vip)
            && wreck.rules == vip
            && wreck.table_1.len() == 2
            && wreck.bound.is_empty()
            && !wreck.silent
    };
    let unplugged = |wreck: &Wreck| wreck.on_nics.is_empty() && wreck.rules.is_empty() && wreck.table_1.is_empty();
    let before = || {
        lab.amphora().kill_agent().unwrap();
        lab.forget();
    };
    let call = |api: &mut Api| lab.plug(api);
    walk(&lab, &Operation { name: "plug interface", before: &before, call: &call, after: &on_nic, again: 409 });
    let before = || {
        lab.amphora().kill_agent().unwrap();
        lab.plug(&mut lab.start()).unwrap();
        lab.amphora().kill_agent().unwrap();
    };
    let call = |api: &mut Api| lab.unplug(api);
    walk(&lab, &Operation { name: "unplug interface", before: &before, call: &call, after: &unplugged, again: 200 });
}

#[test]
fn an_agent_killed_at_any_step_of_plugging_a_network_or_setting_rules_completes_it_on_a_retry() {
    let lab = One::new("crash-network", TorKind::Bird);
    let mac = lab.amphora().frontend_mac();
    let port = |ips: &[&str]| {
        let fixed: Vec<_> = ips.iter().map(|ip| json!({"ip_address": ip, "subnet_cidr": "10.1.0.0/24"})).collect();
        json!({"mac_address": mac, "fixed_ips": fixed})
    };
    let ips = |texts: &[&str]| -> BTreeSet<IpAddr> { texts.iter().map(|t| t.parse().unwrap()).collect() };
    let before = || {
        lab.amphora().kill_agent().unwrap();
        lab.forget();
    };
    let first = ["10.1.0.5", "10.1.0.6"];
    let call = |api: &mut Api| api.post("/1.0/plug/network", &port(&first));
    let after = |wreck: &Wreck| wreck.on_nics == ips(&first);
    walk(&lab, &Operation { name: "plug network", before: &before, call: &call, after: &after, again: 202 });

    let before = || {
        if !lab.amphora().agent().unwrap().is_running() {
            lab.start();
        }
        let mut api = lab.amphora().api().unwrap();
        api.post("/1.0/plug/network", &port(&first)).unwrap().success().unwrap();
        lab.amphora().kill_agent().unwrap();
    };
    let second = ["10.1.0.6", "10.1.0.7"];
    let call = |api: &mut Api| api.post("/1.0/plug/network", &port(&second));
    let after = |wreck: &Wreck| wreck.on_nics == ips(&second);
    walk(&lab, &Operation { name: "update network", before: &before, call: &call, after: &after, again: 202 });

    let table = || lab.amphora().haproxy_netns().unwrap().run(["nft", "list", "table", "inet", "amphora_table"]);
    let rules = |port: u16| json!([{"protocol": "TCP", "cidr": null, "port": port}]);
    let set = |api: &mut Api, port| api.put("/1.0/interface/10.1.0.6/rules", &rules(port));
    let before = || {
        if !lab.amphora().agent().unwrap().is_running() {
            lab.start();
        }
        let mut api = lab.amphora().api().unwrap();
        api.post("/1.0/plug/network", &port(&first)).unwrap().success().unwrap();
        set(&mut api, 80).unwrap().success().unwrap();
        lab.amphora().kill_agent().unwrap();
    };
    // At every moment it is one or the other, and never open.
    let after = |_: &Wreck| {
        let said = table().unwrap();
        assert!(said.contains("policy drop") && (said.contains("dport 80 ") != said.contains("dport 81 ")), "{said}");
        said.contains("dport 81 ")
    };
    let call = |api: &mut Api| set(api, 81);
    walk(&lab, &Operation { name: "rules", before: &before, call: &call, after: &after, again: 200 });
}

#[test]
fn an_agent_killed_at_any_step_of_register_or_unregister_moves_no_other_route() {
    let lab = One::new("crash-register", TorKind::Bird);
    let tor = &lab.fabric.tors[0];
    let mut api = lab.start();
    lab.plug(&mut api).unwrap().success().unwrap();
    lab.register(&mut api, Family::V6).unwrap().success().unwrap();
    tor.wait_established(lab.amphora().management(Family::V4), PATIENCE).unwrap();
    let only_v6 = BTreeSet::from([lab.vip.v6.into()]);
    lab.wait_routes(&only_v6);
    let bystander = tor.watch_routes().unwrap();

    let before = || {
        if !lab.amphora().agent().unwrap().is_running() {
            lab.start();
        }
        lab.unregister(&mut lab.amphora().api().unwrap(), Family::V4).unwrap().success().unwrap();
        lab.wait_look("unregistered", |wreck| wreck.announced == only_v6);
        lab.amphora().kill_agent().unwrap();
    };
    let call = |api: &mut Api| lab.register(api, Family::V4);
    let after = |wreck: &Wreck| wreck.announced == lab.both();
    walk(&lab, &Operation { name: "register", before: &before, call: &call, after: &after, again: 202 });
    lab.wait_routes(&lab.both());

    let before = || {
        if !lab.amphora().agent().unwrap().is_running() {
            lab.start();
        }
        lab.register(&mut lab.amphora().api().unwrap(), Family::V4).unwrap().success().unwrap();
        lab.wait_look("registered", |wreck| wreck.announced == lab.both());
        lab.amphora().kill_agent().unwrap();
    };
    let call = |api: &mut Api| lab.unregister(api, Family::V4);
    let after = |wreck: &Wreck| wreck.announced == only_v6 && wreck.bound == lab.both();
    walk(&lab, &Operation { name: "unregister", before: &before, call: &call, after: &after, again: 200 });
    lab.wait_routes(&only_v6);

    // The other VIP's route has not moved through all of this, and neither has the session.
    let moved: Vec<_> = bystander.so_far().into_iter().filter(|e| e.line.contains(&lab.vip.v6.to_string())).collect();
    assert!(moved.is_empty(), "{moved:?}");
}

#[test]
fn an_agent_killed_at_any_step_of_an_unplug_withdraws_before_it_unbinds() {
    let lab = One::new("crash-unplug", TorKind::Bird);
    let mut api = lab.start();
    lab.plug(&mut api).unwrap().success().unwrap();
    // The front-end IP comes back in each round, and its duplicate address detection would take a second.
    lab.amphora().haproxy_netns().unwrap().sysctl("net/ipv6/conf/eth1/accept_dad", "0").unwrap();
    lab.register(&mut api, Family::V6).unwrap().success().unwrap();
    drop(api);
    let before = || {
        let running = lab.amphora().agent().unwrap().is_running();
        let mut api = if running { lab.amphora().api().unwrap() } else { lab.start() };
        let reply = lab.plug(&mut api).unwrap();
        assert!(matches!(reply.status, 202 | 409), "{}", reply.text());
        lab.register(&mut api, Family::V4).unwrap().success().unwrap();
        lab.wait_look("plugged and registered", |wreck| wreck.announced == lab.both());
        lab.wait_routes(&lab.both());
        lab.amphora().kill_agent().unwrap();
    };
    let call = |api: &mut Api| {
        let reply = lab.unplug(api)?;
        if reply.status == 200 {
            let wreck = lab.look();
            assert!(wreck.bound.is_empty() && wreck.announced.is_empty(), "answered before it was done: {wreck:?}");
        }
        Ok(reply)
    };
    let after = |wreck: &Wreck| {
        wreck.announced.is_empty() && wreck.bound.is_empty() && wreck.rules.is_empty() && wreck.on_nics.is_empty()
    };
    walk(&lab, &Operation { name: "unplug", before: &before, call: &call, after: &after, again: 200 });
    lab.wait_routes(&BTreeSet::new());
}

#[test]
fn an_agent_killed_at_any_step_of_starting_the_speaker_starts_it_or_finds_it_the_next_time() {
    let lab = One::new("crash-start", TorKind::Bird);
    let mut api = lab.start();
    lab.plug(&mut api).unwrap().success().unwrap();
    lab.register(&mut api, Family::V4).unwrap().success().unwrap();
    lab.register(&mut api, Family::V6).unwrap().success().unwrap();
    lab.wait_look("announced", |wreck| wreck.announced == lab.both());
    drop(api);
    let before = || {
        lab.amphora().kill_agent().unwrap();
        lab.amphora().kill_program("gobgpd", nix::sys::signal::Signal::SIGKILL).unwrap();
        lab.wait_look("no speaker", |_| lab.amphora().pids("gobgpd").unwrap().is_empty());
    };
    let call = |api: &mut Api| api.get("/");
    let tor = lab.fabric.tors[0].peering_address(Family::V4).to_string();
    let after = |wreck: &Wreck| {
        let neighbors = lab::speaker::gobgp(lab.amphora().node(), &["neighbor"]);
        wreck.announced == lab.both() && neighbors.is_ok_and(|neighbors| neighbors.contains(&tor))
    };
    walk(&lab, &Operation { name: "start", before: &before, call: &call, after: &after, again: 200 });
    assert_eq!(lab.amphora().pids("gobgpd").unwrap().len(), 1);
    lab.wait_routes(&lab.both());
}
