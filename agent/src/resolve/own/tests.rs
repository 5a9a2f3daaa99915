use std::cmp::Reverse;

use super::*;
use crate::{
    config::VipConfig,
    health::Judged,
    resolve::tests::{address, desired, facts, ip, plug, policy, registration},
};

fn gated() -> Policy {
    Policy { gated: true, ..policy() }
}

/// A plug whose NIC has its front-end IP.
fn plugged() -> (Desired, Facts) {
    (desired(plug(VipMode::Anycast)), facts(vec![address("192.0.2.10/25", true)]))
}

fn judged(decision: Decision) -> Gates {
    Gates(
        [(
            ip("203.0.113.7"),
            Judged { decision, gates: vec![], lbs: vec![], leaving: false, wanted: true, transitions: [].into() },
        )]
        .into(),
    )
}

/// What is wanted, and why not, of the VIP, beside a speaker that announces it or not.
fn wanted(decision: Decision, is_announced: bool) -> Result<WantAnnounced, Closed> {
    let as_said = is_announced.then(Attributes::default);
    wanted_beside(decision, as_said, &gated())
}

/// The same beside a speaker that announces it with these attributes, or not.
fn wanted_beside(decision: Decision, announced: Option<Attributes>, policy: &Policy) -> Result<WantAnnounced, Closed> {
    let (desired, facts) = plugged();
    let own = own(&desired, &facts, policy);
    let all = Announcements::of(own.values(), &desired, &facts, policy, &judged(decision));
    let held = own.values().zip(announced).map(|(own, attributes)| {
        let (prefix, next_hop, audience) = (own.vip, own.nexthop, bgp::Audience::All);
        (prefix, Some(Announcement { prefix, next_hop, audience, attributes }))
    });
    let (mut open, mut closed) = all.beside(&held.collect());
    assert_eq!(open.len() + closed.len(), 1);
    open.pop_first().map(|(_, wanted)| wanted).ok_or_else(|| closed.pop_first().unwrap().1)
}

#[test]
fn a_listener_stands_for_a_registration_of_each_own_vip() {
    let (desired, facts) = plugged();
    let own = own(&desired, &facts, &gated());
    assert_eq!(own.into_values().collect::<Vec<_>>(), [registration("me", "203.0.113.7", "192.0.2.10")]);
    assert_eq!(super::own(&desired, &facts, &policy()), BTreeMap::new(), "announce = api");
    for mode in [VipMode::Interface, VipMode::Noarp] {
        let desired = crate::resolve::tests::desired(plug(mode));
        assert_eq!(super::own(&desired, &facts, &gated()), BTreeMap::new());
        assert_eq!(routed(&desired).count(), 0);
    }
}

#[test]
fn a_call_that_registers_it_is_left_to_its_own_words() {
    let (mut desired, facts) = plugged();
    let registered = registration("me", "203.0.113.7", "192.0.2.10");
    desired.registrations.insert(registered.vip, registered);
    assert_eq!(own(&desired, &facts, &gated()), BTreeMap::new());
}

#[test]
fn without_a_front_end_ip_of_its_family_there_is_nothing_to_announce() {
    let mut plugged = plug(VipMode::Anycast);
    plugged.frontends.clear();
    assert_eq!(own(&desired(plugged.clone()), &Facts::new(), &gated()), BTreeMap::new());
    // One that the NIC got by itself will do.
    let facts = facts(vec![address("192.0.2.99/25", false)]);
    assert_eq!(own(&desired(plugged), &facts, &gated()).len(), 1);
}

#[test]
fn decisions_are_heeded_and_what_is_held_stays_as_it_is() {
    let why = || "reason".to_owned();
    for is_announced in [false, true] {
        wanted(Decision::Announce, is_announced).unwrap();
        assert_eq!(wanted(Decision::Withdraw(why()), is_announced).unwrap_err(), "reason");
    }
    assert_eq!(wanted(Decision::Hold(why()), false).unwrap_err(), "reason");
    wanted(Decision::Hold(why()), true).unwrap();
}

