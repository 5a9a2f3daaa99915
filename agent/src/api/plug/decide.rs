//! What a plug means for the state held: pure functions, run by the owner.

use std::{collections::BTreeSet, net::IpAddr};

use netns::{IfName, Mac};

use super::request::Wanted;
use crate::{
    api::error::{ApiError, Status},
    owner::{Decision, Refusal},
    resolve::{Policy, is_self},
    state::{Change, Desired, Plug},
};

/// The 409 that the controller takes for success.
pub(super) fn exists() -> ApiError {
    ApiError::message(Status::Conflict, "Interface already exists")
}

/// Whether a NIC is plugged, so that a VIP cannot be plugged on it any more.
pub(super) fn is_taken(mac: Mac, desired: &Desired) -> bool {
    let vip = desired.plug_on(mac).is_some_and(|p| p.acknowledged);
    // Members that came to a VIP's own NIC are no reason to refuse the VIP there.
    vip || (desired.plug_on(mac).is_none() && desired.networks.get(&mac).is_some_and(|n| n.acknowledged))
}

/// Takes a plug unless its NIC or one of its VIPs is taken.
///
/// `names` are the interface names inside the namespace, `missing` the plugged NICs that exist no more.
pub(super) fn plug(
    wanted: &Wanted,
    desired: &Desired,
    names: &BTreeSet<String>,
    missing: &[Mac],
    policy: &Policy,
) -> Decision<Refusal> {
    let before = desired.plug_on(wanted.mac);
    if is_taken(wanted.mac, desired) {
        return Err(Refusal::conflict("Interface already exists", ""));
    }
    let mut changes = Vec::new();
    for other in desired.plugs.values().filter(|p| p.mac != wanted.mac) {
        let Some(vip) = wanted.vips.iter().find(|v| other.has_vip(v.ip)) else { continue };
        // A NIC that is gone for good does not hold its VIPs against the one that takes its place.
        if !missing.contains(&other.mac) {
            // Not 409, which the controller takes for "plugged already".
            let message = format!(
                "Invalid VIP: {} is plugged on the NIC {}; DELETE /1.0/plug/vip/{} first",
                vip.ip,
                other.mac,
                other.primary()
            );
            return Err(Refusal { status: Status::BadRequest, message, details: String::new() });
        }
        changes.push(Change::Unplug(other.primary()));
        changes.extend(stranded(other, &[], desired, policy));
    }
    let interface = before.map_or_else(|| free_name(1, desired, names, missing), |p| p.interface.clone());
    changes.extend(without_nic(&interface, desired, wanted.mac));
    let plug = Plug {
        mac: wanted.mac,
        interface,
        mode: wanted.mode,
        vips: wanted.vips.clone(),
        frontends: wanted.frontends.clone(),
        mtu: wanted.mtu,
        is_sriov: wanted.is_sriov,
        keepalived: Some(wanted.keepalived),
        acknowledged: false,
    };
    if let Some(other) = before.filter(|other| other.primary() != plug.primary()) {
        changes.push(Change::Unplug(other.primary()));
        changes.extend(stranded(other, &[], desired, policy));
    }
    // Also when it is held already: a commit is what has everything tried again now, and what a retry waits for.
    changes.push(Change::Plug(Box::new(plug)));
    // A VIP that only moves to another NIC is being drained as before.
    let moved = desired.drains.values().filter(|d| d.own && wanted.vips.iter().any(|v| v.ip == d.vip.address()));
    changes.extend(moved.cloned().map(Change::Drain));
    Ok(changes)
}

/// The first free `ethN` from a number on: from 1, where the controller expects the VIP, or from 2 for members. A NIC
/// that is gone does not hold its name.
pub(super) fn free_name(from: u32, desired: &Desired, inside: &BTreeSet<String>, missing: &[Mac]) -> IfName {
    let held = |name: &str| {
        inside.contains(name) || desired.nics().any(|(mac, n)| n.as_str() == name && !missing.contains(&mac))
    };
    let mut names = (from..).map(|n| format!("eth{n}"));
    let name = names.find(|n| !held(n)).unwrap_or_default();
    name.parse().expect("ethN is an interface name for any N there are links for")
}

/// Forgets the member networks whose name goes to another NIC: theirs is gone.
pub(super) fn without_nic<'a>(name: &'a IfName, desired: &'a Desired, mac: Mac) -> impl Iterator<Item = Change> + 'a {
    let gone = desired.networks.values().filter(move |n| n.interface == *name && n.mac != mac);
    gone.map(|n| Change::UnplugNetwork(n.mac))
}

