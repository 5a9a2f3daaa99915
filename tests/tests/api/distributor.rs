//! Registering, listing and unregistering, and statuses that follow what is really sent to whom.

use std::net::IpAddr;

use ipnet::IpNet;
use lab::{Amphora, Api, Fabric, Family, addresses, wait_for};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{PATIENCE, fabric, routes, running, start, vip, wait_route};

fn established(fabric: &Fabric) {
    for tor in &fabric.tors {
        tor.wait_established(fabric.amphorae[0].management(Family::V4), PATIENCE).unwrap();
    }
}

fn prefix(vip: IpAddr) -> IpNet {
    vip.into()
}

fn plugged(amphora: &Amphora, api: &mut Api) {
    api.plug_vip(vip().v4.into(), &amphora.plug_body(vip())).unwrap().success().unwrap();
}

#[test]
fn a_registration_before_the_plug_is_pending_with_the_reason_and_becomes_active_by_the_plug() {
    let (fabric, mut api) = running("pending", 1);
    let (amphora, tor) = (&fabric.amphorae[0], &fabric.tors[0]);
    established(&fabric);
    for family in [Family::V4, Family::V6] {
        let (vip, hop) = (vip().of(family), amphora.frontend(family));
        let reply = api.register(amphora.id(), vip, hop, None).unwrap();
        assert_eq!(reply.status, 202, "{}", reply.text());
        let reason = format!("{vip} is not plugged into this amphora yet; POST /1.0/plug/vip/{vip}");
        let judged = || match routes(&mut api, &format!("amphorae?vip_ip={vip}")).remove(0) {
            route if route["reason"] == reason => Ok(route),
            route => Err(route),
        };
        let (route, _) = wait_for("the registration is judged", PATIENCE, judged).unwrap();
        let prefix = prefix(vip).to_string();
        let want = json!({
            "amphora_id": amphora.id(), "vip_ip": vip, "prefix": prefix, "nexthop_ip": hop, "peer_id": null,
            "origin": "api", "provisioning_status": "PENDING_CREATE", "operating_status": "OFFLINE",
            "advertised_to": [], "degraded": true,
            "reason": reason,
        });
        assert_eq!(route, want);
        let again = api.register(amphora.id(), vip, hop, None).unwrap();
        assert_eq!((again.status, again.json()), (202, want), "the same body gets the same answer");
        assert!(!tor.has_learned(vip.into()).unwrap());
    }
    plugged(amphora, &mut api);
    for family in [Family::V4, Family::V6] {
        let route = wait_route(&mut api, vip().of(family), "ACTIVE", "ONLINE");
        assert_eq!((&route["advertised_to"], route.get("reason")), (&json!(["tor-0"]), None));
        tor.wait_next_hops(prefix(vip().of(family)), &[amphora.frontend(family)], PATIENCE).unwrap();
    }
}

/// Statuses are read back from the speaker, so they say what a dead ToR does to them.
#[test]
fn one_dead_tor_of_two_degrades_and_the_last_one_takes_offline_with_the_reason() {
    let (fabric, mut api) = running("statuses", 2);
    let amphora = &fabric.amphorae[0];
    established(&fabric);
    plugged(amphora, &mut api);
    let ip = vip().v4.into();
    api.register(amphora.id(), ip, amphora.frontend(Family::V4), None).unwrap().success().unwrap();
    let route = wait_route(&mut api, ip, "ACTIVE", "ONLINE");
    assert_eq!(route["advertised_to"], json!(["tor-0", "tor-1"]));
    let peers = api.peers().unwrap().success().unwrap().json();
    for (peer, tor) in peers.as_array().unwrap().iter().zip(&fabric.tors) {
        assert_eq!((&peer["peer_id"], &peer["state"]), (&json!(tor.name()), &json!("Established")), "{peer}");
        assert_eq!(peer["peer_ip"], json!(tor.peering_address(Family::V4)));
        let facts = json!([peer["remote_as"], peer["hold_time"], peer["keepalive_interval"], peer["advertised"]]);
        assert_eq!(facts, json!([64500, 9, 3, 1]), "{peer}");
        assert_eq!(peer["families"].as_array().unwrap().len(), 2, "{peer}");
        assert!(peer["since"].as_u64().unwrap() > 1_700_000_000 && peer["last_error"].is_null(), "{peer}");
    }
    for (dead, operating, advertised) in [(1, "DEGRADED", json!(["tor-0"])), (0, "OFFLINE", json!([]))] {
        fabric.tors[dead].daemons()[0].kill(Signal::SIGKILL).unwrap();
        let route = wait_route(&mut api, ip, "ACTIVE", operating);
        assert_eq!(route["advertised_to"], advertised);
        let reason = route["reason"].as_str().unwrap();
        let name = fabric.tors[dead].name();
        assert!(reason.contains(name) && reason.contains("GET /1.0/distributor/peers"), "{reason}");
        let peers = api.peers().unwrap().success().unwrap().json();
        assert!(peers[dead]["state"] != "Established" && peers[dead]["last_error"].is_string(), "{peers}");
    }
}

