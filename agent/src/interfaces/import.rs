//! Taking over from a Python agent: its files, as the plugs it was asked for.
//!
//! Done once, by an agent that has no state of its own. What is plugged is taken for acknowledged; nothing on the wire
//! changes, for what the files say is what the kernel holds.

use std::{collections::BTreeMap, io, net::IpAddr};

use ipnet::IpNet;
use netns::{IfName, Mac};

use super::{
    PLUGGED, RULES, directory,
    file::{Interface, Kind, Route},
    name,
};
use crate::{
    config::Paths,
    files::{Directory, Name},
    firewall,
    state::{Change, Firewall, FixedIp, Frontend, HostRoute, NetworkPlug, Plug, Vip, VipMode},
};

/// Reads what a Python agent left: nothing where there was none. `there` are the MACs of the NICs there are. A file that
/// makes no sense is logged and left where it is.
pub fn read(paths: &Paths, there: &[Mac]) -> io::Result<Vec<Change>> {
    let (Some(base), Some(interfaces)) = (Directory::open(&paths.base)?, Directory::open(&directory(paths))?) else {
        return Ok(Vec::new());
    };
    let lo = interfaces.read(&name("lo.json"))?.and_then(|text| Interface::from_json(&text).ok());
    let routed: Vec<_> = lo.iter().flat_map(|lo| &lo.addresses).filter_map(ip).collect();
    let mut changes = Vec::new();
    for (interface, mac) in plugged(&base.read(&name(PLUGGED))?.unwrap_or_default(), there) {
        let Some(file) = Name::new(&format!("{interface}.json")) else { continue };
        let parsed = match interfaces.read(&file)?.map(|text| Interface::from_json(&text)) {
            Some(Ok(parsed)) => parsed,
            Some(Err(error)) => {
                tracing::error!(%error, %file, "left by another agent and not readable; plug the NIC anew");
                continue;
            }
            None => continue,
        };
        match parsed.if_type {
            Kind::Vip
                if parsed
                    .addresses
                    .iter()
                    .any(|a| a.octavia_owned == Some(false) && ip(a).is_some_and(|ip| routed.contains(&ip))) =>
            {
                // Its file is this agent's, and the state with it is gone: on the NIC it would answer ARP.
                tracing::error!(%interface, "its VIP was a routed one; plug it anew");
            }
            Kind::Vip => changes.extend(vip(&parsed, &interface, mac)),
            Kind::Backend => changes.push(network(&parsed, interface.clone(), mac, fixed_ips(&parsed, 0))),
            Kind::Lo | Kind::Other => {}
        }
        let rules = if parsed.is_sriov && parsed.if_type == Kind::Vip { base.read(&name(RULES))? } else { None };
        let rules = rules.map(|text| firewall::read(&String::from_utf8_lossy(&text))).filter(|r| !r.is_empty());
        changes.extend(rules.map(|rules| Change::Firewall(Firewall { interface: interface.clone(), rules })));
    }
    Ok(changes)
}

fn ip(address: &super::file::Address) -> Option<IpAddr> {
    address.address.as_deref()?.parse().ok()
}

/// The lines `mac ethN`. Of several for one name, the NIC that is there is meant, or else the last.
fn plugged(text: &[u8], there: &[Mac]) -> BTreeMap<IfName, Mac> {
    let mut found: BTreeMap<IfName, Mac> = BTreeMap::new();
    for line in String::from_utf8_lossy(text).lines() {
        let mut words = line.split_whitespace();
        let mac = words.next().and_then(|w| w.parse::<Mac>().ok());
        let (Some(mac), Some(interface)) = (mac, words.next().and_then(|w| w.parse::<IfName>().ok())) else { continue };
        if found.get(&interface).is_none_or(|before| !there.contains(before) || there.contains(&mac)) {
            found.insert(interface, mac);
        }
    }
    found
}

