//! From a plug to the file that Octavia's Python agent would have written for it (`interface_file.py`).
//!
//! A routed VIP has no equal there. Its file says the same in the same words, with the VIP as one that another program
//! looks after: whoever applies the file neither takes it off `lo` nor puts it on the NIC, where it would answer ARP.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use netns::IfName;

use super::file::{Address, Interface, Kind, Route, Rule, Script, Scripts};
use crate::{
    firewall,
    programs::masquerade::{Family, Masquerade},
    resolve::{Policy, autoconf, by_keepalived, dhcp, table_of},
    state::{Desired, FixedIp, HostRoute, NetworkPlug, Plug, Vip, VipMode},
};

/// The VIP's interface.
pub(super) fn vip(plug: &Plug, members: Option<&NetworkPlug>, policy: &Policy) -> Interface {
    let mut addresses: Vec<_> = plug.frontends.iter().map(|f| on_nic(exploded(f.ip), f.subnet.prefix_len())).collect();
    if dhcp(plug) {
        addresses.push(Address { dhcp: Some(true), ..Address::default() });
    }
    if autoconf(plug) {
        addresses.push(Address { ipv6auto: Some(true), ..Address::default() });
    }
    let here = plug.mode == VipMode::Interface;
    let owned = here && !by_keepalived(plug, policy);
    let own_table = (owned || !here).then(|| table_of(plug));
    let (mut routes, mut rules) = (Vec::new(), Vec::new());
    for vip in &plug.vips {
        let length = if vip.ip.is_ipv4() { 32 } else { 128 };
        let address = Address { octavia_owned: Some(owned), ..on_nic(exploded(vip.ip), length) };
        addresses.push(address);
        let own = own_table.map(|table| (table, here.then(|| exploded(vip.ip))));
        of_subnet(vip, plug, own, &mut routes);
        if let Some(table) = own_table {
            rules.push(Rule { src: exploded(vip.ip), src_len: length, table });
        }
    }
    for fixed in members.into_iter().flat_map(|m| &m.fixed_ips) {
        addresses.push(on_nic(fixed.ip.to_string(), fixed.subnet.prefix_len()));
        if let Some(gateway) = fixed.gateway {
            routes.push(default(gateway, None));
            routes.extend(own_table.filter(|_| here).map(|table| default(gateway, Some(table))));
        }
        routes.extend(of_hosts(&fixed.host_routes, None));
    }
    let masquerades = vip_masquerades(plug, members);
    let sriov = plug.is_sriov || members.is_some_and(|m| m.is_sriov);
    Interface {
        scripts: scripts(&masquerades),
        name: plug.interface.to_string(),
        if_type: Kind::Vip,
        addresses,
        routes,
        rules,
        is_sriov: sriov,
        mtu: members.and_then(|m| m.mtu).or(plug.mtu),
    }
}

/// The routes of a VIP's subnet, and the same in the table of its replies, with the source they prefer.
fn of_subnet(vip: &Vip, plug: &Plug, own: Option<(u32, Option<String>)>, routes: &mut Vec<Route>) {
    let here = plug.mode == VipMode::Interface;
    if let Some(gateway) = vip.gateway {
        routes.push(default(gateway, None));
        routes.extend(own.iter().map(|(table, _)| default(gateway, Some(*table))));
    }
    let on_link = |table, prefsrc| Route {
        dst: exploded_net(vip.subnet),
        scope: Some("link".to_owned()),
        prefsrc,
        table,
        ..Route::default()
    };
    if here {
        routes.push(on_link(None, None));
    }
    routes.extend(own.map(|(table, source)| on_link(Some(table), source)));
    routes.extend(of_hosts(&vip.host_routes, None));
    // Upstream has them in table 1 whatever the topology.
    routes.extend(of_hosts(&vip.host_routes, Some(table_of(plug))));
}

/// A member network's interface.
pub(super) fn port(network: &NetworkPlug) -> Interface {
    let of = |f: &FixedIp| on_nic(f.ip.to_string(), f.subnet.prefix_len());
    let mut addresses: Vec<_> = network.fixed_ips.iter().map(of).collect();
    if addresses.is_empty() {
        addresses.push(Address { dhcp: Some(true), ipv6auto: Some(true), ..Address::default() });
    }
    Interface {
        name: network.interface.to_string(),
        if_type: Kind::Backend,
        addresses,
        routes: network.fixed_ips.iter().flat_map(|f| of_hosts(&f.host_routes, None)).collect(),
        rules: Vec::new(),
        scripts: scripts(&port_masquerades(network)),
        is_sriov: network.is_sriov,
        mtu: network.mtu,
    }
}