#[test]
fn the_longest_prefix_says_what_a_vip_is_announced_with_and_a_last_resort_is_worse_than_that() {
    let of = |prefix: &str, attributes: Attributes| VipConfig { prefix: prefix.parse().unwrap(), attributes };
    let med = |med| Attributes { med: Some(med), ..Attributes::default() };
    let communities = [bgp::Community(7)].into();
    let own = Attributes { communities, prepend: 8, local_pref: Some(300), med: Some(50) };
    let wide = [of("203.0.113.0/24", med(1)), of("0.0.0.0/0", med(2)), of("203.0.113.8/32", med(3))];
    let mut policy = Policy { vips: wide.into(), ..gated() };
    let attributes = |policy: &Policy, decision| wanted_beside(decision, None, policy).unwrap().announcement.attributes;
    assert_eq!(attributes(&policy, Decision::Announce), med(1));
    policy.vips.push(of("203.0.113.7/32", own.clone()));
    assert_eq!(attributes(&policy, Decision::Announce), own);
    let worse = attributes(&policy, Decision::Worse("members".into()));
    let communities = [bgp::Community(7), GRACEFUL_SHUTDOWN].into();
    assert_eq!((worse.prepend, worse.local_pref, &worse.communities), (10, Some(0), &communities));
    assert!(worse.med > own.med);
    // What an operator asks for by itself is not taken for it.
    let similar = Attributes { communities: own.communities.clone(), ..worse.clone() };
    let held = wanted_beside(Decision::Hold("unknown".into()), Some(similar), &policy).unwrap();
    assert_eq!(held.announcement.attributes, own);

    // An agent that has just started leaves it as it is, and so announces it as the last resort still.
    let held = wanted_beside(Decision::Hold("unknown".into()), Some(worse.clone()), &policy).unwrap();
    assert_eq!(held.announcement.attributes, worse);
}

/// By an external router's rules, where `heeds` is one that knows the community (FRR 8.4), and by an internal one's.
#[test]
fn routers_prefer_an_amphora_that_is_being_drained_to_one_without_members() {
    let plain =
        announced(&registration("me", "203.0.113.7", "192.0.2.10"), &plugged().0, &plugged().1, &gated()).unwrap();
    let attributes = |wanted: WantAnnounced| wanted.announcement.attributes;
    let drained = super::super::drain::less_preferred(attributes(plain.clone()));
    let (best, last) = (attributes(plain.clone()), attributes(worse(plain)));
    // The highest local preference, then the shortest path, then the lowest MED (RFC 4271, section 9.1.2.2).
    let external = |heeds: bool, said: &Attributes| {
        let shut = heeds && said.communities.contains(&GRACEFUL_SHUTDOWN);
        (if shut { 0 } else { 100 }, Reverse(said.prepend), Reverse(said.med.unwrap_or_default()))
    };
    let internal =
        |said: &Attributes| (said.local_pref.unwrap_or(100), Reverse(0), Reverse(said.med.unwrap_or_default()));
    for preference in [&|said: &_| external(true, said), &|said: &_| external(false, said), &internal]
        as [&dyn Fn(&Attributes) -> (u32, Reverse<u8>, Reverse<u32>); 3]
    {
        assert!(preference(&best) > preference(&drained));
        assert!(preference(&drained) > preference(&last));
    }
}

#[test]
fn a_foreign_next_hop_has_no_gates_and_a_policy_outweighs_them() {
    let (desired, facts) = plugged();
    let policy = Policy { allowed_nexthops: Some(vec!["192.0.2.0/24".parse().unwrap()]), ..gated() };
    let foreign = registration("other", "203.0.113.9", "192.0.2.77");
    let all = Announcements::of([&foreign], &desired, &facts, &policy, &Gates::default());
    assert!(all.open.contains_key(&foreign.vip), "{all:?}");
    let outside = Policy { allowed_prefixes: vec![], ..gated() };
    let own = own(&desired, &facts, &outside);
    let all = Announcements::of(own.values(), &desired, &facts, &outside, &judged(Decision::Announce));
    assert!(all.closed.values().all(|why| why.contains("allowed_prefixes")) && all.open.is_empty(), "{all:?}");
}
