//! What unplugging takes away: everything of ours, and nothing of anybody else.

use lab::picture::{self, Picture, difference};
use lab::{Amphora, Family};
use serde_json::json;

use crate::support::{Everything, PATIENCE, inside, refused, routed_picture, running, vip, wait_route};

/// Addresses, routes and rules of somebody else, in the places where ours go, by several owners' protocol numbers.
fn plant_foreign(amphora: &Amphora) -> [Picture; 2] {
    let commands = |nic: &str| {
        format!(
            "addr add 203.0.113.200/32 dev lo
addr add 2001:db8:100::200/128 dev lo
addr add 10.9.8.7/24 dev {nic}
addr add 2001:db8:99::7/64 dev {nic} nodad
route add 198.18.1.0/24 dev {nic} proto static
route add 198.18.2.0/24 via 10.9.8.1 dev {nic} proto bird table 1
route add 2001:db8:98::/48 dev {nic} proto boot table 1
route add 198.18.3.0/24 dev {nic} proto 80 table 7
route add blackhole 198.18.4.0/24 table 1
rule add from 203.0.113.200 lookup 1 priority 31000
rule add from 203.0.113.201 lookup 1 priority 32000 protocol static
rule add fwmark 7 lookup 7 priority 100"
        )
    };
    let place = inside(amphora);
    let nics = [(&place, "eth1"), (&**amphora.node(), lab::amphora::MANAGEMENT_NIC)];
    nics.map(|(place, nic)| {
        let before = picture::look(place).unwrap();
        place.ip(&commands(nic)).unwrap();
        // In a batch, ip takes every rule for IPv4's.
        place.run("ip -6 rule add from 2001:db8:100::200 lookup 1 priority 32000".split(' ')).unwrap();
        picture::look(place).unwrap().difference(&before).cloned().collect()
    })
}

#[test]
fn unplugging_takes_away_what_is_ours_and_nothing_else_and_plugging_again_brings_it_back() {
    let (fabric, mut api) = running("unplug", 1);
    let (amphora, vip) = (&fabric.amphorae[0], vip());
    let body = amphora.plug_body(vip);
    api.plug_vip(vip.v4.into(), &body).unwrap().success().unwrap();
    let foreign = plant_foreign(amphora);
    assert!(foreign.iter().all(|lines| lines.len() == 13), "{foreign:#?}");
    let place = inside(amphora);
    let ours = routed_picture(amphora, vip);
    let all: Picture = ours.union(&foreign[0]).cloned().collect();
    let outside = picture::look(amphora.node()).unwrap();
    assert_eq!(picture::look(&place).unwrap(), all);
    let links: Picture = ["link eth1 mtu 1500 up", "link lo mtu 65536 up"].map(str::to_owned).into();
    let left: Picture = links.union(&foreign[0]).cloned().collect();

    let reply = api.unplug_vip(vip.v6.into()).unwrap();
    refused(&reply, 409, &["additional", "DELETE /1.0/plug/vip/203.0.113.7"]);
    assert_eq!(picture::look(&place).unwrap(), all);

    for round in ["first", "second"] {
        for time in ["once", "twice"] {
            let reply = api.unplug_vip(vip.v4.into()).unwrap();
            assert_eq!((reply.status, reply.json()), (200, json!({"message": "OK"})), "{round}, {time}");
        }
        let found = picture::look(&place).unwrap();
        assert!(found == left, "{round}: {:#?}", difference(&left, &found));
        assert_eq!(picture::look(amphora.node()).unwrap(), outside);
        refused(&api.get(&format!("/1.0/interface/{}", vip.v4)).unwrap(), 404, &[]);

        api.plug_vip(vip.v4.into(), &body).unwrap().success().unwrap();
        let found = picture::look(&place).unwrap();
        assert!(found == all, "{round}: {:#?}", difference(&all, &found));
        assert_eq!(picture::look(amphora.node()).unwrap(), outside);
    }
    refused(&api.unplug_vip("203.0.113.99".parse().unwrap()).unwrap().success().unwrap(), 200, &["OK"]);
    refused(&api.delete("/1.0/plug/vip/eth1").unwrap(), 400, &["Invalid VIP", "eth1"]);
}

