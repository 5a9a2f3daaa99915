use bgp::NextHop;

use super::*;
use crate::state::{HostRoute, Registration, Vip};

const NIC: &str = "fa:16:3e:00:00:01";

pub(super) fn ip(s: &str) -> IpAddr {
    s.parse().unwrap()
}

fn net(s: &str) -> IpNet {
    s.parse().unwrap()
}

pub(super) fn plug(mode: VipMode) -> Plug {
    Plug {
        mac: NIC.parse().unwrap(),
        interface: "eth1".parse().unwrap(),
        mode,
        vips: vec![Vip {
            ip: ip("203.0.113.7"),
            subnet: net("192.0.2.0/24"),
            gateway: Some(ip("192.0.2.1")),
            host_routes: vec![HostRoute { destination: net("198.51.100.0/24"), nexthop: ip("192.0.2.9") }],
        }],
        frontends: vec![Frontend { ip: ip("192.0.2.10"), subnet: net("192.0.2.0/24"), gateway: Some(ip("192.0.2.1")) }],
        mtu: None,
        is_sriov: false,
        keepalived: Some(false),
        acknowledged: true,
    }
}

pub(super) fn desired(plug: Plug) -> Desired {
    Desired { plugs: [(plug.primary(), plug)].into(), ..Desired::default() }
}

pub(super) fn address(net_: &str, ours: bool) -> NicAddress {
    NicAddress { net: net(net_), ours, tentative: false, duplicate: false }
}

pub(super) fn facts(addresses: Vec<NicAddress>) -> Facts {
    [(NIC.parse().unwrap(), addresses)].into()
}

pub(super) fn policy() -> Policy {
    Policy {
        amphora_id: Some("me".into()),
        allowed_prefixes: vec![net("203.0.113.0/24"), net("2001:db8:100::/48")],
        ..Policy::default()
    }
}

pub(super) fn registration(id: &str, vip: &str, hop: &str) -> Registration {
    Registration {
        vip: ip(vip).try_into().unwrap(),
        nexthop: NextHop::try_from(ip(hop)).unwrap(),
        server: Server::Amphora(id.into()),
        peer: None,
    }
}

#[test]
fn an_anycast_vip_is_on_lo_and_its_own_subnet_is_never_on_link() {
    let mut plugged = plug(VipMode::Anycast);
    plugged.vips[0].subnet = net("203.0.113.0/24"); // a controller that names the VIP's own subnet
    let want = kernel(&desired(plugged), &Facts::new(), &policy());
    assert!(want.silent);
    assert!(want.addresses.contains(&Address::vip(ip("203.0.113.7"))));
    assert!(want.rules.contains(&Rule { from: ip("203.0.113.7"), table: 1 }));
    let table: Vec<_> = want.routes.keys().filter(|k| k.table == 1).map(|k| k.destination).collect();
    assert_eq!(table, [net("0.0.0.0/0"), net("192.0.2.0/24")]);
    assert_eq!(want.host_routes.len(), 2, "in table 1 and in main");
}

#[test]
fn an_interface_vip_is_on_the_nic_and_nothing_is_silenced() {
    let want = kernel(&desired(plug(VipMode::Interface)), &Facts::new(), &policy());
    assert!(!want.silent);
    let nic = Device::Nic(NIC.parse().unwrap());
    let on_nic = |s, length| Address { device: nic, ip: ip(s), length };
    assert_eq!(want.addresses, [on_nic("192.0.2.10", 24), on_nic("203.0.113.7", 32)].into());
    let key = RouteKey { table: 1, destination: net("192.0.2.0/24") };
    assert_eq!(want.routes[&key].source, Some(ip("203.0.113.7")));
}

#[test]
fn a_second_nic_has_its_own_table_and_leaves_the_first_its_default() {
    let first = plug(VipMode::Anycast);
    let mut second = plug(VipMode::Anycast);
    second.mac = "fa:16:3e:00:00:02".parse().unwrap();
    second.interface = "eth2".parse().unwrap();
    second.vips[0].ip = ip("203.0.113.6"); // lower, and yet not first
    let plugs = [(first.primary(), first.clone()), (second.primary(), second.clone())].into();
    let want = kernel(&Desired { plugs, ..Desired::default() }, &Facts::new(), &policy());
    let default = |table| want.routes[&RouteKey { table, destination: net("0.0.0.0/0") }].nic;
    assert_eq!((default(1), default(2), default(MAIN_TABLE)), (first.mac, second.mac, first.mac));
    assert!(want.rules.contains(&Rule { from: ip("203.0.113.6"), table: 2 }));
}

