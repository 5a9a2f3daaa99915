//! The fields of a registration, from text to values that cannot be wrong.

use std::net::IpAddr;

use bgp::{NextHop, PeerId, Prefix};

use crate::{
    api::error::{ApiError, Status},
    resolve::{Policy, contains},
    state::{Registration, Server},
};

fn invalid(field: &str, why: impl std::fmt::Display) -> ApiError {
    ApiError::new(Status::BadRequest, format!("Invalid {field}"), why.to_string())
}

/// An amphora id as Octavia makes them (a UUID), or whatever else is plain enough for a URL.
pub fn server(id: &str) -> Result<(), ApiError> {
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    if id.is_empty() || id.len() > 64 || !id.bytes().all(plain) || id.bytes().all(|c| c == b'.') {
        return Err(invalid("amphora_id", "1 to 64 letters, digits, `-`, `_` or `.`"));
    }
    Ok(())
}

/// `vip_ip`: a host's address.
pub fn vip(text: &str) -> Result<Prefix, ApiError> {
    Prefix::try_from(address("vip_ip", text)?).map_err(|e| invalid("vip_ip", e))
}

/// A registration, each of its fields usable by itself.
pub fn registration(
    server: Server,
    vip: &str,
    nexthop: &str,
    peer: Option<&str>,
    policy: &Policy,
) -> Result<Registration, ApiError> {
    let vip = self::vip(vip)?;
    let nexthop = NextHop::try_from(address("nexthop_ip", nexthop)?).map_err(|e| invalid("nexthop_ip", e))?;
    if vip.address().is_ipv4() != nexthop.address().is_ipv4() {
        return Err(invalid("nexthop_ip", format!("{nexthop} is not of the family of vip_ip {}", vip.address())));
    }
    if vip.address() == nexthop.address() {
        return Err(invalid("nexthop_ip", "it is the VIP itself; give the front-end IP"));
    }
    if !contains(&policy.allowed_prefixes, vip.address()) {
        let why =
            format!("{} is outside [distributor] allowed_prefixes ({})", vip.address(), list(&policy.allowed_prefixes));
        return Err(invalid("vip_ip", why));
    }
    if let Some(allowed) = policy.allowed_nexthops.as_ref().filter(|a| !contains(a, nexthop.address())) {
        let why = format!("{nexthop} is outside [distributor] allowed_nexthops ({})", list(allowed));
        return Err(invalid("nexthop_ip", why));
    }
    let peer = peer.map(|p| p.parse::<PeerId>().map_err(|e| invalid("peer_id", e))).transpose()?;
    if let Some(unknown) = peer.as_ref().filter(|p| !policy.peers.contains(p)) {
        let known: Vec<_> = policy.peers.iter().map(PeerId::as_str).collect();
        return Err(invalid("peer_id", format!("there is no [bgp_peer:{unknown}]; there are {}", known.join(", "))));
    }
    Ok(Registration { vip, nexthop, server, peer })
}

fn address(field: &str, text: &str) -> Result<IpAddr, ApiError> {
    text.parse().map_err(|_| invalid(field, format!("'{text}' does not appear to be an IPv4 or IPv6 address")))
}

fn list(nets: &[ipnet::IpNet]) -> String {
    nets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
