//! From what was asked for to what the kernel and the speaker shall hold: a pure function.
//!
//! Registrations and plugs arrive in any order and parts of the world come late (a NIC, a SLAAC address,
//! the end of duplicate address detection), so every gate between a registration and its announcement is
//! judged here each time, and each closed gate says why in words an operator can act on.

mod drain;
mod own;
mod registered;

pub use drain::closed as drained;
pub use own::{Announcements, own, routed};
pub use registered::announced;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use bgp::{Attributes, Family, PeerId};
use ipnet::IpNet;
use netns::Mac;

use crate::{
    config::{Announce, Config, Role, Topology, VipConfig},
    firewall,
    plan::{Address, Device, Path, RouteKey, Rule, Want, WantNic},
    state::{Change, Desired, Frontend, HostRoute, NetworkPlug, Plug, Server, VipMode},
};

/// The table replies from the VIPs of a plug are routed by: 1 for `eth1`, as in Octavia, and N for `ethN`, so that the
/// replies of each leave by its own NIC.
#[must_use]
pub fn table_of(plug: &Plug) -> u32 {
    let number = plug.interface.as_str().trim_start_matches(|c: char| !c.is_ascii_digit()).parse();
    number.ok().filter(|n| (1..MAIN_TABLE - 1).contains(n)).unwrap_or(1)
}

/// The kernel's main table (`RT_TABLE_MAIN`).
pub const MAIN_TABLE: u32 = 254;

/// What the configuration says about plugs and announcements.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// This amphora's id, when it was told.
    pub amphora_id: Option<String>,
    /// `role = distributor`: it announces for others.
    pub distributor: bool,
    /// `announce = listener`: own VIPs need no registration, and are announced only while their gates are open.
    pub gated: bool,
    /// `loadbalancer_topology = ACTIVE_STANDBY`: in `interface` mode keepalived holds the VIPs that are plugged now.
    pub active_standby: bool,
    /// Only VIPs inside these are announced.
    pub allowed_prefixes: Vec<IpNet>,
    /// Only next hops inside these; the front-end subnets when absent.
    pub allowed_nexthops: Option<Vec<IpNet>>,
    /// The peers there are.
    pub peers: Vec<PeerId>,
    /// What the VIPs of some prefixes are announced with.
    pub vips: Vec<VipConfig>,
}

impl Policy {
    /// What a configuration says.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let distributor = &config.distributor;
        Self {
            amphora_id: config.amphora_id.clone(),
            distributor: distributor.role == Role::Distributor,
            gated: distributor.announce == Announce::Listener
                && distributor.role == Role::Amphora
                && config.bgp.is_some(),
            active_standby: config.topology == Topology::ActiveStandby,
            allowed_prefixes: distributor.allowed_prefixes.clone(),
            allowed_nexthops: Some(distributor.allowed_nexthops.clone()).filter(|n| !n.is_empty()),
            peers: config.bgp.iter().flat_map(|b| &b.peers).map(|p| p.peer.id.clone()).collect(),
            vips: config.bgp.iter().flat_map(|b| b.vips.clone()).collect(),
        }
    }

    /// What a VIP is announced with: the longest prefix that contains it decides.
    fn attributes(&self, vip: IpAddr) -> Attributes {
        let containing = self.vips.iter().filter(|config| config.prefix.contains(&vip));
        let longest = containing.max_by_key(|config| config.prefix.prefix_len());
        longest.map(|config| config.attributes.clone()).unwrap_or_default()
    }
}

/// Whether keepalived holds the VIPs of a plug in `interface` mode. What was said when it was plugged counts: the stock
/// controller's `amphora configure` renders the topology from its own default, not from the load balancer, and would
/// take the VIP off an amphora that serves, or put it on both of a pair.
#[must_use]
pub fn by_keepalived(plug: &Plug, policy: &Policy) -> bool {
    plug.keepalived.unwrap_or(policy.active_standby)
}

/// Whether this amphora is one of a pair that keepalived chooses from: as its VIPs were plugged, or else will be.
#[must_use]
pub fn active_standby(desired: &Desired, policy: &Policy) -> bool {
    desired.plugs.values().next().map_or(policy.active_standby, |plug| by_keepalived(plug, policy))
}

/// The plugs of an older release's state, with what the configuration says where they say nothing.
#[must_use]
pub fn completed(desired: &Desired, policy: &Policy) -> Vec<Change> {
    let unsaid = desired.plugs.values().filter(|p| p.keepalived.is_none());
    unsaid.map(|p| Change::Plug(Box::new(Plug { keepalived: Some(policy.active_standby), ..p.clone() }))).collect()
}