#[test]
fn under_active_standby_keepalived_holds_an_interface_vip() {
    let standby = |active_standby| Policy { active_standby, ..policy() };
    let is_bare = |want: &Want| {
        want.addresses.len() == 1 && want.rules.is_empty() && want.routes.keys().all(|k| k.table == MAIN_TABLE)
    };
    let mut held = desired(plug(VipMode::Interface));
    // Whatever the configuration says since it was plugged.
    for now in [false, true] {
        for keepalived in [false, true] {
            held.plugs.values_mut().for_each(|p| p.keepalived = Some(keepalived));
            assert_eq!(is_bare(&kernel(&held, &Facts::new(), &standby(now))), keepalived);
            assert_eq!(active_standby(&held, &standby(now)), keepalived);
        }
    }
    assert_eq!(completed(&held, &standby(false)), []);
    assert!(active_standby(&Desired::default(), &standby(true)));
    // A state of an older release does not say it: what the configuration says when it is first read stays.
    held.plugs.values_mut().for_each(|p| p.keepalived = None);
    for change in completed(&held, &standby(true)) {
        held.apply(change);
    }
    assert!(is_bare(&kernel(&held, &Facts::new(), &standby(false))));
}

#[test]
fn the_only_address_the_nic_got_by_itself_is_a_front_end_address() {
    let mut plugged = plug(VipMode::Anycast);
    plugged.vips.push(Vip {
        ip: ip("2001:db8:100::7"),
        subnet: net("2001:db8:1::/64"),
        gateway: Some(ip("2001:db8:1::1")),
        host_routes: vec![],
    });
    let slaac = address("2001:db8:1::f816:3eff:fe00:1/64", false);
    assert_eq!(frontends(&plugged, &facts(vec![])).len(), 1);
    let found = frontends(&plugged, &facts(vec![slaac]));
    assert_eq!(found[1].ip, slaac.net.addr());
    assert_eq!(found[1].gateway, Some(ip("2001:db8:1::1")));
    let two = facts(vec![slaac, address("2001:db8:1::2/64", false)]);
    assert_eq!(frontends(&plugged, &two).len(), 1, "which of the two is not ours to guess");
}

#[test]
fn each_closed_gate_says_what_is_missing() {
    let (me, held) = (registration("me", "203.0.113.7", "192.0.2.10"), facts(vec![address("192.0.2.10/24", true)]));
    let anycast = desired(plug(VipMode::Anycast));
    let ask = |r: &Registration, d: &Desired, f: &Facts, p: &Policy| announced(r, d, f, p);
    let open = ask(&me, &anycast, &held, &policy()).unwrap();
    assert!(open.here);

    let closed = |r: &Registration, d: &Desired, f: &Facts, p: &Policy, words: &str| {
        let why = ask(r, d, f, p).unwrap_err();
        assert!(why.contains(words), "{why}");
    };
    closed(&me, &Desired::default(), &held, &policy(), "not plugged");
    closed(&me, &desired(plug(VipMode::Noarp)), &held, &policy(), "never announced");
    closed(&me, &desired(plug(VipMode::Interface)), &held, &policy(), "never announced");
    closed(&me, &anycast, &Facts::new(), &policy(), "not on the front-end NIC yet");
    let tentative = NicAddress { tentative: true, ..address("192.0.2.10/24", true) };
    closed(&me, &anycast, &facts(vec![tentative]), &policy(), "tentative");
    let unsettled = NicAddress { tentative: true, ..address("fe80::1/64", false) };
    let v6 = registration("me", "2001:db8:100::7", "2001:db8:1::10");
    let mut dual = plug(VipMode::Anycast);
    dual.vips.push(Vip {
        ip: ip("2001:db8:100::7"),
        subnet: net("2001:db8:1::/64"),
        gateway: None,
        host_routes: vec![],
    });
    let both = facts(vec![address("2001:db8:1::10/64", false), unsettled]);
    closed(&v6, &desired(dual), &both, &policy(), "no reply would leave");
    let duplicate = NicAddress { duplicate: true, ..tentative };
    closed(&me, &anycast, &facts(vec![duplicate]), &policy(), "somebody else");
    closed(&registration("me", "203.0.113.7", "192.0.2.11"), &anycast, &held, &policy(), "not a front-end address");
    let elsewhere = Policy { allowed_prefixes: vec![], ..policy() };
    closed(&me, &anycast, &held, &elsewhere, "allowed_prefixes");
    let other_hops = Policy { allowed_nexthops: Some(vec![net("198.51.100.0/24")]), ..policy() };
    closed(&me, &anycast, &held, &other_hops, "allowed_nexthops");
    closed(&registration("other", "203.0.113.8", "198.51.100.1"), &anycast, &held, &policy(), "no front-end subnet");
    let gone = Registration { peer: Some("tor-x".parse().unwrap()), ..me.clone() };
    closed(&gone, &anycast, &held, &policy(), "not configured any more");
}