fn registered(api: &mut Api, of: &str) -> Vec<(String, Value)> {
    let tell = |route: &Value| (route["vip_ip"].as_str().unwrap().to_owned(), route["peer_id"].clone());
    routes(api, of).iter().map(tell).collect()
}

#[test]
fn one_peer_alone_hears_what_is_for_it_and_registering_for_the_other_moves_it() {
    let (fabric, mut api) = running("peers", 2);
    let [first, second] = &fabric.tors[..] else { unreachable!("two were asked for") };
    established(&fabric);
    let foreign = "192.0.2.77".parse().unwrap();
    let (one, all): (IpAddr, IpAddr) = (addresses::vip(20).v4.into(), addresses::vip(21).v4.into());
    api.register("other", all, foreign, None).unwrap().success().unwrap();
    for (to, has, has_not) in [("tor-0", first, second), ("tor-1", second, first)] {
        api.register("other", one, foreign, Some(to)).unwrap().success().unwrap();
        has.wait_next_hops(prefix(one), &[foreign], PATIENCE).unwrap();
        has_not.wait_next_hops(prefix(one), &[], PATIENCE).unwrap();
        let route = wait_route(&mut api, one, "ACTIVE", "ONLINE");
        assert_eq!((&route["peer_id"], &route["advertised_to"]), (&json!(to), &json!([to])));
    }
    for tor in [first, second] {
        tor.wait_next_hops(prefix(all), &[foreign], PATIENCE).unwrap();
    }
}