/// Marks a plug as answered, if it still is the one that was done.
pub(super) fn acknowledge(done: &Plug, desired: &Desired) -> Decision<Refusal> {
    let answered = Plug { acknowledged: true, ..done.clone() };
    match desired.plugs.get(&done.primary()) {
        Some(held) if *held == answered => Ok(vec![]),
        Some(held) if held == done => Ok(vec![Change::Plug(Box::new(answered))]),
        _ => {
            let message = format!("{} was unplugged, or plugged otherwise, while it was being plugged", done.primary());
            Err(Refusal { status: Status::Internal, message, details: "try again".to_owned() })
        }
    }
}

/// Forgets the registrations that lead to a plug which goes, under another amphora's name or none: without the plug they
/// would count as foreign, and stay announced with nothing behind their next hop. `held` are the addresses of its NIC.
fn stranded<'a>(
    plug: &'a Plug,
    held: &'a [IpAddr],
    desired: &'a Desired,
    policy: &'a Policy,
) -> impl Iterator<Item = Change> + 'a {
    let gone = |ip: IpAddr| held.contains(&ip) || plug.frontends.iter().any(|f| f.ip == ip);
    let registrations = desired.registrations.values().filter(|r| !is_self(&r.server, policy));
    registrations.filter(move |r| gone(r.nexthop.address())).map(|r| Change::Unregister(r.vip))
}

