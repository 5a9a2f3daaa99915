//! What no gate says of a VIP that is announced as it should be: who still will not reach it, or not evenly, and who was not
//! asked.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{
    api::App,
    speaker::PeerView,
    state::{Plug, VipMode},
};

/// The notes on a VIP.
pub(super) async fn of(app: &App, vip: IpAddr, plug: Option<&Plug>) -> Vec<String> {
    let mut notes: Vec<_> = plug.and_then(|plug| inside_subnet(vip, plug)).into_iter().collect();
    if app.policy.distributor {
        notes.push("role = distributor: the registration alone counts, and no load balancer here is judged".to_owned());
    }
    let local_as = app.running.current().bgp.as_ref().map(|bgp| bgp.local_as);
    if let (Some(speaker), Some(local_as)) = (&app.speaker, local_as) {
        notes.extend(without_add_path(&speaker.peers_uncounted().await, local_as.get()));
    }
    notes
}

/// What is to be said of the peers that may keep others from hearing of more than one amphora.
pub(super) fn without_add_path(peers: &[PeerView], local_as: u32) -> impl Iterator<Item = String> {
    peers.iter().filter(move |peer| peer.keeps_paths_back(local_as)).map(|peer| {
        format!(
            "peer {} is of our AS and offers to send no ADD-PATH: if it is a route reflector, it passes on the route of one \
             amphora only, and there is no ECMP behind it; turn ADD-PATH on there, or peer with the ToRs",
            peer.id()
        )
    })
}

/// A VIP in the subnet of its front-end IPs, as the stock controller always has it: nobody answers ARP or NDP for it.
fn inside_subnet(vip: IpAddr, plug: &Plug) -> Option<String> {
    let named = plug.vips.iter().map(|v| v.subnet).chain(plug.frontends.iter().map(|f| f.subnet));
    let inside: IpNet = named.filter(|_| plug.mode == VipMode::Anycast).find(|subnet| subnet.contains(&vip))?;
    let asks = if vip.is_ipv4() { "ARP" } else { "neighbour discovery" };
    Some(format!(
        "{vip} is inside the front-end subnet {inside}: hosts of that subnet, and floating IPs of a Neutron router on it, \
         ask for it by {asks} and get no answer; it is reached through a router that has the BGP route"
    ))
}
