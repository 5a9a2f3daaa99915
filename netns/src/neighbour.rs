//! Neighbours: having the kernel ask for a gateway's MAC before the first packet needs it.

use std::net::IpAddr;

use rtnetlink::{
    packet_core::{NLM_F_CREATE, NLM_F_REPLACE},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage},
        route::RouteType,
    },
};

use crate::{Network, Result};

impl Network {
    /// Has the kernel resolve `ip` on the link, unless it knows it (`NTF_USE`, as a packet would). Does not wait for
    /// the answer.
    ///
    /// Without this the first replies to clients wait for the gateway's MAC, and a router that does ECMP over nexthop
    /// objects passes over a next hop it has not resolved, so that a flow may move (`nexthop_select_path`). IPv6 sends
    /// nothing while the link-local address is tentative.
    pub async fn resolve(&self, index: u32, ip: IpAddr) -> Result<()> {
        let mut message = NeighbourMessage::default();
        message.header.family = if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        message.header.ifindex = index;
        message.header.flags = NeighbourFlags::Use;
        message.header.kind = RouteType::Unicast;
        let address = match ip {
            IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
            IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
        };
        message.attributes.push(NeighbourAttribute::Destination(address));
        let sent = self.change(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE).await;
        sent.map_err(|refusal| refusal.of("resolve neighbour", format!("{ip} on link {index}")))
    }
}
