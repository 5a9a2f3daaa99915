//! The order of binding and announcing where nothing dies, but more than one thing happens.

use std::net::{IpAddr, Ipv4Addr};

use lab::{Family, TorKind, wait_for};
use serde_json::json;

use crate::one::{One, PATIENCE};

/// How often the agent's log has `vip` removed from `lo`; each time it must have been withdrawn before.
fn removals_in_order(log: &str, vip: IpAddr) -> usize {
    let (mut announced, mut removals) = (false, 0);
    for line in log.lines() {
        let of_path = format!("Prefix({vip})");
        if line.contains("change=Announce") && line.contains(&of_path) {
            announced = true;
        } else if line.contains("change=Withdraw") && line.contains(&of_path) {
            announced = false;
        } else if line.contains("step=DeleteAddress(Address { device: Lo") && line.contains(&format!("ip: {vip},")) {
            assert!(!announced, "unbound while announced: {line}");
            removals += 1;
        }
    }
    removals
}

/// A pass that deals with a registration must not be the one that unbinds a VIP it has not asked the speaker about.
#[test]
fn a_vip_unplugged_while_others_are_registered_is_withdrawn_before_it_is_unbound() {
    const ROUNDS: usize = 25;
    let lab = One::new("crash-race", TorKind::Bird);
    let mut api = lab.start();
    let mut others = lab.amphora().api().unwrap();
    let foreign = Ipv4Addr::new(192, 0, 2, 100);
    lab.register(&mut api, Family::V4).unwrap().success().unwrap();
    for round in 0..ROUNDS {
        lab.plug(&mut api).unwrap().success().unwrap();
        let announced = || match lab.look() {
            wreck if wreck.bound == lab.both() && wreck.announced.contains(&lab.vip.v4.into()) => Ok(()),
            wreck => Err(format!("{wreck:?}")),
        };
        wait_for("the VIP is bound and announced", PATIENCE, announced).unwrap();
        let vip = Ipv4Addr::new(203, 0, 113, u8::try_from(100 + round).unwrap());
        std::thread::scope(|scope| {
            // A few, so that one of them is being dealt with whenever the unplugging comes.
            scope.spawn(|| {
                for peer in [Some("tor-0"), None, Some("tor-0"), None] {
                    let body = json!({ "vip_ip": vip, "nexthop_ip": foreign, "peer_id": peer });
                    others.post("/1.0/distributor/vips", &body).unwrap().success().unwrap();
                }
            });
            lab.unplug(&mut api).unwrap().success().unwrap();
        });
    }
    let log = std::fs::read_to_string(lab.amphora().agent().unwrap().log()).unwrap();
    assert_eq!(removals_in_order(&log, lab.vip.v4.into()), ROUNDS);
}

#[test]
fn a_vip_is_neither_bound_nor_announced_where_arp_cannot_be_silenced() {
    let lab = One::new("crash-loud", TorKind::Bird);
    let node = lab.amphora().node();
    let second = "fa:16:3e:00:01:01";
    lab.fabric.frontend.plug(node, "ens8", Some(second)).unwrap();
    node.run(["mount", "--bind", "/proc/sys", "/proc/sys"]).unwrap();
    node.run(["mount", "-o", "remount,ro,bind", "/proc/sys"]).unwrap();
    let mut api = lab.start();
    let other = json!({
        "subnet_cidr": "192.0.2.0/25", "gateway": "192.0.2.1", "mac_address": second, "vrrp_ip": "192.0.2.77",
    });
    let other_vip: IpAddr = Ipv4Addr::new(203, 0, 113, 8).into();
    lab.register(&mut api, Family::V4).unwrap().success().unwrap();
    let hop = Ipv4Addr::new(192, 0, 2, 77).into();
    api.register(lab.amphora().id(), other_vip, hop, None).unwrap().success().unwrap();
    assert_eq!(lab.plug(&mut api).unwrap().status, 500);
    let reply = api.plug_vip(other_vip, &other).unwrap();
    assert_eq!(reply.status, 500, "{}", reply.text());
    let wreck = lab.look();
    assert!(wreck.bound.is_empty() && wreck.announced.is_empty() && !wreck.silent, "{wreck:?}");

    node.run(["umount", "/proc/sys"]).unwrap();
    assert_eq!(lab.plug(&mut api).unwrap().status, 202);
    assert_eq!(api.plug_vip(other_vip, &other).unwrap().status, 202);
    lab.wait_look("both are announced", |wreck| wreck.announced == [lab.vip.v4.into(), other_vip].into());
}
