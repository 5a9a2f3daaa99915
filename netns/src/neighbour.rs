//! Neighbours: having the kernel ask for a gateway's MAC before the first packet needs it, and whether it still answers.

use std::net::IpAddr;

use rtnetlink::{
    packet_core::{NLM_F_CREATE, NLM_F_REPLACE},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
        route::RouteType,
    },
};

use crate::{Kind, Network, Result};

impl Network {
    /// Has the kernel resolve `ip` on the link, unless it knows it (`NTF_USE`, as a packet would). Does not wait for
    /// the answer.
    ///
    /// Without this the first replies to clients wait for the gateway's MAC, and a router that does ECMP over nexthop
    /// objects passes over a next hop it has not resolved, so that a flow may move (`nexthop_select_path`). IPv6 sends
    /// nothing while the link-local address is tentative.
    pub async fn resolve(&self, index: u32, ip: IpAddr) -> Result<()> {
        let mut message = message(index, ip);
        message.header.flags = NeighbourFlags::Use;
        let sent = self.change(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE).await;
        sent.map_err(|refusal| refusal.of("resolve neighbour", format!("{ip} on link {index}")))
    }
}

/// What the kernel knows of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbour {
    /// Nothing: it was never asked for, or has been forgotten.
    Unknown,
    /// It is being asked for the first time, or after it failed.
    Asking,
    /// Its MAC is known: it has answered of late, or nobody has had reason to doubt it (`NUD_VALID`).
    Known,
    /// It did not answer (`NUD_FAILED`).
    Failed,
}

impl Network {
    /// What the kernel knows of `ip` on the link.
    pub async fn neighbour(&self, index: u32, ip: IpAddr) -> Result<Neighbour> {
        let mut message = message(index, ip);
        message.header.kind = RouteType::Unspec; // the kernel refuses a question that says more (`neigh_valid_get_req`)
        let answer = match self.get(RouteNetlinkMessage::GetNeighbour(message)).await {
            Ok(answer) => answer,
            Err(refusal) if refusal.kind == Kind::Missing => return Ok(Neighbour::Unknown),
            Err(refusal) => return Err(refusal.of("look at neighbour", format!("{ip} on link {index}"))),
        };
        let states = answer.iter().find_map(|message| match message {
            RouteNetlinkMessage::NewNeighbour(message) => Some(message.header.state),
            _ => None,
        });
        Ok(match states {
            None | Some(NeighbourState::None) => Neighbour::Unknown,
            Some(NeighbourState::Incomplete) => Neighbour::Asking,
            Some(NeighbourState::Failed) => Neighbour::Failed,
            Some(_) => Neighbour::Known,
        })
    }

    /// Has the kernel ask a neighbour whose MAC it knows whether it is still there (`NUD_PROBE`): packets go on to it
    /// meanwhile, and after three questions a second apart without answer it has failed. One whose MAC it does not know
    /// is refused as [`Kind::Missing`].
    pub async fn probe(&self, index: u32, ip: IpAddr) -> Result<()> {
        let mut message = message(index, ip);
        message.header.state = NeighbourState::Probe;
        let sent = self.change(RouteNetlinkMessage::NewNeighbour(message), NLM_F_REPLACE).await;
        sent.map_err(|refusal| refusal.of("probe neighbour", format!("{ip} on link {index}")))
    }
}

fn message(index: u32, ip: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.ifindex = index;
    message.header.kind = RouteType::Unicast;
    let address = match ip {
        IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
        IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
    };
    message.attributes.push(NeighbourAttribute::Destination(address));
    message
}
