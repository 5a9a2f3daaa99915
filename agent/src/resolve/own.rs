//! This amphora's own VIPs, which need no registration where a listener announces them.

use std::collections::BTreeMap;

use bgp::{Announcement, Attributes, NextHop, Prefix};

use super::{Closed, Facts, Policy, announced, drain::GRACEFUL_SHUTDOWN, frontends};
use crate::{
    health::{Gates, look::Subject, vip::Decision},
    plan::WantAnnounced,
    state::{Desired, Registration, Server, VipMode},
};

/// The VIPs on `lo` that are meant to be announced, to be looked at.
pub fn routed(desired: &Desired) -> impl Iterator<Item = Subject> {
    let of = |plug: &crate::state::Plug| {
        let gateway = |v: &crate::state::Vip| {
            let frontend = plug.frontends.iter().find(|f| f.ip.is_ipv4() == v.ip.is_ipv4());
            frontend.map_or(v.gateway, |f| f.gateway).filter(|g| g.is_ipv4() == v.ip.is_ipv4())
        };
        let subject = |v: &crate::state::Vip| Subject { vip: v.ip, nic: plug.mac, gateway: gateway(v) };
        plug.vips.iter().map(subject).collect::<Vec<_>>()
    };
    desired.plugs.values().filter(|plug| plug.mode == VipMode::Anycast).flat_map(of)
}

/// What a listener registers, so to speak: each own VIP, to all peers, with the front-end IP of its family as next hop.
/// One that is registered by a call is left to that; one without a front-end IP cannot be, yet.
#[must_use]
pub fn own(desired: &Desired, facts: &Facts, policy: &Policy) -> BTreeMap<Prefix, Registration> {
    if !policy.gated {
        return BTreeMap::new();
    }
    let mut all = BTreeMap::new();
    for plug in desired.plugs.values().filter(|plug| plug.mode == VipMode::Anycast) {
        let frontends = frontends(plug, facts);
        for vip in &plug.vips {
            let frontend = frontends.iter().find(|f| f.ip.is_ipv4() == vip.ip.is_ipv4());
            let (Ok(prefix), Some(Ok(nexthop))) = (Prefix::try_from(vip.ip), frontend.map(|f| NextHop::try_from(f.ip)))
            else {
                continue;
            };
            let server = Server::Amphora(policy.amphora_id.clone().unwrap_or_default());
            if !desired.registrations.contains_key(&prefix) {
                all.insert(prefix, Registration { vip: prefix, nexthop, server, peer: None });
            }
        }
    }
    all
}

/// More prepends than a drain's: an amphora that is being emptied still serves better than one without members. They are
/// what tells the two apart, so all else that outweighs them has to be the same: an external FRR takes the community of a
/// drain for a local preference of 0.
const WORSE_PREPENDS: u8 = 2;
/// One less than what some routers take for unreachable.
const WORSE_MED: u32 = u32::MAX - 1;

/// The last choice of every router, but one. Where all amphorae are as bad, their routes are again the same.
fn worse(mut wanted: WantAnnounced) -> WantAnnounced {
    let attributes = &mut wanted.announcement.attributes;
    attributes.communities.insert(GRACEFUL_SHUTDOWN);
    attributes.prepend = (attributes.prepend + WORSE_PREPENDS).min(Attributes::MAX_PREPEND);
    attributes.local_pref = Some(0);
    attributes.med = Some(WORSE_MED);
    wanted
}

/// Whether it is announced as the last choice.
fn is_worse(held: &Announcement) -> bool {
    let Attributes { med, local_pref, prepend, communities } = &held.attributes;
    let last = (*med, *local_pref) == (Some(WORSE_MED), Some(0)) && *prepend >= WORSE_PREPENDS;
    last && communities.contains(&GRACEFUL_SHUTDOWN)
}

/// What is wanted of a pass's VIPs.
#[derive(Debug, Default)]
pub struct Announcements {
    /// Wanted.
    pub open: BTreeMap<Prefix, WantAnnounced>,
    /// Wanted where it is announced already, and not otherwise, and why.
    pub held: BTreeMap<Prefix, (WantAnnounced, Closed)>,
    /// Not wanted, and why.
    pub closed: BTreeMap<Prefix, Closed>,
}

impl Announcements {
    /// The announcements wanted of `scope`, and what keeps the others in it from being so.
    pub fn of<'a>(
        scope: impl IntoIterator<Item = &'a Registration>,
        desired: &Desired,
        facts: &Facts,
        policy: &Policy,
        gates: &Gates,
    ) -> Self {
        let mut all = Self::default();
        for registration in scope {
            let vip = registration.vip;
            let wanted = match announced(registration, desired, facts, policy) {
                Ok(wanted) => wanted,
                Err(why) => {
                    all.closed.insert(vip, why);
                    continue;
                }
            };
            let decision = if policy.gated && wanted.here { gates.decision(vip.address()) } else { Decision::Announce };
            match decision {
                Decision::Announce => drop(all.open.insert(vip, wanted)),
                Decision::Worse(_) => drop(all.open.insert(vip, worse(wanted))),
                Decision::Hold(why) => drop(all.held.insert(vip, (wanted, why))),
                Decision::Withdraw(why) => drop(all.closed.insert(vip, why)),
            }
        }
        all
    }

    /// What is wanted of a speaker that announces these, and what is not.
    #[must_use]
    pub fn beside(
        self,
        announced: &BTreeMap<Prefix, Option<Announcement>>,
    ) -> (BTreeMap<Prefix, WantAnnounced>, BTreeMap<Prefix, Closed>) {
        let Self { mut open, held, mut closed } = self;
        for (vip, (wanted, why)) in held {
            match announced.get(&vip) {
                // Whether it is the last choice has been decided as well; a drain has not.
                Some(Some(held)) if is_worse(held) => drop(open.insert(vip, worse(wanted))),
                Some(_) => drop(open.insert(vip, wanted)),
                None => drop(closed.insert(vip, why)),
            }
        }
        (open, closed)
    }
}

#[cfg(test)]
mod tests;
