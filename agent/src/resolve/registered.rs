//! Whether a registration is announced: every gate between the two, and why the first closed one is closed.

use std::net::IpAddr;

use bgp::{Announcement, Audience};

use super::{Closed, Facts, NicAddress, Policy, contains, drain, frontends, is_self};
use crate::{
    plan::WantAnnounced,
    state::{Desired, Frontend, Registration, VipMode},
};

/// Whether, and how, a registration is announced; why not otherwise.
pub fn announced(
    registration: &Registration,
    desired: &Desired,
    facts: &Facts,
    policy: &Policy,
) -> Result<WantAnnounced, Closed> {
    let vip = registration.vip.address();
    let nexthop = registration.nexthop.address();
    if !contains(&policy.allowed_prefixes, vip) {
        return Err(format!("{vip} is outside [distributor] allowed_prefixes"));
    }
    let depreferred = drain::gate(registration.vip, desired)?;
    if let Some(peer) = registration.peer.as_ref().filter(|p| !policy.peers.contains(p)) {
        return Err(format!("peer {peer} is not configured any more; add [bgp_peer:{peer}] or register anew"));
    }
    let ours = |f: &Frontend| f.ip == nexthop;
    let every_frontend = || desired.plugs.values().flat_map(|p| frontends(p, facts));
    let allowed = match &policy.allowed_nexthops {
        Some(list) => contains(list, nexthop),
        None => every_frontend().any(|f| f.subnet.contains(&nexthop)),
    };
    let here =
        desired.plug_of(vip).is_some() || is_self(&registration.server, policy) || every_frontend().any(|f| ours(&f));
    if here && desired.silenced {
        return Err("this amphora was silenced by PUT /1.0/vrrp/stop; PUT /1.0/vrrp/start ends it".to_owned());
    }
    if here {
        serves(vip, nexthop, desired, facts)?;
    }
    if !allowed {
        return Err(match policy.allowed_nexthops {
            Some(_) => format!("{nexthop} is outside [distributor] allowed_nexthops"),
            None => format!("{nexthop} is in no front-end subnet of this amphora; set [distributor] allowed_nexthops"),
        });
    }
    let attributes = policy.attributes(vip);
    let attributes = if depreferred { drain::less_preferred(attributes) } else { attributes };
    Ok(WantAnnounced {
        announcement: Announcement {
            prefix: registration.vip,
            next_hop: registration.nexthop,
            audience: match &registration.peer {
                Some(peer) => Audience::Peers([peer.clone()].into()),
                None => Audience::All,
            },
            attributes,
        },
        here,
    })
}

/// Whether this amphora serves `vip` behind `nexthop`, now.
fn serves(vip: IpAddr, nexthop: IpAddr, desired: &Desired, facts: &Facts) -> Result<(), Closed> {
    let Some(plug) = desired.plug_of(vip) else {
        return Err(format!("{vip} is not plugged into this amphora yet; POST /1.0/plug/vip/{vip}"));
    };
    if plug.mode != VipMode::Anycast {
        return Err(format!("{vip} is plugged with another vip_mode than anycast, which is never announced"));
    }
    let frontends = frontends(plug, facts);
    if !frontends.iter().any(|f| f.ip == nexthop) {
        let is: Vec<_> = frontends.iter().map(|f| f.ip.to_string()).collect();
        let is = if is.is_empty() { "it has none".to_owned() } else { is.join(", ") };
        return Err(format!("{nexthop} is not a front-end address of the VIP's NIC ({is})"));
    }
    let on_nic = || facts.get(&plug.mac).into_iter().flatten();
    // For a packet from an address of another interface, such as a VIP on `lo`, the kernel asks for the gateway's MAC from
    // the NIC's link-local address (ndisc_send_ns, net/ipv6/ndisc.c), and not at all while that is tentative: clients'
    // first packets would come and no answer leave.
    let unready = |a: &&NicAddress| vip.is_ipv6() && a.is_link_local() && a.tentative;
    if let Some(a) = on_nic().find(unready) {
        return Err(format!(
            "{} on the front-end NIC is tentative; no reply would leave before it is usable",
            a.net.addr()
        ));
    }
    match on_nic().find(|a| a.net.addr() == nexthop) {
        None => Err(format!("{nexthop} is not on the front-end NIC yet")),
        Some(a) if a.duplicate => Err(format!("{nexthop} is in use by somebody else (duplicate address detection)")),
        Some(a) if a.tentative => Err(format!("{nexthop} is tentative (duplicate address detection is running)")),
        Some(_) => Ok(()),
    }
}