#[test]
fn unregistering_takes_what_its_filters_say_and_is_success_when_there_is_nothing() {
    let (fabric, mut api) = running("filters", 2);
    established(&fabric);
    let vips: Vec<IpAddr> = (30..36).map(|n| addresses::vip(n).v4.into()).collect();
    let hops: [IpAddr; 2] = ["192.0.2.77", "192.0.2.78"].map(|hop| hop.parse().unwrap());
    for (vip, hop, peer) in [(0, 0, None), (1, 0, Some("tor-0")), (2, 0, Some("tor-1")), (3, 1, None)] {
        api.register("other", vips[vip], hops[hop], peer).unwrap().success().unwrap();
    }
    api.register("another", vips[4], hops[0], None).unwrap().success().unwrap();
    let end_point = json!({"vip_ip": vips[5], "nexthop_ip": hops[0], "peer_id": "tor-0"});
    assert_eq!(api.post("/1.0/distributor/vips", &end_point).unwrap().status, 202);
    assert_eq!(registered(&mut api, "amphorae").len(), 5);
    assert_eq!(registered(&mut api, "vips"), [(vips[5].to_string(), json!("tor-0"))]);
    assert_eq!(registered(&mut api, &format!("amphorae?vip_ip={}", vips[1])), [(vips[1].to_string(), json!("tor-0"))]);
    for vip in &vips {
        let told = if *vip == vips[2] { &fabric.tors[1] } else { &fabric.tors[0] };
        told.wait_next_hops(prefix(*vip), &[if *vip == vips[3] { hops[1] } else { hops[0] }], PATIENCE).unwrap();
    }

    let mut left: Vec<IpAddr> = vips.clone();
    for (path, gone) in [
        ("amphorae/nobody".to_owned(), vec![]),
        (format!("amphorae/other?vip_ip={}&nexthop_ip={}", vips[0], hops[1]), vec![]),
        (format!("vips/{}", vips[4]), vec![]),
        (format!("vips/{}?peer_id=tor-1", vips[5]), vec![]),
        (format!("amphorae/other?vip_ip={}&peer_id=tor-0", vips[1]), vec![1]),
        (format!("amphorae/other?nexthop_ip={}", hops[1]), vec![3]),
        (format!("vips/{}?nexthop_ip={}&peer_id=tor-0", vips[5], hops[0]), vec![5]),
        ("amphorae/other".to_owned(), vec![0, 2]),
        ("amphorae/other".to_owned(), vec![]),
    ] {
        let reply = api.delete(&format!("/1.0/distributor/{path}")).unwrap();
        assert_eq!((reply.status, reply.json()), (200, json!({"routes": gone.len()})), "{path}");
        left.retain(|vip| !gone.iter().any(|n| vips[*n] == *vip));
        let listed = [registered(&mut api, "amphorae"), registered(&mut api, "vips")].concat();
        let listed: Vec<IpAddr> = listed.iter().map(|(vip, _)| vip.parse().unwrap()).collect();
        assert_eq!(listed, left, "{path}");
        for tor in &fabric.tors {
            for vip in gone.iter().map(|n| vips[*n]) {
                tor.wait_next_hops(prefix(vip), &[], PATIENCE).unwrap();
            }
        }
    }
    assert_eq!(left, [vips[4]]);
    fabric.tors[1].wait_next_hops(prefix(vips[4]), &[hops[0]], PATIENCE).unwrap();
}

/// No VIP is plugged here, and none has to be: the registration alone counts.
#[test]
fn a_distributor_announces_others_and_its_registrations_outlive_it() {
    let fabric = fabric("distributor", 1);
    let (amphora, tor) = (&fabric.amphorae[0], &fabric.tors[0]);
    let sections = amphora.distributor_sections().replacen("[distributor]\n", "[distributor]\nrole = distributor\n", 1);
    amphora.write_config(&(sections + &tor.peer_section(Family::V4))).unwrap();
    let mut api = start(amphora);
    established(&fabric);
    let hops = [Family::V4, Family::V6].map(|family| addresses::FRONTEND.host(70).of(family));
    for (family, hop) in [Family::V4, Family::V6].into_iter().zip(hops) {
        api.register("amphora-of-another-vm", vip().of(family), hop, None).unwrap().success().unwrap();
        let route = wait_route(&mut api, vip().of(family), "ACTIVE", "ONLINE");
        assert_eq!(route["amphora_id"], "amphora-of-another-vm");
        tor.wait_next_hops(prefix(vip().of(family)), &[hop], PATIENCE).unwrap();
    }
    let watch = tor.watch_routes().unwrap();
    amphora.kill_agent().unwrap();
    let mut api = start(amphora);
    for family in [Family::V4, Family::V6] {
        wait_route(&mut api, vip().of(family), "ACTIVE", "ONLINE");
    }
    assert!(watch.so_far().is_empty(), "a restart of the agent is nothing to the ToR");
    api.unregister("amphora-of-another-vm", &format!("vip_ip={}", vip().v4)).unwrap().success().unwrap();
    let gone = || match tor.kernel_routes(prefix(vip().v4.into())).unwrap() {
        hops if hops.is_empty() => Ok(()),
        hops => Err(format!("{hops:?}")),
    };
    wait_for("the IPv4 VIP is withdrawn", PATIENCE, gone).unwrap();
    assert_eq!(tor.kernel_routes(prefix(vip().v6.into())).unwrap(), [hops[1]]);
}
