//! Plugging a member network, and bringing one up to date.

use std::net::IpAddr;

use lab::net::up;
use lab::{Capture, Node, picture, wait_for};
use serde_json::json;

use crate::support::{MEMBER, PATIENCE, Site, VIP_DEFAULT, VIP_INSIDE, fixed, plug, plug_vip, plugged, port};

#[test]
fn a_network_gets_all_its_addresses_and_routes_and_an_update_changes_only_what_is_ours() {
    let site = Site::new("network-static");
    let mut api = site.start();
    let reply = plug(&mut api, &json!({"mac_address": "fa:16:3e:ff:ff:ff", "fixed_ips": []}));
    assert_eq!((reply.status, reply.json()), (404, json!({"details": "No suitable network interface found"})));

    let mut body = port(&json!([fixed("10.1.0.5", "10.1.0.0/24"), fixed("2001:db8:a::5", "2001:db8:a::/64")]));
    body["mac_address"] = MEMBER.to_uppercase().into();
    body["mtu"] = 1450.into();
    body["fixed_ips"][0]["gateway"] = "10.1.0.1".into(); // never a default route: the VIP's NIC has that
    body["fixed_ips"][0]["host_routes"] = json!([
        {"destination": "10.9.0.0/16", "nexthop": "10.1.0.9"},
        {"destination": "10.8.0.0/16", "nexthop": "224.0.0.1"}, // nobody can be reached by multicast
    ]);
    plugged(&plug(&mut api, &body), "Plugged on interface eth2");
    let first = [
        "link eth2 mtu 1450 up",
        "address eth2 10.1.0.5/24",
        "address eth2 2001:db8:a::5/64",
        "route table 254 10.9.0.0/16 via 10.1.0.9 dev eth2 proto 79",
    ];
    site.assert_inside(&first);
    let tentative = site.inside().run(["ip", "addr", "show", "dev", "eth2", "tentative", "scope", "global"]).unwrap();
    assert_eq!(tentative, "", "answered before its addresses were usable");
    let interface = api.get("/1.0/interface/10.1.0.5").unwrap();
    assert_eq!(interface.json()["interface"], "eth2");
    plugged(&plug(&mut api, &body), "Updated existing interface eth2");
    site.assert_inside(&first);

    // Somebody else's address and route stay, for the link is up all the time; ours that are not asked for any more go.
    site.inside().ip("addr add 10.7.0.7/24 dev eth2\nroute add 10.6.0.0/16 via 10.7.0.1 proto static").unwrap();
    let body = port(&json!([fixed("10.1.0.5", "10.1.0.0/24"), fixed("10.2.0.5", "10.2.0.0/24")]));
    plugged(&plug(&mut api, &body), "Updated existing interface eth2");
    let second = [
        "link eth2 mtu 1500 up",
        "address eth2 10.1.0.5/24",
        "address eth2 10.2.0.5/24",
        "address eth2 10.7.0.7/24",
        "route table 254 10.6.0.0/16 via 10.7.0.1 dev eth2 proto 4",
    ];
    site.assert_inside(&second);

    // A reboot of the agent finds nothing to do, and what somebody takes away is put back.
    site.amphora().kill_agent().unwrap();
    site.inside().ip("addr del 10.1.0.5/24 dev eth2").unwrap();
    let mut api = site.start();
    let back = || {
        let reply = api.get("/1.0/interface/10.1.0.5").unwrap();
        if reply.status == 200 { Ok(()) } else { Err(reply.text()) }
    };
    wait_for("the address is back", PATIENCE, back).unwrap();
    site.assert_inside(&second);
}

