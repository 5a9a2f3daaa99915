use super::*;
use crate::state::{Frontend, HostRoute, Vip};

const A: &str = "fa:16:3e:00:00:0a";
const B: &str = "fa:16:3e:00:00:0b";

fn wanted(mac: &str) -> WantedNetwork {
    WantedNetwork { mac: mac.parse().unwrap(), fixed_ips: vec![], mtu: None, is_sriov: false, vip: None }
}

fn apply(
    desired: &mut Desired,
    wanted: &WantedNetwork,
    here: Option<&str>,
    inside: &[&str],
    missing: &[&str],
) -> String {
    let inside = inside.iter().map(ToString::to_string).collect();
    let missing: Vec<_> = missing.iter().map(|m| m.parse().unwrap()).collect();
    for change in decide(wanted, desired, here, &inside, &missing) {
        desired.apply(change);
    }
    desired.networks[&wanted.mac].interface.to_string()
}

fn vip_plug() -> Plug {
    let subnet = "192.0.2.0/24".parse().unwrap();
    let gateway = Some("192.0.2.1".parse().unwrap());
    let vip = |ip: &str| Vip { ip: ip.parse().unwrap(), subnet, gateway, host_routes: vec![] };
    Plug {
        mac: A.parse().unwrap(),
        interface: "eth1".parse().unwrap(),
        mode: VipMode::Interface,
        vips: vec![vip("192.0.2.7"), vip("192.0.2.8")],
        frontends: vec![Frontend { ip: "192.0.2.10".parse().unwrap(), subnet, gateway }],
        mtu: None,
        is_sriov: false,
        keepalived: Some(false),
        acknowledged: true,
    }
}

#[test]
fn members_get_the_first_name_from_eth2_and_keep_it() {
    let mut desired = Desired::default();
    assert_eq!(apply(&mut desired, &wanted(A), None, &["lo", "eth1"], &[]), "eth2");
    assert_eq!(apply(&mut desired, &wanted(B), None, &["lo", "eth2"], &[]), "eth3");
    assert_eq!(apply(&mut desired, &wanted(A), Some("eth2"), &["lo", "eth3"], &[]), "eth2");
    // Also where the kernel has not got so far yet, or has it under another name.
    assert_eq!(apply(&mut desired, &wanted(A), Some("ens9"), &["lo"], &[]), "eth2");
}

#[test]
fn a_nic_that_is_gone_holds_no_name() {
    let mut desired = Desired::default();
    apply(&mut desired, &wanted(A), None, &["lo"], &[]);
    assert_eq!(apply(&mut desired, &wanted(B), None, &["lo"], &[A]), "eth2");
    assert!(!desired.networks.contains_key(&A.parse().unwrap()));
}

#[test]
fn members_on_the_vips_own_nic_renew_its_subnet_and_drop_no_vip() {
    let plug = vip_plug();
    let mut desired = Desired { plugs: [(plug.primary(), plug)].into(), ..Desired::default() };
    let route = HostRoute { destination: "198.18.0.0/16".parse().unwrap(), nexthop: "192.0.2.9".parse().unwrap() };
    let mut with_vip = wanted(A);
    with_vip.vip = Some(VipSubnet {
        ip: "192.0.2.7".parse().unwrap(),
        subnet: "192.0.2.0/24".parse().unwrap(),
        gateway: Some("192.0.2.2".parse().unwrap()),
        host_routes: vec![route.clone()],
    });
    assert_eq!(apply(&mut desired, &with_vip, Some("eth1"), &["lo"], &[]), "eth1");
    let plug = desired.plugs.values().next().unwrap();
    assert_eq!((plug.vips.len(), &plug.vips[0].host_routes), (2, &vec![route]));
    assert_eq!(plug.frontends[0].gateway, plug.vips[0].gateway);
    assert!(plug.acknowledged);
}

#[test]
fn what_was_changed_meanwhile_is_not_acknowledged() {
    let mut desired = Desired::default();
    apply(&mut desired, &wanted(A), None, &["lo"], &[]);
    let done = desired.networks.values().next().unwrap().clone();
    assert_eq!(acknowledge(&done, &desired).unwrap().len(), 1);
    assert!(acknowledge(&NetworkPlug { mtu: Some(1400), ..done.clone() }, &desired).is_err());
    assert!(acknowledge(&done, &Desired::default()).is_err());
}
