//! What plugging puts into the kernel: exactly that, and no more.

use std::net::IpAddr;

use ipnet::IpNet;
use lab::addresses::FRONTEND;
use lab::picture::{self, Picture, difference};
use lab::{Amphora, Family, command, wait_for};
use serde_json::json;

use crate::support::{
    PATIENCE, bare_body, fabric, inside, routed_picture, routes, running, set_topology, start, vip, wait_route,
};

fn picture_of(lines: &[&str]) -> Picture {
    lines.iter().map(ToString::to_string).collect()
}

/// `interface` is upstream's way, and comes last once more: what the other modes did to the namespace's sysctls is
/// taken back.
#[test]
fn each_vip_mode_puts_exactly_its_own_into_the_kernel() {
    let fabric = fabric("modes", 1);
    let amphora = &fabric.amphorae[0];
    set_topology(amphora, "SINGLE");
    let mut api = start(amphora);
    let place = inside(amphora);
    let sysctls = picture::ip_sysctls(&place).unwrap();
    let outside = picture::look(amphora.node()).unwrap();
    let on_nic = picture_of(&[
        "link eth1 mtu 1500 up",
        "link lo mtu 65536 up",
        "address eth1 192.0.2.11/25",
        "address eth1 2001:db8:2::11/64",
        "address eth1 203.0.113.7/32",
        "address eth1 2001:db8:100::7/128",
        "route table 1 192.0.2.0/25 dev eth1 src 203.0.113.7 proto 79",
        "route table 1 2001:db8:2::/64 dev eth1 src 2001:db8:100::7 proto 79",
        "route table 1 default via 192.0.2.1 dev eth1 proto 79",
        "route table 1 default via 2001:db8:2::1 dev eth1 proto 79",
        "route table 254 default via 192.0.2.1 dev eth1 proto 79",
        "route table 254 default via 2001:db8:2::1 dev eth1 proto 79",
        "rule -4 32000 from 203.0.113.7 table 1 proto 79",
        "rule -6 32000 from 2001:db8:100::7 table 1 proto 79",
    ]);
    let on_lo = routed_picture(amphora, vip());
    let modes = [
        ("interface", on_nic.clone(), false),
        ("noarp", on_lo.clone(), true),
        ("anycast", on_lo, true),
        ("interface", on_nic, false),
    ];
    for (mode, want, silent) in modes {
        let mut body = amphora.plug_body(vip());
        body["vip_mode"] = mode.into();
        let reply = api.plug_vip(vip().v4.into(), &body).unwrap().success().unwrap();
        let details = "VIPs plugged on interface eth1: 203.0.113.7, 2001:0db8:0100:0000:0000:0000:0000:0007";
        assert_eq!((reply.status, reply.json()), (202, json!({"message": "OK", "details": details})), "{mode}");
        let found = picture::look(&place).unwrap();
        assert!(found == want, "{mode}: {:#?}", difference(&want, &found));

        let silence = ["all", "default"].map(|of| format!("net.ipv4.conf.{of}.arp_"));
        let changed = difference(&sysctls, &picture::ip_sysctls(&place).unwrap());
        assert_eq!(changed.len(), if silent { 8 } else { 0 }, "{mode}: {changed:?}");
        assert!(changed.iter().all(|line| silence.iter().any(|key| line[2..].starts_with(key))), "{changed:?}");
        let outside = difference(&outside, &picture::look(amphora.node()).unwrap());
        assert_eq!(outside, ["- link ens7 mtu 1500 down"], "{mode}");

        for ip in [vip().v4.into(), vip().v6.into(), amphora.frontend(Family::V4), amphora.frontend(Family::V6)] {
            let reply = api.get(&format!("/1.0/interface/{ip}")).unwrap();
            assert_eq!((reply.status, reply.json()), (200, json!({"message": "OK", "interface": "eth1"})), "{ip}");
        }
        assert_eq!(api.unplug_vip(vip().v4.into()).unwrap().status, 200);
        let left = picture::look(&place).unwrap();
        assert_eq!(left, picture_of(&["link eth1 mtu 1500 up", "link lo mtu 65536 up"]), "{mode}");
    }
}