/// The plug of a VIP, and the members' part of the same NIC. Upstream writes the addresses in the order front-end, VIPs,
/// members, and the routes of each VIP after one another.
fn vip(file: &Interface, interface: &IfName, mac: Mac) -> Vec<Change> {
    let of_vip = |a: &super::file::Address| a.octavia_owned.is_some();
    let (Some(first), Some(last)) = (file.addresses.iter().position(of_vip), file.addresses.iter().rposition(of_vip))
    else {
        tracing::error!(%interface, "left by another agent as the VIP's, without one; plug the VIP anew");
        return Vec::new();
    };
    let mut subnets = Vec::new();
    let mut gateway = None;
    for route in file.routes.iter().filter(|r| r.table.is_none()) {
        let Some(destination) = net(&route.dst) else { continue };
        match (&route.scope, via(route)) {
            (Some(_), None) => subnets.push((destination, gateway.take())),
            // It stands before its subnet.
            (None, Some(ip)) if destination.prefix_len() == 0 => gateway = Some(ip),
            _ => {}
        }
    }
    let mut left = subnets.clone();
    let addresses = file.addresses[first..=last].iter().filter_map(|a| a.address.as_deref()?.parse::<IpAddr>().ok());
    let vips: Vec<Vip> = addresses
        .map(|ip| {
            let at = left.iter().position(|(subnet, _)| subnet.contains(&ip));
            let (subnet, gateway) = at.map_or((IpNet::from(ip), None), |at| left.remove(at));
            let of_family =
                |r: &HostRoute| r.destination.addr().is_ipv4() == ip.is_ipv4() && subnet.contains(&r.nexthop);
            let host_routes = host_routes(file, true).into_iter().filter(of_family).collect();
            Vip { ip, subnet, gateway, host_routes }
        })
        .collect();
    if vips.is_empty() {
        return Vec::new();
    }
    let own = file.addresses[..first]
        .iter()
        .filter_map(|a| IpNet::new(a.address.as_deref()?.parse().ok()?, a.prefixlen?).ok());
    let frontends = own.map(|net| {
        let gateway = vips.iter().find(|v| v.subnet == net.trunc()).and_then(|v| v.gateway);
        Frontend { ip: net.addr(), subnet: net.trunc(), gateway }
    });
    let plug = Plug {
        mac,
        interface: interface.clone(),
        mode: VipMode::Interface,
        frontends: frontends.collect(),
        vips,
        mtu: file.mtu,
        is_sriov: file.is_sriov,
        keepalived: Some(file.addresses[first].octavia_owned == Some(false)),
        acknowledged: true,
    };
    let fixed_ips = fixed_ips(file, last + 1);
    let members = (!fixed_ips.is_empty()).then(|| network(file, interface.clone(), mac, fixed_ips));
    std::iter::once(Change::Plug(Box::new(plug))).chain(members).collect()
}

fn network(file: &Interface, interface: IfName, mac: Mac, fixed_ips: Vec<FixedIp>) -> Change {
    let (mtu, is_sriov) = (file.mtu, file.is_sriov);
    Change::PlugNetwork(Box::new(NetworkPlug { mac, interface, fixed_ips, mtu, is_sriov, acknowledged: true }))
}

/// The addresses of members, from the one at `from` on. A default route and a host route belong to the subnet that has
/// their next hop.
fn fixed_ips(file: &Interface, from: usize) -> Vec<FixedIp> {
    let mut routes = host_routes(file, false);
    let addresses = file.addresses.iter().skip(from);
    let nets = addresses.filter_map(|a| IpNet::new(a.address.as_deref()?.parse().ok()?, a.prefixlen?).ok());
    nets.map(|net| {
        let gateways = file.routes.iter().filter(|r| r.table.is_none() && net_is_default(r)).filter_map(via);
        let gateway = gateways.into_iter().find(|ip| net.contains(ip));
        let host_routes = routes.extract_if(.., |r| net.contains(&r.nexthop)).collect();
        FixedIp { ip: net.addr(), subnet: net.trunc(), gateway, host_routes }
    })
    .collect()
}

/// The host routes of the main table: those of VIPs, which upstream has in the VIP's table too, or the others.
fn host_routes(file: &Interface, of_vips: bool) -> Vec<HostRoute> {
    let main = file.routes.iter().filter(|r| r.table.is_none() && !net_is_default(r));
    let mine = main.filter(|r| in_own_table(r, file) == of_vips);
    let mut routes = Vec::new();
    for route in mine.filter_map(|r| Some(HostRoute { destination: net(&r.dst)?, nexthop: via(r)? })) {
        if !routes.contains(&route) {
            routes.push(route);
        }
    }
    routes
}

fn in_own_table(route: &Route, file: &Interface) -> bool {
    file.routes.iter().any(|r| r.table.is_some() && r.dst == route.dst && r.gateway == route.gateway)
}

fn net_is_default(route: &Route) -> bool {
    net(&route.dst).is_some_and(|n| n.prefix_len() == 0)
}

fn net(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>().ok().map(|n| n.trunc())
}

fn via(route: &Route) -> Option<IpAddr> {
    route.gateway.as_deref()?.parse().ok()
}