#[test]
fn an_ipv6_vip_waits_for_the_nics_link_local_address() {
    let mut plugged = plug(VipMode::Anycast);
    let (subnet, gateway) = (net("2001:db8:1::/64"), Some(ip("2001:db8:1::1")));
    plugged.vips.push(Vip { ip: ip("2001:db8:100::7"), subnet, gateway, host_routes: vec![] });
    plugged.frontends.push(Frontend { ip: ip("2001:db8:1::10"), subnet, gateway });
    let anycast = desired(plugged);
    let (v4, v6) =
        (registration("me", "203.0.113.7", "192.0.2.10"), registration("me", "2001:db8:100::7", "2001:db8:1::10"));
    let usable = address("fe80::1/64", false);
    let tentative = NicAddress { tentative: true, ..usable };
    for (link_local, open) in [(tentative, false), (usable, true)] {
        let held = facts(vec![address("192.0.2.10/24", true), address("2001:db8:1::10/64", true), link_local]);
        assert_eq!(announced(&v6, &anycast, &held, &policy()).is_ok(), open);
        announced(&v4, &anycast, &held, &policy()).unwrap();
    }
    // And it is never taken for a front-end address.
    assert_eq!(frontends(&plug(VipMode::Anycast), &facts(vec![usable])).len(), 1);
}

#[test]
fn for_a_foreign_next_hop_the_registration_alone_counts() {
    let foreign = registration("other", "203.0.113.8", "192.0.2.20");
    let anycast = desired(plug(VipMode::Anycast));
    assert!(!announced(&foreign, &anycast, &Facts::new(), &policy()).unwrap().here);
    // But a next hop of ours is ours, whatever the registration calls the amphora.
    let ours = registration("other", "203.0.113.8", "192.0.2.10");
    announced(&ours, &anycast, &Facts::new(), &policy()).unwrap_err();
}

#[test]
fn an_amphora_that_does_not_know_its_id_announces_nothing_for_an_unplugged_vip() {
    let policy = Policy { amphora_id: None, allowed_nexthops: Some(vec![net("192.0.2.0/24")]), ..policy() };
    let registration = registration("me", "203.0.113.7", "192.0.2.10");
    let unplugged = Desired::default();
    announced(&registration, &unplugged, &Facts::new(), &policy).unwrap_err();
    let distributor = Policy { distributor: true, ..policy };
    assert!(!announced(&registration, &unplugged, &Facts::new(), &distributor).unwrap().here);
}

#[test]
fn silence_closes_the_gate_of_what_is_served_here_and_of_nothing_else() {
    let mut held = desired(plug(VipMode::Anycast));
    let facts = facts(vec![address("192.0.2.10/24", true)]);
    let policy = Policy { allowed_nexthops: Some(vec![net("192.0.2.0/24")]), ..policy() };
    let (own, foreign) =
        (registration("me", "203.0.113.7", "192.0.2.10"), registration("another", "203.0.113.8", "192.0.2.11"));
    assert!(announced(&own, &held, &facts, &policy).is_ok());
    let bound = kernel(&held, &facts, &policy);
    held.apply(crate::state::Change::Silence(true));
    let why = announced(&own, &held, &facts, &policy).unwrap_err();
    assert!(why.contains("vrrp/stop") && why.contains("vrrp/start"), "{why}");
    assert!(announced(&foreign, &held, &facts, &policy).is_ok());
    assert_eq!(kernel(&held, &facts, &policy), bound, "what is bound stays bound");
    let mut again = Desired::default();
    held.changes().into_iter().for_each(|change| again.apply(change));
    assert_eq!(again, held, "a snapshot keeps it");
    held.apply(crate::state::Change::Silence(false));
    assert!(announced(&own, &held, &facts, &policy).is_ok());
}