/// An address the kernel holds on a NIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NicAddress {
    /// The address and its prefix length.
    pub net: IpNet,
    /// We added it.
    pub ours: bool,
    /// Duplicate address detection is not over (IPv6).
    pub tentative: bool,
    /// Duplicate address detection found another holder (IPv6).
    pub duplicate: bool,
}

impl NicAddress {
    fn is_link_local(&self) -> bool {
        match self.net.addr() {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        }
    }
}

/// What the kernel knows that nobody told us: the addresses of each NIC inside the namespace, link-local ones too.
pub type Facts = BTreeMap<Mac, Vec<NicAddress>>;

/// Why a registration is not announced.
pub type Closed = String;

/// The front-end addresses of a plug: those of the call, and for a family it names none of, the only
/// global address the NIC got by itself (SLAAC, DHCP).
#[must_use]
pub fn frontends(plug: &Plug, facts: &Facts) -> Vec<Frontend> {
    let mut all = plug.frontends.clone();
    for family in [Family::Ipv4, Family::Ipv6] {
        if all.iter().any(|f| Family::of(f.ip) == family) {
            continue;
        }
        let Some(vip) = plug.vips.iter().find(|v| Family::of(v.ip) == family) else { continue };
        let held = facts.get(&plug.mac).into_iter().flatten();
        let mut held = held.filter(|a| {
            !a.ours && !a.is_link_local() && Family::of(a.net.addr()) == family && !plug.has_vip(a.net.addr())
        });
        if let (Some(only), None) = (held.next(), held.next()) {
            all.push(Frontend { ip: only.net.addr(), subnet: only.net.trunc(), gateway: vip.gateway });
        }
    }
    all
}

/// The gateways an amphora must know the MAC of before clients come, with the NIC they are behind.
#[must_use]
pub fn gateways(desired: &Desired, facts: &Facts) -> Vec<(Mac, IpAddr)> {
    let of = |plug: &Plug| {
        frontends(plug, facts).into_iter().filter_map(|f| Some((plug.mac, f.gateway?))).collect::<Vec<_>>()
    };
    desired.plugs.values().filter(|p| p.mode == VipMode::Anycast).flat_map(of).collect()
}

/// What the kernel shall hold, for every plug.
#[must_use]
pub fn kernel(desired: &Desired, facts: &Facts, policy: &Policy) -> Want {
    let mut want = Want::default();
    // By NIC, so that what there can be only one of (the default of `main`) stays with the first.
    let mut plugs: Vec<_> = desired.plugs.values().collect();
    plugs.sort_by_key(|p| (table_of(p), p.mac));
    for plug in plugs {
        let autoconf = autoconf(plug);
        want.nics.insert(plug.mac, WantNic { name: plug.interface.clone(), mtu: plug.mtu, autoconf });
        let nic = Device::Nic(plug.mac);
        let own = plug.frontends.iter();
        want.addresses.extend(own.map(|f| Address { device: nic, ip: f.ip, length: f.subnet.prefix_len() }));
        match plug.mode {
            VipMode::Interface => on_nic(plug, policy, &mut want),
            VipMode::Anycast | VipMode::Noarp => on_lo(plug, desired, facts, &mut want),
        }
    }
    let mut networks: Vec<_> = desired.networks.values().collect();
    networks.sort_by_key(|n| (&n.interface, n.mac));
    for network in networks {
        on_port(network, desired.plug_on(network.mac), policy, &mut want);
    }
    want.filter = firewall::ruleset(desired);
    want
}

/// Whether the NIC of a VIP is to take its IPv6 address from router advertisements: where the call names none, as
/// upstream has it; in the routed modes also for a family that only the additional VIPs bring.
#[must_use]
pub fn autoconf(plug: &Plug) -> bool {
    let named = |f: &Frontend| plug.mode == VipMode::Interface || f.ip.is_ipv6();
    plug.vips.iter().any(|v| v.ip.is_ipv6()) && !plug.frontends.iter().any(named)
}

/// Whether the NIC of a VIP is to get its IPv4 address by DHCP: where the call names none at all.
#[must_use]
pub fn dhcp(plug: &Plug) -> bool {
    plug.vips.iter().any(|v| v.ip.is_ipv4()) && plug.frontends.is_empty()
}

