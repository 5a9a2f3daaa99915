//! What a registration means for the state held: pure functions, run by the owner.

use std::net::IpAddr;

use bgp::PeerId;

use crate::{
    owner::{Decision, Refusal},
    resolve::{Policy, is_self},
    state::{Change, Desired, Registration, Server, VipMode},
};

/// Which registrations an unregistration is for; what is left out matches all.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    /// This amphora's, or those of end points.
    pub(super) server: Server,
    pub(super) vip: Option<IpAddr>,
    pub(super) nexthop: Option<IpAddr>,
    pub(super) peer: Option<PeerId>,
}

impl Filter {
    /// Whether it is for this registration. One for all peers is matched by the name of any.
    pub(super) fn matches(&self, r: &Registration) -> bool {
        r.server == self.server
            && self.vip.is_none_or(|vip| r.vip.address() == vip)
            && self.nexthop.is_none_or(|hop| r.nexthop.address() == hop)
            && (self.peer.is_none() || r.peer.is_none() || r.peer == self.peer)
    }
}

/// Takes a registration unless it contradicts what is held (invariant 8) or what is plugged.
pub(super) fn register(wanted: &Registration, desired: &Desired, policy: &Policy) -> Decision<Refusal> {
    match desired.registrations.get(&wanted.vip) {
        Some(held) if held == wanted => return Ok(vec![]),
        Some(held) if held.nexthop != wanted.nexthop || held.server != wanted.server => return Err(taken(held)),
        _ => contradicts_plugs(wanted, desired, policy)?,
    }
    Ok(vec![Change::Register(wanted.clone())])
}

fn taken(held: &Registration) -> Refusal {
    let (who, path) = match &held.server {
        Server::Amphora(id) => {
            (format!("amphora_id {id}"), format!("/1.0/distributor/amphorae/{id}?vip_ip={}", held.vip.address()))
        }
        Server::EndPoint => ("an end point".to_owned(), format!("/1.0/distributor/vips/{}", held.vip.address())),
    };
    Refusal::conflict(
        format!("vip_ip {} is registered already", held.vip.address()),
        format!(
            "for {who} with nexthop_ip {}; one speaker announces one next hop per VIP. DELETE {path} first, \
             or register it with another amphora's speaker",
            held.nexthop
        ),
    )
}

fn contradicts_plugs(wanted: &Registration, desired: &Desired, policy: &Policy) -> Result<(), Refusal> {
    let (vip, nexthop) = (wanted.vip.address(), wanted.nexthop.address());
    let refuse = |message: String, details: String| Err(Refusal::conflict(message, details));
    let ours = desired.plugs.values().find(|p| p.frontends.iter().any(|f| f.ip == nexthop));
    let here = desired.plug_of(vip);
    if here.is_none() && ours.is_none() {
        return Ok(());
    }
    match &wanted.server {
        Server::EndPoint => {
            return refuse(
                format!("vip_ip {vip} with nexthop_ip {nexthop} is this amphora's"),
                "register it with POST /1.0/distributor/amphorae".to_owned(),
            );
        }
        Server::Amphora(id) if policy.amphora_id.is_some() && !is_self(&wanted.server, policy) => {
            return refuse(
                format!("amphora_id {id} contradicts vip_ip {vip} with nexthop_ip {nexthop}, which are this amphora's"),
                format!("this amphora is {}", policy.amphora_id.as_deref().unwrap_or_default()),
            );
        }
        Server::Amphora(_) => {}
    }
    let Some(plug) = here else { return Ok(()) };
    if plug.mode != VipMode::Anycast {
        return refuse(
            format!("vip_ip {vip} is plugged with a vip_mode that is never announced"),
            "DELETE the plug and POST it again with \"vip_mode\": \"anycast\"".to_owned(),
        );
    }
    // A family without a static address has one the kernel will find; that one is judged when it is there.
    let mut same_family = plug.frontends.iter().filter(|f| f.ip.is_ipv4() == nexthop.is_ipv4()).peekable();
    if same_family.peek().is_some() && !same_family.any(|f| f.ip == nexthop) {
        let own: Vec<_> = plug.frontends.iter().map(|f| f.ip.to_string()).collect();
        return refuse(
            format!("nexthop_ip {nexthop} is not a front-end IP of vip_ip {vip}"),
            format!("its NIC has {}", own.join(", ")),
        );
    }
    Ok(())
}