/// `lo`, with the routed VIPs on it.
pub(super) fn lo(desired: &Desired) -> Interface {
    let routed = desired.plugs.values().filter(|p| p.mode != VipMode::Interface).flat_map(|p| &p.vips);
    let routed = routed.filter(|v| !desired.is_drained(v.ip));
    let vip = |v: &Vip| Address {
        octavia_owned: Some(false),
        ..on_nic(v.ip.to_string(), if v.ip.is_ipv4() { 32 } else { 128 })
    };
    Interface {
        name: "lo".to_owned(),
        if_type: Kind::Lo,
        addresses: std::iter::once(on_nic("127.0.0.1".to_owned(), 8)).chain(routed.map(vip)).collect(),
        routes: Vec::new(),
        rules: Vec::new(),
        scripts: Scripts::default(),
        is_sriov: false,
        mtu: None,
    }
}

fn on_nic(address: String, prefixlen: u8) -> Address {
    Address { address: Some(address), prefixlen: Some(prefixlen), ..Address::default() }
}

fn onlink() -> Vec<String> {
    vec!["onlink".to_owned()]
}

fn default(gateway: IpAddr, table: Option<u32>) -> Route {
    let dst = if gateway.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
    Route { dst: dst.to_owned(), gateway: Some(gateway.to_string()), flags: Some(onlink()), table, ..Route::default() }
}

fn of_hosts(routes: &[HostRoute], table: Option<u32>) -> impl Iterator<Item = Route> + '_ {
    routes.iter().map(move |h| Route {
        dst: h.destination.to_string(),
        gateway: Some(h.nexthop.to_string()),
        flags: Some(onlink()),
        table,
        ..Route::default()
    })
}

/// LVS needs its packets masqueraded on every NIC, in each family there is. The firewall of a virtual function lets in
/// what is tracked, on all NICs: then TCP stays tracked on the others as well, or a member's answers were dropped.
pub(crate) fn masquerades(desired: &Desired) -> BTreeSet<Masquerade> {
    let filtered = firewall::is_wanted(desired);
    let of_vips = desired.plugs.values().flat_map(|p| vip_masquerades(p, desired.networks.get(&p.mac)));
    let vips: BTreeSet<_> = desired.plugs.values().map(|p| p.mac).collect();
    let ports = desired.networks.values().filter(|n| !vips.contains(&n.mac));
    let all = of_vips.chain(ports.flat_map(port_masquerades));
    all.map(|m| Masquerade { sriov: m.sriov || filtered, ..m }).collect()
}

fn vip_masquerades(plug: &Plug, members: Option<&NetworkPlug>) -> BTreeSet<Masquerade> {
    let ips = plug.vips.iter().map(|v| v.ip).chain(members.into_iter().flat_map(|m| &m.fixed_ips).map(|f| f.ip));
    masquerade(ips.map(family), &plug.interface, plug.is_sriov || members.is_some_and(|m| m.is_sriov))
}

fn port_masquerades(network: &NetworkPlug) -> BTreeSet<Masquerade> {
    let families: BTreeSet<_> = network.fixed_ips.iter().map(|f| family(f.ip)).collect();
    // One that gets its addresses from the network may get some of either.
    let families = if families.is_empty() { [Family::Ipv4, Family::Ipv6].into() } else { families };
    masquerade(families.into_iter(), &network.interface, network.is_sriov)
}

fn masquerade(families: impl Iterator<Item = Family>, interface: &IfName, sriov: bool) -> BTreeSet<Masquerade> {
    families.map(|family| Masquerade { family, interface: interface.clone(), sriov }).collect()
}

fn family(ip: IpAddr) -> Family {
    if ip.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 }
}

/// The same as commands of Octavia's image.
fn scripts(masquerades: &BTreeSet<Masquerade>) -> Scripts {
    let script = |action: &'static str| {
        let command = move |m: &Masquerade| {
            let sriov = if m.sriov { " sriov" } else { "" };
            format!("/usr/local/bin/lvs-masquerade.sh {action} {} {}{sriov}", m.family.name(), m.interface)
        };
        masquerades.iter().map(move |m| Script { command: command(m) })
    };
    Scripts { up: script("add").collect(), down: script("delete").collect() }
}

/// Python's `ipaddress.exploded`.
pub(crate) fn exploded(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => v6.segments().map(|s| format!("{s:04x}")).join(":"),
    }
}

fn exploded_net(net: IpNet) -> String {
    format!("{}/{}", exploded(net.network()), net.prefix_len())
}