#[test]
fn members_on_the_vips_own_nic_come_beside_the_vips() {
    let site = Site::new("network-vip");
    let mut api = site.start();
    let vip = plug_vip(&site, &mut api);
    let mac = site.amphora().frontend_mac();
    let mut body = port(&json!([fixed("192.0.2.11", "192.0.2.0/25"), fixed("10.3.0.5", "10.3.0.0/24")]));
    body["mac_address"] = mac.clone().into();
    body["fixed_ips"][0]["gateway"] = "192.0.2.1".into();
    body["vip_net_info"] = json!({
        "vip": vip, "vrrp_ip": "192.0.2.11", "subnet_cidr": "192.0.2.0/25", "gateway": "192.0.2.1", "mac_address": mac,
        "mtu": 1500, "additional_vips": [], "is_sriov": false,
        "host_routes": [{"destination": "198.18.0.0/16", "nexthop": "192.0.2.9"}],
    });
    plugged(&plug(&mut api, &body), "Updated existing interface eth1");
    let mut want = VIP_INSIDE.to_vec();
    want.extend([
        VIP_DEFAULT,
        "address eth1 10.3.0.5/24",
        "route table 1 198.18.0.0/16 via 192.0.2.9 dev eth1 proto 79",
        "route table 254 198.18.0.0/16 via 192.0.2.9 dev eth1 proto 79",
    ]);
    site.assert_inside(&want);
    // Without the VIP's part it is the same: the VIP stays.
    body.as_object_mut().unwrap().remove("vip_net_info");
    body["fixed_ips"].as_array_mut().unwrap().pop();
    plugged(&plug(&mut api, &body), "Updated existing interface eth1");
    want.retain(|line| *line != "address eth1 10.3.0.5/24");
    site.assert_inside(&want);
    assert_eq!(
        api.plug_vip(vip.parse().unwrap(), &site.amphora().plug_body(lab::addresses::vip(7))).unwrap().status,
        409
    );
    // A member network of its own is eth2 all the same, and outlives the VIP.
    plugged(&plug(&mut api, &port(&json!([fixed("10.1.0.5", "10.1.0.0/24")]))), "Plugged on interface eth2");
    api.unplug_vip(vip.parse().unwrap()).unwrap().success().unwrap();
    site.assert_inside(&[
        "link eth1 mtu 1500 up",
        "address eth1 192.0.2.11/25",
        "link eth2 mtu 1500 up",
        "address eth2 10.1.0.5/24",
    ]);
}

/// The neighbours are told where each address is: in Octavia's own frames, and never about an anycast VIP.
#[test]
fn addresses_are_advertised_to_their_neighbours() {
    let site = Site::new("network-advertised");
    let mut api = site.start();
    let members = Capture::start(site.members.switch(), "br0", "arp or icmp6").unwrap();
    let frontend = Capture::start(site.fabric.frontend.switch(), "br0", "arp or icmp6").unwrap();
    let vip = plug_vip(&site, &mut api);
    let body = port(&json!([fixed("10.1.0.5", "10.1.0.0/24"), fixed("2001:db8:a::5", "2001:db8:a::/64")]));
    plugged(&plug(&mut api, &body), "Plugged on interface eth2");
    std::thread::sleep(std::time::Duration::from_millis(1500)); // they are sent again after a second
    let (members, frontend) = (members.stop().unwrap(), frontend.stop().unwrap());
    let gratuitous = |ip: &str| {
        let octets = ip.parse::<std::net::Ipv4Addr>().unwrap().to_bits();
        format!("arp and arp[6:2] = 1 and arp[14:4] = {octets} and arp[24:4] = {octets}")
    };
    assert!(members.count(&gratuitous("10.1.0.5")).unwrap() >= 1);
    assert!(frontend.count(&gratuitous(&vip)).unwrap() >= 1);
    let unsolicited = "icmp6 and ip6[40] = 136 and ip6 src 2001:db8:a::5 and ip6 dst ff02::1 and ip6[44] = 0xa0";
    let seen = members.matching(unsolicited).unwrap();
    assert!(!seen.is_empty() && seen[0].contains(MEMBER) && seen[0].contains("33:33:00:00:00:01"), "{seen:?}");

    api.unplug_vip(vip.parse().unwrap()).unwrap().success().unwrap();
    let capture = Capture::start(site.fabric.frontend.switch(), "br0", "arp or icmp6").unwrap();
    let mut body = site.amphora().plug_body(lab::addresses::vip(7));
    body["vip_mode"] = "anycast".into();
    api.plug_vip(lab::addresses::vip(7).v4.into(), &body).unwrap().success().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1500));
    let packets = capture.stop().unwrap();
    for vip in [IpAddr::from(lab::addresses::vip(7).v4), lab::addresses::vip(7).v6.into()] {
        let lines: Vec<_> =
            packets.matching("").unwrap().into_iter().filter(|l| l.contains(&vip.to_string())).collect();
        assert_eq!(lines, [] as [String; 0]);
    }
}