/// Forgets a plug by its primary VIP; `held` are the addresses of its NIC, with those the network gave it.
pub(super) fn unplug(vip: IpAddr, held: &[IpAddr], desired: &Desired, policy: &Policy) -> Decision<Refusal> {
    match desired.plug_of(vip) {
        None => Ok(vec![]),
        Some(plug) if plug.primary() == vip => {
            Ok(std::iter::once(Change::Unplug(vip)).chain(stranded(plug, held, desired, policy)).collect())
        }
        Some(plug) => Err(Refusal::conflict(
            format!("{vip} is an additional VIP"),
            format!("it came with {0}; DELETE /1.0/plug/vip/{0} unplugs both", plug.primary()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Frontend, Registration, Server, Vip, VipMode};

    fn wanted(mac: &str, vip: &str) -> Wanted {
        let ip: IpAddr = vip.parse().unwrap();
        Wanted {
            mac: mac.parse().unwrap(),
            mode: VipMode::Anycast,
            vips: vec![Vip { ip, subnet: ip.into(), gateway: None, host_routes: vec![] }],
            frontends: vec![],
            mtu: None,
            is_sriov: false,
            keepalived: false,
        }
    }

    const A: &str = "fa:16:3e:00:00:0a";
    const B: &str = "fa:16:3e:00:00:0b";

    fn apply(desired: &mut Desired, changes: Vec<Change>) {
        for change in changes {
            desired.apply(change);
        }
    }

    fn policy() -> Policy {
        Policy { amphora_id: Some("me".into()), ..Policy::default() }
    }

    fn plug(w: &Wanted, desired: &Desired, names: &BTreeSet<String>, missing: &[Mac]) -> Decision<Refusal> {
        super::plug(w, desired, names, missing, &policy())
    }

    fn ok(w: &Wanted, desired: &Desired) -> Vec<Change> {
        plug(w, desired, &BTreeSet::new(), &[]).unwrap()
    }

    #[test]
    fn a_plug_that_was_not_acknowledged_is_completed_and_one_that_was_is_refused() {
        let mut desired = Desired::default();
        let changes = ok(&wanted(A, "203.0.113.7"), &desired);
        apply(&mut desired, changes.clone());
        assert_eq!(ok(&wanted(A, "203.0.113.7"), &desired), changes, "the same again goes on");
        let changes = ok(&wanted(A, "203.0.113.8"), &desired);
        apply(&mut desired, changes);
        assert_eq!(desired.plugs.len(), 1, "another body takes the place of the one half done");
        let done = desired.plugs[&"203.0.113.8".parse::<IpAddr>().unwrap()].clone();
        let changes = acknowledge(&done, &desired).unwrap();
        apply(&mut desired, changes);
        plug(&wanted(A, "203.0.113.8"), &desired, &BTreeSet::new(), &[]).unwrap_err();
        plug(&wanted(A, "203.0.113.9"), &desired, &BTreeSet::new(), &[]).unwrap_err();
    }

    #[test]
    fn what_was_taken_away_meanwhile_is_not_acknowledged() {
        let mut desired = Desired::default();
        let changes = ok(&wanted(A, "203.0.113.7"), &desired);
        apply(&mut desired, changes);
        let done = desired.plugs.values().next().unwrap().clone();
        assert!(acknowledge(&done, &Desired::default()).is_err());
        let other = Plug { mtu: Some(1400), ..done.clone() };
        assert!(acknowledge(&other, &desired).is_err());
        assert_eq!(acknowledge(&done, &desired).unwrap().len(), 1);
    }

    #[test]
    fn a_vip_is_on_one_nic_unless_that_nic_is_gone() {
        let mut desired = Desired::default();
        let changes = ok(&wanted(A, "203.0.113.7"), &desired);
        apply(&mut desired, changes);
        plug(&wanted(B, "203.0.113.7"), &desired, &BTreeSet::new(), &[]).unwrap_err();
        let changes = plug(&wanted(B, "203.0.113.7"), &desired, &BTreeSet::new(), &[A.parse().unwrap()]).unwrap();
        apply(&mut desired, changes);
        let held = desired.plugs.values().next().unwrap();
        assert_eq!((held.mac.to_string().as_str(), held.interface.as_str()), (B, "eth1"));
    }

    #[test]
    fn the_first_plug_is_eth1_and_the_next_takes_the_first_free_name() {
        let inside = ["lo", "eth2"].map(str::to_owned).into();
        let mut desired = Desired::default();
        for (mac, vip, name) in [(A, "203.0.113.7", "eth1"), (B, "203.0.113.8", "eth3")] {
            let changes = plug(&wanted(mac, vip), &desired, &inside, &[]).unwrap();
            apply(&mut desired, changes);
            assert_eq!(desired.plug_on(mac.parse().unwrap()).unwrap().interface.as_str(), name);
        }
    }

    #[test]
    fn unplugging_an_additional_vip_says_what_it_came_with() {
        let mut desired = Desired::default();
        let mut both = wanted(A, "203.0.113.7");
        both.vips.extend(wanted(A, "2001:db8::7").vips);
        let changes = ok(&both, &desired);
        apply(&mut desired, changes);
        let refusal = unplug("2001:db8::7".parse().unwrap(), &[], &desired, &policy()).unwrap_err();
        assert!(refusal.details.contains("203.0.113.7"), "{refusal}");
        assert_eq!(unplug("203.0.113.9".parse().unwrap(), &[], &desired, &policy()).unwrap(), []);
    }

    #[test]
    fn what_leads_to_an_unplugged_nic_under_another_name_is_not_announced_any_more() {
        let mut desired = Desired::default();
        let mut plugged = wanted(A, "203.0.113.7");
        let subnet = "192.0.2.0/24".parse().unwrap();
        plugged.frontends = vec![Frontend { ip: "192.0.2.10".parse().unwrap(), subnet, gateway: None }];
        let changes = ok(&plugged, &desired);
        apply(&mut desired, changes);
        let other = || Server::Amphora("other".into());
        let registrations = [
            ("203.0.113.7", "192.0.2.10", Server::Amphora("me".into())),
            ("203.0.113.8", "192.0.2.10", other()),
            ("203.0.113.9", "192.0.2.10", Server::EndPoint),
            ("203.0.113.10", "192.0.2.11", other()),
            ("2001:db8::10", "2001:db8:2::10", other()),
        ];
        for (vip, nexthop, server) in registrations {
            let (vip, nexthop): (IpAddr, IpAddr) = (vip.parse().unwrap(), nexthop.parse().unwrap());
            let (vip, nexthop) = (vip.try_into().unwrap(), nexthop.try_into().unwrap());
            desired.apply(Change::Register(Registration { vip, nexthop, server, peer: None }));
        }
        // The last by an address the network gave the NIC.
        let held = ["2001:db8:2::10".parse().unwrap()];
        let changes = unplug("203.0.113.7".parse().unwrap(), &held, &desired, &policy()).unwrap();
        apply(&mut desired, changes);
        let left: Vec<_> = desired.registrations.keys().map(|vip| vip.address().to_string()).collect();
        assert_eq!(left, ["203.0.113.7", "203.0.113.10"], "its own waits for the next plug");
    }
}
