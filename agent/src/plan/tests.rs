use bgp::Audience;
use proptest::prelude::*;

use super::*;
use crate::state::{Desired, Firewall, FirewallRule, Protocol};

/// What the steps do to the world, when each of them succeeds.
fn apply(have: &mut Have, step: &Step) {
    match step.clone() {
        Step::Withdraw(p) => drop(have.announced.as_mut().unwrap().remove(&p)),
        Step::DeleteRule(r) => drop(have.rules.remove(&r)),
        Step::DeleteRoute(key, _) => drop(have.routes.remove(&key)),
        Step::DeleteAddress(a) => drop(have.addresses.remove(&a)),
        Step::LoUp => have.lo_up = true,
        Step::Silence => (have.silent, have.silenced) = (true, true),
        Step::Unsilence => (have.silent, have.silenced) = (false, false),
        Step::Filter(rules) => have.filter = Some(rules.mark().to_owned()),
        Step::Unfilter => have.filter = None,
        Step::Autoconf(mac) => have.nics.get_mut(&mac).unwrap().autoconf = true,
        Step::Adopt(mac, name) => {
            let before = have.nics.get(&mac);
            let mtu = before.map_or(1500, |n| n.mtu);
            let inside = |flag: fn(&HaveNic) -> bool| before.is_some_and(|n| n.inside && flag(n));
            let (up, autoconf) = (inside(|n| n.up), inside(|n| n.autoconf));
            have.nics.insert(mac, HaveNic { inside: true, name: name.to_string(), mtu, up, autoconf });
        }
        Step::SetMtu(mac, mtu) => have.nics.get_mut(&mac).unwrap().mtu = mtu,
        Step::SetUp(mac) => have.nics.get_mut(&mac).unwrap().up = true,
        Step::AddAddress(a) => drop(have.addresses.insert(a)),
        Step::AddRoute(key, path) | Step::AddHostRoute(key, path) => drop(have.routes.insert(key, path)),
        Step::AddRule(r) => drop(have.rules.insert(r)),
        Step::Announce(a) => drop(have.announced.as_mut().unwrap().insert(a.prefix, Some(a))),
    }
}

fn bound(have: &Have, prefix: Prefix) -> bool {
    have.silent && have.addresses.contains(&Address::vip(prefix.address()))
}

fn ip(n: u8) -> IpAddr {
    if n.is_multiple_of(2) { IpAddr::from([203, 0, 113, n]) } else { format!("2001:db8::{n}").parse().unwrap() }
}

fn mac(n: u8) -> Mac {
    format!("fa:16:3e:00:00:{n:02x}").parse().unwrap()
}

fn announcement(vip: u8, nexthop: u8) -> Announcement {
    Announcement {
        prefix: ip(vip).try_into().unwrap(),
        next_hop: ip(nexthop).try_into().unwrap(),
        audience: Audience::All,
        attributes: bgp::Attributes::default(),
    }
}

prop_compose! {
    fn address()(lo in any::<bool>(), n in 0u8..6, nic in 0u8..2) -> Address {
        if lo { Address::vip(ip(n)) } else { Address { device: Device::Nic(mac(nic)), ip: ip(n), length: 24 } }
    }
}
prop_compose! {
    fn route()(table in prop::sample::select(vec![1u32, 254]), to in 0u8..4, via in prop::option::of(0u8..3), nic in 0u8..2)
        -> (RouteKey, Path) {
        let destination = IpNet::from(ip(to));
        (RouteKey { table, destination }, Path { nic: mac(nic), gateway: via.map(ip), source: None })
    }
}
/// None, or one of two.
fn filter() -> impl Strategy<Value = Option<Ruleset>> {
    let of = |port: u16| {
        let rules = vec![FirewallRule { protocol: Protocol::Tcp, cidr: None, port }];
        let firewall = Some(Firewall { interface: "eth1".parse().unwrap(), rules });
        crate::firewall::ruleset(&Desired { firewall, ..Desired::default() }).unwrap()
    };
    prop::option::of((80u16..82).prop_map(of))
}

