//! From what is wanted and what is there to the steps between: a pure function.
//!
//! The order of the steps is the safety of the amphora, so it is written once, here, and tested against
//! the invariants in an operator's words:
//!
//! 1. a VIP of ours is announced only while it is bound on `lo` and nobody answers ARP or NDP for it;
//! 2. it is bound before it is announced, and withdrawn before it is unbound.
//!
//! Nothing but what carries our tag is in [`Have`], so nothing else can be touched.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use bgp::{Announcement, Prefix};
use ipnet::IpNet;
use netns::{IfName, Mac};

use crate::firewall::Ruleset;

/// Where an address sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Device {
    /// The loopback interface of the namespace.
    Lo,
    /// The NIC with this MAC.
    Nic(Mac),
}

/// An address on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// Where.
    pub device: Device,
    /// The address.
    pub ip: IpAddr,
    /// Its prefix length.
    pub length: u8,
}

impl Address {
    /// A VIP on `lo`, /32 or /128.
    #[must_use]
    pub fn vip(ip: IpAddr) -> Self {
        Self { device: Device::Lo, ip, length: if ip.is_ipv4() { 32 } else { 128 } }
    }
}

/// Where a route leads from: one per table and destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteKey {
    /// The routing table's number.
    pub table: u32,
    /// The destination.
    pub destination: IpNet,
}

/// Where a route leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path {
    /// Out of this NIC.
    pub nic: Mac,
    /// To this neighbor, which is taken to be on the link; on-link without.
    pub gateway: Option<IpAddr>,
    /// With this source address preferred.
    pub source: Option<IpAddr>,
}

/// Packets from this source look into that table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// The source.
    pub from: IpAddr,
    /// The table's number.
    pub table: u32,
}

/// What a NIC inside the namespace shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantNic {
    /// Its name there.
    pub name: IfName,
    /// Its MTU in bytes; as it is when absent.
    pub mtu: Option<u32>,
    /// It takes IPv6 addresses from router advertisements, also where the namespace forwards.
    pub autoconf: bool,
}

/// What a NIC is, wherever it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HaveNic {
    /// In the namespace, not outside it.
    pub inside: bool,
    /// Its present name.
    pub name: String,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// It takes IPv6 addresses from router advertisements, also where the namespace forwards.
    pub autoconf: bool,
}

/// An announcement that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantAnnounced {
    /// What the peers shall hear.
    pub announcement: Announcement,
    /// Its next hop is this amphora: only while the VIP is bound here.
    pub here: bool,
}

/// Everything wanted of the namespace and the speaker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Want {
    /// The NICs that belong in the namespace.
    pub nics: BTreeMap<Mac, WantNic>,
    /// Nobody answers ARP or NDP for addresses on `lo`.
    pub silent: bool,
    /// Addresses.
    pub addresses: BTreeSet<Address>,
    /// Routes without which replies would not leave.
    pub routes: BTreeMap<RouteKey, Path>,
    /// Routes a tenant asked for; one the kernel refuses is logged and passed over.
    pub host_routes: BTreeMap<RouteKey, Path>,
    /// Sources whose packets look into a table of their own.
    pub rules: BTreeSet<Rule>,
    /// What is let in; everything when absent.
    pub filter: Option<Ruleset>,
    /// Announcements, of the VIPs in this plan's scope.
    pub announced: BTreeMap<Prefix, WantAnnounced>,
}

/// What of it is there; only what is ours.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Have {
    /// Every NIC that is wanted, as far as it exists.
    pub nics: BTreeMap<Mac, HaveNic>,
    /// `lo` is up.
    pub lo_up: bool,
    /// Nobody answers ARP or NDP for addresses on `lo`.
    pub silent: bool,
    /// That is our doing, or was begun by us, and can be taken back.
    pub silenced: bool,
    /// What is let in, by its mark; absent without such a table.
    pub filter: Option<String>,
    /// Addresses.
    pub addresses: BTreeSet<Address>,
    /// Routes.
    pub routes: BTreeMap<RouteKey, Path>,
    /// Sources whose packets look into a table of their own.
    pub rules: BTreeSet<Rule>,
    /// What the speaker announces, of the VIPs in this plan's scope; `None` while it cannot be asked. A
    /// prefix without announcement is held in a form that is not ours.
    pub announced: Option<BTreeMap<Prefix, Option<Announcement>>>,
    /// A peer may hold VIPs that shall go although the speaker announces them no more: from an earlier life of it, or
    /// from a session that was lost.
    pub stale: bool,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Tell the peers that the VIP is not here any more.
    Withdraw(Prefix),
    /// Remove a rule.
    DeleteRule(Rule),
    /// Remove a route.
    DeleteRoute(RouteKey, Path),
    /// Remove an address.
    DeleteAddress(Address),
    /// Bring `lo` up.
    LoUp,
    /// Stop answering ARP and NDP for addresses on `lo`.
    Silence,
    /// Answer ARP again as before: no VIP is on `lo` any more.
    Unsilence,
    /// Let in this and nothing else, in place of what was let in before.
    Filter(Ruleset),
    /// Let everything in.
    Unfilter,
    /// Move a NIC into the namespace, or give it its name there.
    Adopt(Mac, IfName),
    /// Set a NIC's MTU.
    SetMtu(Mac, u32),
    /// Have a NIC take IPv6 addresses from router advertisements.
    Autoconf(Mac),
    /// Bring a NIC up.
    SetUp(Mac),
    /// Add an address.
    AddAddress(Address),
    /// Add a route, in place of ours of the same key.
    AddRoute(RouteKey, Path),
    /// The same for one that may fail.
    AddHostRoute(RouteKey, Path),
    /// Add a rule.
    AddRule(Rule),
    /// Tell the peers that the VIP is here.
    Announce(Announcement),
}