#[test]
fn faults_are_told_in_upstreams_words_and_change_nothing() {
    let site = Site::new("network-faults");
    let mut api = site.start();
    let before = lab::picture::look(&site.inside()).unwrap();
    let send = |api: &mut lab::Api, body: &serde_json::Value| {
        let reply = plug(api, body);
        (reply.status, reply.json())
    };
    for body in [json!({}), json!({"mac_address": 5}), json!({"mac_address": "nonsense"}), json!("x"), json!(null)] {
        let (status, said) = send(&mut api, &body);
        assert_eq!(
            (status, &said["error"]),
            (400, &json!("400 Bad Request: Invalid port information")),
            "{body}: {said}"
        );
    }
    for ip in ["", "192.0.2", "x"] {
        let (status, said) = send(&mut api, &port(&json!([fixed(ip, "192.0.2.0/25")])));
        assert_eq!((status, &said["message"]), (400, &json!("Invalid network port")), "{said}");
    }
    let mut management = port(&json!([]));
    let mac = site.amphora().node().run(["cat", "/sys/class/net/eth0/address"]).unwrap();
    management["mac_address"] = mac.trim().into();
    assert_eq!(send(&mut api, &management).0, 400);
    assert_eq!(lab::picture::look(&site.inside()).unwrap(), before);
}

/// Nova takes a NIC away without a word; another may come in its place, and the first come back.
#[test]
fn a_nic_that_goes_leaves_its_name_to_the_next() {
    let site = Site::new("network-gone");
    let mut api = site.start();
    let body = port(&json!([fixed("10.1.0.5", "10.1.0.0/24")]));
    plugged(&plug(&mut api, &body), "Plugged on interface eth2");
    site.members.switch().ip(&format!("link del {}", site.port)).unwrap();
    assert_eq!(plug(&mut api, &body).status, 404);
    let other = "fa:16:3e:00:02:03";
    site.members.plug(site.amphora().node(), "ens9", Some(other)).unwrap();
    let mut second = port(&json!([fixed("10.2.0.5", "10.2.0.0/24")]));
    second["mac_address"] = other.into();
    plugged(&plug(&mut api, &second), "Plugged on interface eth2");
    site.assert_inside(&["link eth2 mtu 1500 up", "address eth2 10.2.0.5/24"]);
    site.members.plug(site.amphora().node(), "ens8", Some(MEMBER)).unwrap();
    plugged(&plug(&mut api, &body), "Plugged on interface eth3");
}

#[test]
fn a_nic_that_comes_late_after_a_reboot_gets_what_it_had() {
    let site = Site::new("network-late");
    let mut api = site.start();
    let body = port(&json!([fixed("10.1.0.5", "10.1.0.0/24")]));
    plugged(&plug(&mut api, &body), "Plugged on interface eth2");
    site.amphora().stop_agent().unwrap();
    site.members.switch().ip(&format!("link del {}", site.port)).unwrap();
    site.amphora().node().run(["ip", "netns", "del", lab::amphora::HAPROXY_NETNS]).unwrap();
    let _api = site.start();
    site.members.plug(site.amphora().node(), "ens8", Some(MEMBER)).unwrap();
    let back = || {
        let found = lab::picture::look(&site.inside()).map_err(|e| e.to_string())?;
        if found.contains("address eth2 10.1.0.5/24") { Ok(()) } else { Err(format!("{found:?}")) }
    };
    wait_for("the address is back", PATIENCE, back).unwrap();
    site.assert_inside(&["link eth2 mtu 1500 up", "address eth2 10.1.0.5/24"]);
}

