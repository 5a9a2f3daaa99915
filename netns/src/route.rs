//! Routes in any table but `local`, which is the kernel's own.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use rtnetlink::{
    packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        route::{
            RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
            RouteVia,
        },
    },
};

use crate::{Error, Kind, Network, OURS, Result, network::FAMILIES};

/// `RT_TABLE_LOCAL`: what this namespace itself answers to.
const LOCAL_TABLE: u32 = 255;

/// What IPv6 takes for a metric of zero (`IP6_RT_PRIO_USER`).
const IPV6_METRIC: u32 = 1024;

/// A route as the kernel shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The table it is in.
    pub table: u32,
    /// Where it leads; the default route has length 0.
    pub destination: IpNet,
    /// The lower one wins. With table and destination it is what tells routes apart.
    pub metric: u32,
    /// The next hop; none for what is on the link.
    pub gateway: Option<IpAddr>,
    /// The link's interface index.
    pub device: Option<u32>,
    /// The source address it proposes.
    pub source: Option<IpAddr>,
    /// The gateway counts as reachable though no network of the link holds it.
    pub onlink: bool,
    /// Carries our mark.
    pub ours: bool,
    /// Leads to one next hop, all told by the fields above: not several, not a blackhole, not one for some hosts only.
    pub plain: bool,
}

/// A route to be added, or to be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NewRoute {
    /// The table to put it in, not 0 or 255.
    pub table: u32,
    /// Where it leads; host bits are cut off.
    pub destination: IpNet,
    /// The lower one wins. Zero means 1024 for IPv6, as the kernel has it.
    pub metric: u32,
    /// The next hop, of the destination's family.
    pub gateway: Option<IpAddr>,
    /// The link; may be left out if the gateway's is meant.
    pub device: Option<u32>,
    /// The source address to propose; must be one of this namespace.
    pub source: Option<IpAddr>,
    /// Take the gateway for reachable on the device though no network there holds it.
    pub onlink: bool,
}

impl fmt::Display for NewRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.destination)?;
        describe(f, self.gateway, self.device)?;
        write!(f, " in table {}", self.table)
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.destination)?;
        describe(f, self.gateway, self.device)?;
        if self.plain { Ok(()) } else { f.write_str(" (not a plain one)") }
    }
}

fn describe(f: &mut fmt::Formatter<'_>, gateway: Option<IpAddr>, device: Option<u32>) -> fmt::Result {
    if let Some(gateway) = gateway {
        write!(f, " via {gateway}")?;
    }
    device.map_or(Ok(()), |index| write!(f, " on link {index}"))
}

impl Route {
    /// Whether this is what `wanted` asks for, whoever owns it.
    #[must_use]
    pub fn is(&self, wanted: &NewRoute) -> bool {
        self.has_the_place_of(wanted)
            && self.plain
            && self.gateway == wanted.gateway
            && wanted.device.is_none_or(|index| self.device == Some(index))
            && self.source == wanted.source
            && self.onlink == wanted.onlink
    }

    /// What would add it, or deletes it.
    #[must_use]
    pub fn to_new(&self) -> NewRoute {
        let Self { table, destination, metric, gateway, device, source, onlink, ours: _, plain: _ } = *self;
        NewRoute { table, destination, metric, gateway, device, source, onlink }
    }

    /// Two routes of one place cannot both be there.
    fn has_the_place_of(&self, wanted: &NewRoute) -> bool {
        (self.table, self.destination, self.metric)
            == (wanted.table, wanted.destination.trunc(), wanted.kernel_metric())
    }

    fn parse(message: &RouteMessage) -> Option<Self> {
        let header = &message.header;
        let any: IpAddr = match header.address_family {
            AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
            AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
            _ => return None,
        };
        let mut route = Self {
            table: header.table.into(),
            destination: IpNet::new(any, header.destination_prefix_length).ok()?,
            metric: 0,
            gateway: None,
            device: None,
            source: None,
            onlink: header.flags.contains(RouteFlags::Onlink),
            ours: u8::from(header.protocol) == OURS,
            plain: header.kind == RouteType::Unicast && header.source_prefix_length == 0 && header.tos == 0,
        };
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Table(table) => route.table = *table,
                RouteAttribute::Priority(metric) => route.metric = *metric,
                RouteAttribute::Oif(index) => route.device = Some(*index),
                RouteAttribute::Gateway(address) => route.gateway = ip(address),
                RouteAttribute::Via(RouteVia::Inet6(address)) => route.gateway = Some((*address).into()),
                RouteAttribute::PrefSource(address) => route.source = ip(address),
                RouteAttribute::Destination(address) => {
                    route.destination = IpNet::new(ip(address)?, header.destination_prefix_length).ok()?;
                }
                RouteAttribute::MultiPath(_) | RouteAttribute::NhId(_) | RouteAttribute::Encap(_) => {
                    route.plain = false;
                }
                _ => {}
            }
        }
        Some(route)
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

impl NewRoute {
    fn kernel_metric(&self) -> u32 {
        if self.metric == 0 && self.destination.addr().is_ipv6() { IPV6_METRIC } else { self.metric }
    }