/// A member network: addresses and the routes of its subnets. Its gateways only on the VIP's own NIC `shared`, as
/// upstream has it.
fn on_port(network: &NetworkPlug, shared: Option<&Plug>, policy: &Policy, want: &mut Want) {
    let autoconf = network.fixed_ips.is_empty();
    let new = WantNic { name: network.interface.clone(), mtu: None, autoconf: false };
    let nic = want.nics.entry(network.mac).or_insert(new);
    nic.mtu = network.mtu.or(nic.mtu);
    nic.autoconf |= autoconf;
    let path = Path { nic: network.mac, gateway: None, source: None };
    for fixed in &network.fixed_ips {
        let device = Device::Nic(network.mac);
        want.addresses.insert(Address { device, ip: fixed.ip, length: fixed.subnet.prefix_len() });
        host_routes(want, MAIN_TABLE, &fixed.host_routes, path);
        let (Some(plug), Some(_)) = (shared, fixed.gateway) else { continue };
        let via = Path { gateway: fixed.gateway, ..path };
        route(want, MAIN_TABLE, default_of(fixed.ip), via);
        if plug.mode == VipMode::Interface && !by_keepalived(plug, policy) {
            route(want, table_of(plug), default_of(fixed.ip), via);
        }
    }
}

/// What a tenant asked for; the first to ask for a destination in a table gets it.
fn host_routes(want: &mut Want, table: u32, routes: &[HostRoute], path: Path) {
    for h in routes {
        let key = RouteKey { table, destination: h.destination };
        want.host_routes.entry(key).or_insert(Path { gateway: Some(h.nexthop), ..path });
    }
}

/// The VIP as Octavia plugs it: on the NIC. Under `ACTIVE_STANDBY` keepalived adds it, with its routes.
fn on_nic(plug: &Plug, policy: &Policy, want: &mut Want) {
    let path = Path { nic: plug.mac, gateway: None, source: None };
    for vip in &plug.vips {
        let mut table = |number, source| {
            // In `main` the kernel has made that route itself, with the NIC's own address.
            if number != MAIN_TABLE || !plug.frontends.iter().any(|f| f.subnet == vip.subnet) {
                route(want, number, vip.subnet, Path { source, ..path });
            }
            if vip.gateway.is_some() {
                route(want, number, default_of(vip.ip), Path { gateway: vip.gateway, ..path });
            }
            host_routes(want, number, &vip.host_routes, path);
        };
        table(MAIN_TABLE, None);
        if !by_keepalived(plug, policy) {
            table(table_of(plug), Some(vip.ip));
            want.rules.insert(Rule { from: vip.ip, table: table_of(plug) });
            let length = Address::vip(vip.ip).length;
            want.addresses.insert(Address { device: Device::Nic(plug.mac), ip: vip.ip, length });
        }
    }
}

/// The VIP on `lo`, its replies by table 1 through the front-end network. The VIP's own subnet is never
/// on-link: the other amphorae of that subnet are reached through the fabric like everybody else. One that is drained is
/// nowhere, and the rest of its plug stays for its return.
fn on_lo(plug: &Plug, desired: &Desired, facts: &Facts, want: &mut Want) {
    want.silent = true;
    for vip in plug.vips.iter().filter(|v| !desired.is_drained(v.ip)) {
        want.addresses.insert(Address::vip(vip.ip));
        want.rules.insert(Rule { from: vip.ip, table: table_of(plug) });
    }
    let path = Path { nic: plug.mac, gateway: None, source: None };
    for frontend in frontends(plug, facts) {
        route(want, table_of(plug), frontend.subnet, path);
        for table in [table_of(plug), MAIN_TABLE] {
            if frontend.gateway.is_some() {
                route(want, table, default_of(frontend.ip), Path { gateway: frontend.gateway, ..path });
            }
            for vip in plug.vips.iter().filter(|v| v.ip.is_ipv4() == frontend.ip.is_ipv4()) {
                host_routes(want, table, &vip.host_routes, path);
            }
        }
    }
}

/// The first to ask for a destination in a table gets it, so that two plugs do not take turns.
fn route(want: &mut Want, table: u32, destination: IpNet, path: Path) {
    want.routes.entry(RouteKey { table, destination: destination.trunc() }).or_insert(path);
}

fn default_of(ip: IpAddr) -> IpNet {
    let any = match ip {
        IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
    };
    IpNet::new(any, 0).expect("zero is a length of either family")
}

/// Whether a registration is for this very amphora. One that was not told its id takes every amphora for itself:
/// else unplugging would turn its own registration into a foreign one, announced with nothing behind it.
#[must_use]
pub fn is_self(server: &Server, policy: &Policy) -> bool {
    match (server, &policy.amphora_id) {
        (Server::Amphora(id), Some(own)) => id == own,
        (Server::Amphora(_), None) => !policy.distributor,
        (Server::EndPoint, _) => false,
    }
}

/// Whether one of `nets` contains `ip`.
#[must_use]
pub fn contains(nets: &[IpNet], ip: IpAddr) -> bool {
    nets.iter().any(|n| n.contains(&ip))
}

#[cfg(test)]
mod tests;