prop_compose! {
    fn want()(
        nics in prop::collection::btree_map((0u8..2).prop_map(mac), (0u8..3, prop::option::of(1400u32..1500), any::<bool>()), 0..3),
        (silent, filter) in (any::<bool>(), filter()),
        addresses in prop::collection::btree_set(address(), 0..6),
        routes in prop::collection::btree_map((0u8..4).prop_map(|n| n), route(), 0..4),
        host_routes in prop::collection::vec(route(), 0..3),
        rules in prop::collection::btree_set((0u8..6, 1u32..3).prop_map(|(n, table)| Rule { from: ip(n), table }), 0..4),
        announced in prop::collection::btree_map(0u8..6, (0u8..3, any::<bool>()), 0..6),
    ) -> Want {
        Want {
            nics: nics.into_iter().map(|(m, (n, mtu, autoconf))| {
                (m, WantNic { name: format!("eth{n}").parse().unwrap(), mtu, autoconf })
            }).collect(),
            // A VIP on `lo` is always to be kept silent about.
            silent: silent || addresses.iter().any(|a| a.device == Device::Lo),
            filter,
            addresses,
            routes: routes.into_values().collect(),
            host_routes: host_routes.into_iter().collect(),
            rules,
            announced: announced.into_iter().map(|(vip, (hop, here))| {
                let announcement = announcement(vip, hop);
                (announcement.prefix, WantAnnounced { announcement, here })
            }).collect(),
        }
    }
}
prop_compose! {
    fn have()(
        nics in prop::collection::btree_map((0u8..2).prop_map(mac), (0u8..3, any::<[bool; 3]>()), 0..3),
        (lo_up, silent, silenced, filter) in (any::<bool>(), any::<bool>(), any::<bool>(), filter()),
        addresses in prop::collection::btree_set(address(), 0..6),
        routes in prop::collection::vec(route(), 0..4),
        rules in prop::collection::btree_set((0u8..6, 1u32..3).prop_map(|(n, table)| Rule { from: ip(n), table }), 0..4),
        announced in prop::option::weighted(0.9, prop::collection::btree_map(0u8..6, 0u8..3, 0..6)),
        stale in prop::bool::weighted(0.1),
    ) -> Have {
        Have {
            nics: nics.into_iter()
                .map(|(m, (n, [inside, up, autoconf]))| {
                    (m, HaveNic { inside, name: format!("eth{n}"), mtu: 1500, up, autoconf })
                }).collect(),
            lo_up,
            silent,
            silenced,
            filter: filter.map(|f| f.mark().to_owned()),
            addresses,
            routes: routes.into_iter().collect(),
            rules,
            announced: announced.map(|a| a.into_iter().map(|(vip, hop)| {
                let announcement = announcement(vip, hop);
                (announcement.prefix, (hop != 2).then_some(announcement))
            }).collect()),
            stale,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Invariants 1 and 2, from any world to any other, cut off after any step.
    #[test]
    fn a_vip_of_ours_is_bound_from_before_it_is_announced_until_after_it_is_withdrawn(want in want(), mut have in have()) {
        for step in plan(&want, &have) {
            match &step {
                Step::Announce(a) if want.announced[&a.prefix].here =>
                    prop_assert!(bound(&have, a.prefix), "{:?} before it is bound and silent", step),
                Step::Announce(a) => prop_assert!(want.announced.contains_key(&a.prefix), "{:?} unasked", step),
                Step::DeleteAddress(a) if a.device == Device::Lo => {
                    let announced = have.announced.as_ref().expect("nothing is unbound while the speaker is silent");
                    let still = announced.keys().any(|p| p.address() == a.ip && want.announced.get(p).is_none_or(|w| w.here));
                    prop_assert!(!still, "{:?} before it is withdrawn", step);
                }
                _ => {}
            }
            apply(&mut have, &step);
        }
    }

    /// The steps lead where they should, and then there is nothing left to do.
    #[test]
    fn a_plan_arrives_and_then_rests(want in want(), mut have in have()) {
        for step in plan(&want, &have) {
            apply(&mut have, &step);
        }
        prop_assert_eq!(plan(&want, &have), vec![]);
        prop_assert!(want.addresses.is_subset(&have.addresses));
        if let Some(announced) = &have.announced {
            if kept(&want, &have).next().is_none() {
                prop_assert_eq!(&have.addresses, &want.addresses);
                prop_assert_eq!(&have.rules, &want.rules);
            }
            let expected: Vec<_> = want.announced.values().filter(|w| want.backs(w)).map(|w| &w.announcement).collect();
            prop_assert_eq!(announced.values().flatten().collect::<Vec<_>>(), expected);
        }
    }

    /// Nobody answers ARP for a VIP on `lo`, and no port is up before its firewall is there.
    #[test]
    fn silence_outlasts_the_vips_on_lo_and_the_firewall_comes_before_the_links(want in want(), mut have in have()) {
        let filter = want.filter.as_ref().map(Ruleset::mark);
        for step in plan(&want, &have) {
            match step {
                Step::Unsilence => prop_assert!(!have.addresses.iter().any(|a| a.device == Device::Lo)),
                Step::SetUp(_) if filter.is_some() => prop_assert_eq!(have.filter.as_deref(), filter),
                Step::AddAddress(a) if a.device == Device::Lo => prop_assert!(have.silent),
                _ => {}
            }
            apply(&mut have, &step);
        }
    }

    /// A link that is up is never taken down or renamed for what it is to carry.
    #[test]
    fn a_change_of_addresses_and_routes_leaves_the_links_alone(want in want(), before in want()) {
        let mut have = Have { lo_up: true, announced: Some(BTreeMap::new()), ..Have::default() };
        for step in plan(&before, &have) {
            apply(&mut have, &step);
        }
        let after = Want { nics: before.nics.clone(), ..want };
        let links = |s: &Step| matches!(s, Step::Adopt(..) | Step::SetUp(_) | Step::SetMtu(..) | Step::Autoconf(_));
        prop_assert!(!plan(&after, &have).iter().any(links));
    }

    /// A speaker that cannot be asked, or that knows less than its peers, is a reason to keep a VIP with all that
    /// answers for it.
    #[test]
    fn no_vip_is_unbound_while_nobody_knows_who_hears_of_it(want in want(), have in have(), silent in any::<bool>()) {
        let have = if silent { Have { announced: None, ..have } } else { Have { stale: true, ..have } };
        let unwanted = have.addresses.difference(&want.addresses).any(|a| a.device == Device::Lo);
        for step in plan(&want, &have) {
            let speaks = matches!(step, Step::Withdraw(_) | Step::Announce(_));
            let takes = matches!(
                step,
                Step::DeleteAddress(_) | Step::DeleteRule(_) | Step::DeleteRoute(..) | Step::Unfilter
            );
            prop_assert!(!(silent && speaks || unwanted && takes), "{:?}", step);
        }
    }
}

#[test]
fn a_vip_taken_away_behind_our_back_is_withdrawn_until_it_is_bound_again() {
    let announcement = announcement(2, 4);
    let prefix = announcement.prefix;
    let want = Want {
        silent: true,
        addresses: [Address::vip(prefix.address())].into(),
        announced: [(prefix, WantAnnounced { announcement: announcement.clone(), here: true })].into(),
        ..Want::default()
    };
    let have = Have {
        lo_up: true,
        silent: true,
        announced: Some([(prefix, Some(announcement.clone()))].into()),
        ..Have::default()
    };
    assert_eq!(
        plan(&want, &have),
        [Step::Withdraw(prefix), Step::AddAddress(Address::vip(prefix.address())), Step::Announce(announcement)]
    );
}

#[test]
fn an_unchanged_world_gets_no_steps() {
    let have = Have { lo_up: true, announced: Some(BTreeMap::new()), ..Have::default() };
    assert_eq!(plan(&Want::default(), &have), []);
}