/// The MTU of a network can be raised above what the host's driver gave the NIC when it was made.
#[test]
fn an_mtu_the_device_does_not_take_is_no_reason_to_fail_what_else_is_asked_of_it() {
    let site = Site::new("network-mtu");
    let mut api = site.start();
    let (mac, link) = ("fa:16:3e:00:02:03", "link add link ens8 name ens9 address fa:16:3e:00:02:03 type macvlan");
    site.amphora().node().ip(link).unwrap(); // whose MTU is at most that of the device below
    let mut body = port(&json!([fixed("10.1.0.5", "10.1.0.0/24")]));
    (body["mac_address"], body["mtu"]) = (mac.into(), 9_000.into());
    plugged(&plug(&mut api, &body), "Plugged on interface eth2");
    site.assert_inside(&["link eth2 mtu 1500 up", "address eth2 10.1.0.5/24"]);
    body["fixed_ips"] = json!([fixed("10.1.0.6", "10.1.0.0/24")]);
    plugged(&plug(&mut api, &body), "Updated existing interface eth2");
    site.assert_inside(&["link eth2 mtu 1500 up", "address eth2 10.1.0.6/24"]);
    body["mtu"] = 1400.into();
    plugged(&plug(&mut api, &body), "Updated existing interface eth2");
    site.assert_inside(&["link eth2 mtu 1400 up", "address eth2 10.1.0.6/24"]);
}

/// While an amphora is replaced, the one before it may still have the VIP.
#[test]
fn an_ipv6_vip_that_somebody_else_has_is_tried_again_and_takes_nothing_down_with_it() {
    let site = Site::new("network-duplicate");
    let other = Node::new(&site.fabric.workdir, "other").unwrap();
    site.fabric.frontend.plug(&other, "eth0", None).unwrap();
    up(&other, "eth0", &["2001:db8:2::77/64".parse().unwrap()]).unwrap();
    let mut api = site.start();
    let body = json!({
        "subnet_cidr": "192.0.2.0/25", "gateway": "192.0.2.1", "mac_address": site.amphora().frontend_mac(),
        "vrrp_ip": "192.0.2.11", "mtu": 1500, "host_routes": [], "additional_vips":
        [{"ip_address": "2001:db8:2::77", "subnet_cidr": "2001:db8:2::/64", "gateway": "2001:db8:2::1", "host_routes": []}],
    });
    api.plug_vip("192.0.2.77".parse().unwrap(), &body).unwrap().success().unwrap();
    let inside = || picture::look(&site.inside()).unwrap();
    let v4 = "route table 1 default via 192.0.2.1 dev eth1 proto 79";
    let v6 = "route table 1 2001:db8:2::/64 dev eth1 src 2001:db8:2::77 proto 79";
    assert!(VIP_INSIDE.iter().all(|line| inside().contains(*line)) && inside().contains(v4), "{:#?}", inside());
    assert!(!inside().contains(v6), "{:#?}", inside());
    // The calls after it work as well.
    plugged(&plug(&mut api, &port(&json!([fixed("10.1.0.5", "10.1.0.0/24")]))), "Plugged on interface eth2");
    other.ip("addr del 2001:db8:2::77/64 dev eth0").unwrap();
    let healed = || if inside().contains(v6) { Ok(()) } else { Err(format!("{:#?}", inside())) };
    wait_for("the VIP is usable", 2 * PATIENCE, healed).unwrap();
    let failed = site.inside().run(["ip", "addr", "show", "dev", "eth1", "dadfailed"]).unwrap();
    assert_eq!(failed, "");
}