#[test]
fn under_active_standby_the_interface_mode_leaves_vip_and_table_1_to_keepalived() {
    let (fabric, mut api) = running("standby", 1);
    let amphora = &fabric.amphorae[0];
    let mut body = amphora.plug_body(vip());
    body["vip_mode"] = "interface".into();
    api.plug_vip(vip().v4.into(), &body).unwrap().success().unwrap();
    let want = picture_of(&[
        "link eth1 mtu 1500 up",
        "link lo mtu 65536 up",
        "address eth1 192.0.2.11/25",
        "address eth1 2001:db8:2::11/64",
        "route table 254 default via 192.0.2.1 dev eth1 proto 79",
        "route table 254 default via 2001:db8:2::1 dev eth1 proto 79",
    ]);
    let found = picture::look(&inside(amphora)).unwrap();
    assert!(found == want, "{:#?}", difference(&want, &found));
}

/// An unknown key is no fault in a 1.0 body, and of two host routes the kernel refuses one.
#[test]
fn every_field_counts_and_a_nonsense_host_route_does_not_fail_the_plug() {
    let (fabric, mut api) = running("fields", 1);
    let amphora = &fabric.amphorae[0];
    let mut body = amphora.plug_body(vip());
    body["mac_address"] = amphora.frontend_mac().to_uppercase().into();
    body["mtu"] = 1450.into();
    body["is_sriov"] = true.into();
    body["key_of_a_later_release"] = json!({"a": [1]});
    body["host_routes"] = json!([
        {"destination": "198.18.0.0/16", "nexthop": "192.0.2.9"},
        {"destination": "198.19.5.5/16", "nexthop": "192.0.2.9"}, // host bits: Neutron takes them
        {"destination": "198.20.0.0/16", "nexthop": "224.0.0.1"}, // nobody can be reached by multicast
    ]);
    body["additional_vips"][0]["host_routes"] = json!([{"destination": "2001:db8:f::/48", "nexthop": "2001:db8:2::9"}]);
    body["additional_vips"].as_array_mut().unwrap().push(json!({
        "ip_address": "203.0.113.8", "subnet_cidr": "192.0.2.0/25", "gateway": "192.0.2.1",
    }));
    let reply = api.plug_vip(vip().v4.into(), &body).unwrap().success().unwrap();
    let vips = "203.0.113.7, 2001:0db8:0100:0000:0000:0000:0000:0007, 203.0.113.8";
    assert_eq!(reply.json()["details"], format!("VIPs plugged on interface eth1: {vips}"));
    let mut want = routed_picture(amphora, vip());
    want.remove("link eth1 mtu 1500 up");
    want.extend(picture_of(&[
        "link eth1 mtu 1450 up",
        "address lo 203.0.113.8/32 host deprecated",
        "rule -4 32000 from 203.0.113.8 table 1 proto 79",
    ]));
    for table in [1, 254] {
        for route in ["198.18.0.0/16 via 192.0.2.9", "198.19.0.0/16 via 192.0.2.9", "2001:db8:f::/48 via 2001:db8:2::9"]
        {
            want.insert(format!("route table {table} {route} dev eth1 proto 79"));
        }
    }
    let found = picture::look(&inside(amphora)).unwrap();
    assert!(found == want, "{:#?}", difference(&want, &found));
}

fn of_family(picture: &Picture, family: Family) -> Picture {
    let others: &[&str] = if family == Family::V4 { &[":", "-6"] } else { &["192.0.2.", "203.0.113.", "-4"] };
    picture.iter().filter(|line| !others.iter().any(|mark| line.contains(mark))).cloned().collect()
}

/// The subnet of the call is the VIP's own here, as a controller names it that knows nothing of front-ends: were it
/// on-link anywhere, the other amphorae's VIPs of that subnet could not be reached from this one.
#[test]
fn one_family_alone_and_the_vips_own_subnet_is_never_on_link() {
    let (fabric, mut api) = running("families", 1);
    let amphora = &fabric.amphorae[0];
    let both = amphora.plug_body(vip());
    for (family, subnet) in [(Family::V4, "203.0.113.0/24"), (Family::V6, "2001:db8:100::/64")] {
        let mut body = bare_body(amphora, subnet);
        body["frontend_ips"] = json!([both["frontend_ips"][usize::from(family == Family::V6)]]);
        api.plug_vip(vip().of(family), &body).unwrap().success().unwrap();
        let want = of_family(&routed_picture(amphora, vip()), family);
        let found = picture::look(&inside(amphora)).unwrap();
        assert!(found == want, "{:#?}", difference(&want, &found));
        api.unplug_vip(vip().of(family)).unwrap().success().unwrap();
    }
}