    fn check(&self, operation: &'static str) -> Result<()> {
        let v4 = self.destination.addr().is_ipv4();
        let mixed = self.gateway.iter().chain(&self.source).any(|ip| ip.is_ipv4() != v4);
        let why = if mixed {
            "destination, gateway and source are of two families"
        } else if matches!(self.table, 0 | LOCAL_TABLE) {
            "the tables 0 and 255 are the kernel's"
        } else {
            return Ok(());
        };
        Err(Error::new(operation, self, Kind::Invalid(why)))
    }

    fn message(&self) -> RouteMessage {
        let mut message = RouteMessage::default();
        let destination = self.destination.trunc();
        let v4 = destination.addr().is_ipv4();
        message.header.address_family = if v4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
        message.header.destination_prefix_length = destination.prefix_len();
        message.header.table = u8::try_from(self.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
        message.header.protocol = RouteProtocol::Other(OURS);
        message.header.kind = RouteType::Unicast;
        // IPv4 wants to be told that there is no router between; IPv6 has no such scopes.
        message.header.scope = if v4 && self.gateway.is_none() { RouteScope::Link } else { RouteScope::Universe };
        message.header.flags = if self.onlink { RouteFlags::Onlink } else { RouteFlags::empty() };
        message.attributes.push(RouteAttribute::Table(self.table));
        message.attributes.push(RouteAttribute::Destination(destination.addr().into()));
        message.attributes.extend(self.gateway.map(|ip| RouteAttribute::Gateway(ip.into())));
        message.attributes.extend(self.device.map(RouteAttribute::Oif));
        message.attributes.extend(self.source.map(|ip| RouteAttribute::PrefSource(ip.into())));
        message.attributes.push(RouteAttribute::Priority(self.kernel_metric()));
        message
    }
}

impl Network {
    /// All routes of both families, in every table but `local`.
    pub async fn routes(&self) -> Result<Vec<Route>> {
        let mut all = Vec::new();
        for family in FAMILIES {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            for found in self.dump("list routes of", &RouteNetlinkMessage::GetRoute(message)).await? {
                if let RouteNetlinkMessage::NewRoute(message) = found {
                    all.extend(Route::parse(&message).filter(|route| route.table != LOCAL_TABLE));
                }
            }
        }
        Ok(all)
    }

    /// Adds a route, marked as ours; `false` if it is there, whoever put it there.
    ///
    /// Another one of ours with the same table, destination and metric is replaced in one step; one of another owner is
    /// [`Kind::Conflict`] and stays.
    pub async fn add_route(&self, new: &NewRoute) -> Result<bool> {
        let operation = "add route";
        new.check(operation)?;
        let message = RouteNetlinkMessage::NewRoute(new.message());
        match self.change(message.clone(), NLM_F_CREATE | NLM_F_EXCL).await {
            Ok(()) => return Ok(true),
            Err(refusal) if refusal.kind == Kind::Exists => {}
            Err(refusal) => return Err(refusal.of(operation, new)),
        }
        let there: Vec<Route> = self.routes().await?.into_iter().filter(|r| r.has_the_place_of(new)).collect();
        if there.iter().any(|route| route.is(new)) {
            return Ok(false);
        }
        if let Some(foreign) = there.iter().find(|route| !route.ours) {
            return Err(Error::new(operation, new, Kind::Conflict { there: foreign.to_string(), ours: false }));
        }
        self.change(message, NLM_F_CREATE | NLM_F_REPLACE).await.map_err(|refusal| refusal.of(operation, new))?;
        Ok(true)
    }

    /// Marks a route that somebody else has put there as ours, in one step; `false` if there is none that leads where
    /// `new` does, or it is ours, or something else has the same table, destination and metric, which the kernel could
    /// replace instead.
    pub async fn claim_route(&self, new: &NewRoute) -> Result<bool> {
        let operation = "mark route";
        new.check(operation)?;
        let there: Vec<Route> = self.routes().await?.into_iter().filter(|r| r.has_the_place_of(new)).collect();
        let alike = |r: &Route| r.is(&NewRoute { onlink: r.onlink, ..*new });
        if there.len() != 1 || there.iter().any(|r| r.ours || !alike(r)) {
            return Ok(false);
        }
        let message = RouteNetlinkMessage::NewRoute(new.message());
        self.change(message, NLM_F_REPLACE).await.map_err(|refusal| refusal.of(operation, new))?;
        Ok(true)
    }

    /// Deletes a route of ours; `false` if it is not there. Another owner's is [`Kind::NotOurs`].
    pub async fn delete_route(&self, route: &NewRoute) -> Result<bool> {
        let operation = "delete route";
        route.check(operation)?;
        let there: Vec<Route> = self.routes().await?.into_iter().filter(|r| r.is(route)).collect();
        if there.is_empty() {
            return Ok(false);
        }
        if there.iter().all(|r| !r.ours) {
            return Err(Error::new(operation, route, Kind::NotOurs));
        }
        // The kernel compares the protocol too, so a foreign one put there meanwhile is safe.
        match self.change(RouteNetlinkMessage::DelRoute(route.message()), 0).await {
            Ok(()) => Ok(true),
            Err(refusal) if matches!(refusal.kind, Kind::Missing | Kind::NoDevice) => Ok(false),
            Err(refusal) => Err(refusal.of(operation, route)),
        }
    }
}