/// Forgets every registration `filter` matches.
pub(super) fn unregister(filter: &Filter, desired: &Desired) -> Decision<Refusal> {
    let mut changes = Vec::new();
    for registration in desired.registrations.values().filter(|r| filter.matches(r)) {
        if let (Some(peer), None) = (&filter.peer, &registration.peer) {
            return Err(Refusal::conflict(
                format!("vip_ip {} is registered for all peers, not for peer_id {peer}", registration.vip.address()),
                "leave peer_id out to unregister it from all, or register it again with the one peer_id to keep"
                    .to_owned(),
            ));
        }
        changes.push(Change::Unregister(registration.vip));
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use bgp::NextHop;

    use super::*;
    use crate::state::{Frontend, Plug, Vip};

    fn registration(id: &str, vip: &str, hop: &str, peer: Option<&str>) -> Registration {
        Registration {
            vip: vip.parse::<IpAddr>().unwrap().try_into().unwrap(),
            nexthop: NextHop::try_from(hop.parse::<IpAddr>().unwrap()).unwrap(),
            server: Server::Amphora(id.to_owned()),
            peer: peer.map(|p| p.parse().unwrap()),
        }
    }

    fn policy() -> Policy {
        Policy { amphora_id: Some("me".into()), ..Policy::default() }
    }

    fn plugged(mode: VipMode) -> Desired {
        let vip: IpAddr = "203.0.113.7".parse().unwrap();
        let plug = Plug {
            mac: "fa:16:3e:00:00:01".parse().unwrap(),
            interface: "eth1".parse().unwrap(),
            mode,
            vips: vec![Vip { ip: vip, subnet: "192.0.2.0/24".parse().unwrap(), gateway: None, host_routes: vec![] }],
            frontends: vec![Frontend {
                ip: "192.0.2.10".parse().unwrap(),
                subnet: "192.0.2.0/24".parse().unwrap(),
                gateway: None,
            }],
            mtu: None,
            is_sriov: false,
            keepalived: Some(false),
            acknowledged: true,
        };
        Desired { plugs: [(vip, plug)].into(), ..Desired::default() }
    }

    fn holding(r: &Registration) -> Desired {
        Desired { registrations: [(r.vip, r.clone())].into(), ..Desired::default() }
    }

    #[test]
    fn another_next_hop_or_amphora_for_a_held_vip_is_refused_and_names_the_one_held() {
        let held = registration("a", "203.0.113.7", "192.0.2.10", None);
        let desired = holding(&held);
        assert_eq!(register(&held, &desired, &policy()).unwrap(), []);
        for other in
            [registration("a", "203.0.113.7", "192.0.2.11", None), registration("b", "203.0.113.7", "192.0.2.10", None)]
        {
            let refusal = register(&other, &desired, &policy()).unwrap_err();
            assert!(refusal.details.contains("amphora_id a with nexthop_ip 192.0.2.10"), "{refusal}");
        }
    }

    #[test]
    fn registering_for_another_peer_moves_it() {
        let desired = holding(&registration("a", "203.0.113.7", "192.0.2.10", Some("tor-a")));
        let moved = registration("a", "203.0.113.7", "192.0.2.10", Some("tor-b"));
        assert_eq!(register(&moved, &desired, &policy()).unwrap(), [Change::Register(moved)]);
    }

    #[test]
    fn a_registration_that_contradicts_a_plug_is_refused() {
        let anycast = plugged(VipMode::Anycast);
        let mine = registration("me", "203.0.113.7", "192.0.2.10", None);
        assert_eq!(register(&mine, &anycast, &policy()).unwrap().len(), 1);
        let refused = |r: &Registration, d: &Desired, words: &str| {
            let refusal = register(r, d, &policy()).unwrap_err();
            assert!(refusal.message.contains(words), "{refusal}");
        };
        refused(&registration("me", "203.0.113.7", "192.0.2.11", None), &anycast, "nexthop_ip 192.0.2.11");
        refused(&registration("other", "203.0.113.7", "192.0.2.10", None), &anycast, "amphora_id other");
        refused(&registration("other", "203.0.113.8", "192.0.2.10", None), &anycast, "amphora_id other");
        refused(&mine, &plugged(VipMode::Noarp), "vip_mode");
        refused(&mine, &plugged(VipMode::Interface), "vip_mode");
        refused(&Registration { server: Server::EndPoint, ..mine }, &anycast, "this amphora's");
    }

    #[test]
    fn what_an_unregistration_leaves_out_matches_all() {
        let mut desired = holding(&registration("a", "203.0.113.7", "192.0.2.10", Some("tor-a")));
        let second = registration("a", "203.0.113.8", "192.0.2.10", None);
        desired.registrations.insert(second.vip, second.clone());
        let all = Filter { server: Server::Amphora("a".into()), vip: None, nexthop: None, peer: None };
        assert_eq!(unregister(&all, &desired).unwrap().len(), 2);
        let other = Filter { server: Server::Amphora("b".into()), ..all.clone() };
        assert_eq!(unregister(&other, &desired).unwrap(), []);
        let one = Filter { vip: Some(second.vip.address()), ..all.clone() };
        assert_eq!(unregister(&one, &desired).unwrap(), [Change::Unregister(second.vip)]);
        let peer =
            Filter { peer: Some("tor-b".parse().unwrap()), vip: Some("203.0.113.7".parse().unwrap()), ..all.clone() };
        assert_eq!(unregister(&peer, &desired).unwrap(), []);
        // Taking one peer from "all" is not something a registration can say.
        let refusal = unregister(&Filter { peer: Some("tor-b".parse().unwrap()), ..one }, &desired).unwrap_err();
        assert!(refusal.details.contains("leave peer_id out"), "{refusal}");
    }
}