/// Sends router advertisements for the front-end network from the ToR.
fn advertise(tor: &lab::Tor) -> lab::Proc {
    let config = format!(
        "router id 192.0.2.1;\nprotocol device {{}}\nprotocol radv {{\n  interface \"{}\" {{\n    min ra interval 3; \
         max ra interval 4; prefix {} {{}};\n  }};\n}}\n",
        lab::fabric::TOR_FRONTEND_NIC,
        FRONTEND.v6
    );
    tor.node().write_file("/etc/bird/radv.conf", config, 0o600).unwrap();
    let bird = ["bird", "-f", "-c", "/etc/bird/radv.conf", "-s", "/run/radv.ctl", "-P", "/run/radv.pid"];
    tor.node().spawn("radv", &mut command(bird)).unwrap()
}

/// EUI-64 (RFC 4291 appendix A) in the front-end network.
fn slaac_address(amphora: &Amphora) -> IpAddr {
    let mac: Vec<u8> = amphora.frontend_mac().split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    let mut octets = FRONTEND.v6.addr().octets();
    octets[8..].copy_from_slice(&[mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]]);
    octets.into()
}

#[test]
fn a_vip_without_front_end_address_is_bound_and_announced_only_once_slaac_gives_it_one() {
    let (fabric, mut api) = running("slaac", 1);
    let (amphora, tor, vip) = (&fabric.amphorae[0], &fabric.tors[0], vip().v6);
    let prefix = IpNet::from(IpAddr::from(vip));
    let next_hop = slaac_address(amphora);
    api.plug_vip(vip.into(), &bare_body(amphora, "2001:db8:100::/64")).unwrap().success().unwrap();
    let place = inside(amphora);
    let bound = picture_of(&[
        "link eth1 mtu 1500 up",
        "link lo mtu 65536 up",
        &format!("address lo {vip}/128 deprecated nodad"),
        &format!("rule -6 32000 from {vip} table 1 proto 79"),
    ]);
    assert_eq!(picture::look(&place).unwrap(), bound);
    api.register(amphora.id(), vip.into(), next_hop, None).unwrap().success().unwrap();
    tor.wait_established(amphora.management(Family::V4), PATIENCE).unwrap();
    let route = wait_route(&mut api, vip.into(), "PENDING_CREATE", "OFFLINE");
    let wanted = format!("{next_hop} is not a front-end address of the VIP's NIC (it has none)");
    assert_eq!((&route["reason"], &route["advertised_to"]), (&json!(wanted), &json!([])));
    assert!(!tor.has_learned(prefix).unwrap());

    let radv = advertise(tor);
    let route = wait_route(&mut api, vip.into(), "ACTIVE", "ONLINE");
    assert_eq!((&route["advertised_to"], &route["reason"]), (&json!(["tor-0"]), &json!(null)));
    tor.wait_next_hops(prefix, &[next_hop], PATIENCE).unwrap();
    let found = picture::look(&place).unwrap();
    let dynamic = format!("address eth1 {next_hop}/64 dynamic");
    assert!(found.contains(&dynamic) && found.contains("route table 1 2001:db8:2::/64 dev eth1 proto 79"), "{found:?}");

    // The address goes: so does the route, and the VIP stays bound.
    radv.kill_and_wait().unwrap();
    place.ip(&format!("addr del {next_hop}/64 dev eth1")).unwrap();
    // It is withdrawn a moment before the pass that has found out why is over.
    let told = || {
        let route = wait_route(&mut api, vip.into(), "PENDING_CREATE", "OFFLINE");
        if route["reason"] == wanted { Ok(()) } else { Err(route) }
    };
    wait_for("the route says why it is withdrawn", PATIENCE, told).unwrap();
    let withdrawn = || tor.has_learned(prefix).map_err(|e| e.to_string()).map(|known| !known);
    wait_for("the ToR forgets the VIP", PATIENCE, || if withdrawn()? { Ok(()) } else { Err("known".to_owned()) })
        .unwrap();
    assert!(picture::look(&place).unwrap().contains(&format!("address lo {vip}/128 deprecated nodad")));
    assert_eq!(routes(&mut api, "amphorae").len(), 1);
}