#[test]
fn an_unplugged_vip_is_withdrawn_first_and_its_registration_waits_for_the_next_plug() {
    let (fabric, mut api) = running("withdraw", 1);
    let (amphora, tor, vip) = (&fabric.amphorae[0], &fabric.tors[0], vip());
    let next_hop = amphora.frontend(Family::V4);
    let body = amphora.plug_body(vip);
    api.plug_vip(vip.v4.into(), &body).unwrap().success().unwrap();
    api.register(amphora.id(), vip.v4.into(), next_hop, None).unwrap().success().unwrap();
    let prefix = ipnet::IpNet::from(std::net::IpAddr::from(vip.v4));
    tor.wait_next_hops(prefix, &[next_hop], PATIENCE).unwrap();

    api.unplug_vip(vip.v4.into()).unwrap().success().unwrap();
    // 200 says that it is done: nothing of it is with the speaker when the answer is there.
    let rib = lab::speaker::gobgp(amphora.node(), &["global", "rib", "-a", "ipv4"]).unwrap();
    assert!(!rib.contains("203.0.113.7"), "{rib}");
    let route = wait_route(&mut api, vip.v4.into(), "PENDING_CREATE", "OFFLINE");
    let reason = route["reason"].as_str().unwrap();
    assert!(reason.contains("not plugged") && reason.contains("POST /1.0/plug/vip/203.0.113.7"), "{reason}");
    tor.wait_next_hops(prefix, &[], PATIENCE).unwrap();

    api.plug_vip(vip.v4.into(), &body).unwrap().success().unwrap();
    wait_route(&mut api, vip.v4.into(), "ACTIVE", "ONLINE");
    tor.wait_next_hops(prefix, &[next_hop], PATIENCE).unwrap();
}

#[test]
fn a_vip_on_another_nic_is_a_conflict_and_a_second_nic_is_the_next_interface() {
    let (fabric, mut api) = running("second-nic", 1);
    let (amphora, vip, other) = (&fabric.amphorae[0], vip(), lab::addresses::vip(8));
    let mac = "fa:16:3e:00:01:02";
    fabric.frontend.plug(amphora.node(), "ens8", Some(mac)).unwrap();
    api.plug_vip(vip.v4.into(), &amphora.plug_body(vip)).unwrap().success().unwrap();
    let before = Everything::of(amphora);
    let mut body =
        json!({"subnet_cidr": "192.0.2.0/25", "gateway": "192.0.2.1", "mac_address": mac, "vrrp_ip": "192.0.2.99"});
    for taken in [vip.v4.into(), vip.v6.into()] {
        let reply = api.plug_vip(taken, &body).unwrap();
        refused(
            &reply,
            409,
            &["Invalid VIP", &taken.to_string(), &amphora.frontend_mac(), "DELETE /1.0/plug/vip/203.0.113.7"],
        );
    }
    assert_eq!(Everything::of(amphora), before);
    body["vip_mode"] = "anycast".into();
    let reply = api.plug_vip(other.v4.into(), &body).unwrap().success().unwrap();
    assert_eq!(reply.json()["details"], "VIPs plugged on interface eth2: 203.0.113.8");
    assert_eq!(api.get("/1.0/interface/203.0.113.8").unwrap().json()["interface"], "eth2");
    assert_eq!(api.get("/1.0/interface/203.0.113.7").unwrap().json()["interface"], "eth1");
    api.unplug_vip(vip.v4.into()).unwrap().success().unwrap();
    let found = picture::look(&inside(amphora)).unwrap();
    let kept = [
        "address lo 203.0.113.8/32 host deprecated",
        "address eth2 192.0.2.99/25",
        "route table 1 192.0.2.0/25 dev eth2 proto 79",
    ];
    assert!(kept.iter().all(|line| found.contains(*line)), "{found:#?}");
}