impl Want {
    /// Whether `announced` may be announced once everything wanted of the kernel is there.
    fn backs(&self, announced: &WantAnnounced) -> bool {
        let vip = announced.announcement.prefix.address();
        !announced.here || (self.silent && self.addresses.contains(&Address::vip(vip)))
    }
}

/// The addresses that are kept although nobody wants them, because the speaker cannot be asked or does not know what
/// its peers hold: all of them while a VIP is among them that may still be announced, for its packets are answered by
/// all the rest.
pub fn kept<'a>(want: &'a Want, have: &'a Have) -> impl Iterator<Item = &'a Address> {
    let unwanted = || have.addresses.difference(&want.addresses);
    let keep = (have.announced.is_none() || have.stale) && unwanted().any(|a| a.device == Device::Lo);
    unwanted().filter(move |_| keep)
}

/// The steps from `have` to `want`, in the only order that keeps the invariants.
///
/// While the speaker cannot be asked, or its peers hold what it no longer knows, no VIP is taken off `lo`.
#[must_use]
pub fn plan(want: &Want, have: &Have) -> Vec<Step> {
    let mut steps = Vec::new();
    if let Some(announced) = &have.announced {
        let stays = |p: &Prefix| want.announced.get(p).is_some_and(|w| want.backs(w) && backed_now(have, w));
        steps.extend(announced.keys().filter(|p| !stays(p)).map(|p| Step::Withdraw(*p)));
    }
    let keeps = kept(want, have).next().is_some();
    if !keeps {
        take_away(want, have, &mut steps);
    }
    bring_in(want, have, keeps, &mut steps);
    if let Some(announced) = &have.announced {
        for (prefix, wanted) in want.announced.iter().filter(|(_, w)| want.backs(w)) {
            // One that was withdrawn above is announced anew, although it looks the same.
            let same = matches!(announced.get(prefix), Some(Some(held)) if *held == wanted.announcement);
            if !same || !backed_now(have, wanted) {
                steps.push(Step::Announce(wanted.announcement.clone()));
            }
        }
    }
    steps
}

/// Whether what it stands on is there already. If somebody took a VIP away behind our back, it is
/// withdrawn first and announced again when it is back.
fn backed_now(have: &Have, wanted: &WantAnnounced) -> bool {
    let vip = wanted.announcement.prefix.address();
    !wanted.here || (have.silent && have.addresses.contains(&Address::vip(vip)))
}

fn take_away(want: &Want, have: &Have, steps: &mut Vec<Step>) {
    steps.extend(have.rules.difference(&want.rules).map(|r| Step::DeleteRule(*r)));
    let wanted = |key: &RouteKey| want.routes.contains_key(key) || want.host_routes.contains_key(key);
    steps.extend(have.routes.iter().filter(|(k, _)| !wanted(k)).map(|(k, p)| Step::DeleteRoute(*k, *p)));
    steps.extend(have.addresses.difference(&want.addresses).map(|a| Step::DeleteAddress(*a)));
    if !want.silent && have.silenced {
        steps.push(Step::Unsilence);
    }
}

/// `keeps`: VIPs nobody wants any more are still reached, so what filters their packets is too.
fn bring_in(want: &Want, have: &Have, keeps: bool, steps: &mut Vec<Step>) {
    if !have.lo_up {
        steps.push(Step::LoUp);
    }
    if want.silent && !have.silent {
        steps.push(Step::Silence);
    }
    // Before any link comes up: a virtual function's port has no security group in front of it.
    match &want.filter {
        Some(rules) if have.filter.as_deref() != Some(rules.mark()) => steps.push(Step::Filter(rules.clone())),
        None if have.filter.is_some() && !keeps => steps.push(Step::Unfilter),
        _ => {}
    }
    for (mac, nic) in &want.nics {
        // A NIC that is nowhere yet: the steps that need it fail by name and the next pass tries again.
        let there = have.nics.get(mac);
        if !there.is_some_and(|h| h.inside && h.name == nic.name.as_str()) {
            steps.push(Step::Adopt(*mac, nic.name.clone()));
        }
        if let Some(mtu) = nic.mtu.filter(|mtu| there.is_none_or(|h| h.mtu != *mtu)) {
            steps.push(Step::SetMtu(*mac, mtu));
        }
        // Before it is up, for that is when it asks for an advertisement.
        if nic.autoconf && !there.is_some_and(|h| h.inside && h.autoconf) {
            steps.push(Step::Autoconf(*mac));
        }
        // Moving a NIC to another namespace takes it down.
        if !there.is_some_and(|h| h.inside && h.up) {
            steps.push(Step::SetUp(*mac));
        }
    }
    steps.extend(want.addresses.difference(&have.addresses).map(|a| Step::AddAddress(*a)));
    let missing = |key: &RouteKey, path: &Path| have.routes.get(key) != Some(path);
    let routes = want.routes.iter().filter(|(k, p)| missing(k, p));
    steps.extend(routes.map(|(k, p)| Step::AddRoute(*k, *p)));
    let hosts = want.host_routes.iter().filter(|(k, p)| !want.routes.contains_key(k) && missing(k, p));
    steps.extend(hosts.map(|(k, p)| Step::AddHostRoute(*k, *p)));
    steps.extend(want.rules.difference(&have.rules).map(|r| Step::AddRule(*r)));
}

#[cfg(test)]
mod tests;
