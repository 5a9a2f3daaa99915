//! The body of `POST /1.0/plug/vip/{vip}`, from JSON to values that cannot be wrong.
//!
//! The order of the checks is upstream's (`plug.py`), for it decides which of two faults is named.

use std::net::IpAddr;

use bgp::{Family, Prefix};
use ipnet::IpNet;
use netns::Mac;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    api::error::{ApiError, Status},
    resolve::Policy,
    state::{Frontend, HostRoute, Vip, VipMode},
};

/// As the controller sends it. Unknown keys are accepted, as upstream does.
#[derive(Debug, Deserialize, ToSchema)]
pub struct PlugVip {
    /// The VIP's subnet; with `vip_mode` `anycast` or `noarp`, that of `vrrp_ip`.
    subnet_cidr: String,
    /// Its gateway; the key must be there, and may be null.
    #[serde(deserialize_with = "present")]
    #[schema(required)]
    gateway: Option<String>,
    /// The front-end NIC's MAC address, in any case.
    mac_address: String,
    /// The NIC's MTU in bytes.
    mtu: Option<u32>,
    /// The NIC's own address: the next hop of an announced VIP.
    vrrp_ip: Option<String>,
    /// Static routes of the subnet.
    host_routes: Option<Vec<HostRouteBody>>,
    /// Further VIPs on the same NIC.
    additional_vips: Option<Vec<VipBody>>,
    /// The NIC is a virtual function.
    is_sriov: Option<bool>,
    /// Where the VIP lives; `[distributor] vip_mode` when absent. Not in upstream.
    vip_mode: Option<VipMode>,
    /// The NIC's addresses, at most one a family. Not in upstream.
    frontend_ips: Option<Vec<FrontendBody>>,
}

/// One of `host_routes`.
#[derive(Debug, Deserialize, ToSchema)]
pub struct HostRouteBody {
    destination: String,
    nexthop: String,
}

/// One of `additional_vips`.
#[derive(Debug, Deserialize, ToSchema)]
pub struct VipBody {
    ip_address: String,
    subnet_cidr: String,
    gateway: Option<String>,
    host_routes: Option<Vec<HostRouteBody>>,
}

/// One of `frontend_ips`.
#[derive(Debug, Deserialize, ToSchema)]
pub struct FrontendBody {
    ip_address: String,
    subnet_cidr: String,
    gateway: Option<String>,
}

/// A plug as it was asked for, every part of it usable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The front-end NIC.
    pub mac: Mac,
    /// Where the VIPs live.
    pub mode: VipMode,
    /// The VIP of the path first.
    pub vips: Vec<Vip>,
    /// The NIC's static addresses.
    pub frontends: Vec<Frontend>,
    /// The NIC's MTU in bytes.
    pub mtu: Option<u32>,
    /// The NIC is a virtual function.
    pub is_sriov: bool,
    /// In `interface` mode keepalived holds the VIPs.
    pub keepalived: bool,
}

/// A key that must be there although its value may be null.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Option::deserialize(deserializer)
}

pub(super) fn bad_body(field: &str, why: impl std::fmt::Display) -> ApiError {
    ApiError::http(Status::BadRequest, "Invalid subnet information", Some(format!("{field}: {why}")))
}

fn bad_vip(field: &str, why: impl std::fmt::Display) -> ApiError {
    ApiError::message(Status::BadRequest, format!("Invalid VIP: {field}: {why}"))
}

/// The JSON of a body. The MAC comes out on its own: a plug of a NIC that is inside is refused by its
/// MAC, whatever else the body says.
pub fn parse(bytes: &[u8]) -> Result<(Mac, PlugVip), ApiError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let body: PlugVip =
        serde_path_to_error::deserialize(&mut json).map_err(|e| bad_body(&e.path().to_string(), e.inner()))?;
    json.end().map_err(|e| bad_body("body", e))?;
    let mac = body.mac_address.parse().map_err(|e| bad_body("mac_address", e))?;
    Ok((mac, body))
}

impl PlugVip {
    /// Checks the rest of it.
    pub fn check(self, vip: &str, mac: Mac, default_mode: VipMode, policy: &Policy) -> Result<Wanted, ApiError> {
        let mode = self.vip_mode.unwrap_or(default_mode);
        let subnet = network(&self.subnet_cidr).map_err(|e| bad_vip("subnet_cidr", e))?;
        let gateway = self.gateway.as_deref().map(|g| gateway(g, "gateway", subnet)).transpose()?;
        let first = Vip {
            ip: address(vip).map_err(|e| bad_vip("VIP", e))?,
            subnet,
            gateway,
            host_routes: host_routes(self.host_routes, "host_routes")?,
        };
        let mut vips = vec![first];
        for (n, more) in self.additional_vips.into_iter().flatten().enumerate() {
            let field = |name: &str| format!("additional_vips[{n}].{name}");
            let ip = address(&more.ip_address).map_err(|e| bad_vip(&field("ip_address"), e))?;
            let subnet = network(&more.subnet_cidr).map_err(|e| bad_vip(&field("subnet_cidr"), e))?;
            let gateway = more.gateway.as_deref().map(|g| self::gateway(g, &field("gateway"), subnet)).transpose()?;
            let host_routes = host_routes(more.host_routes, &field("host_routes"))?;
            if vips.iter().any(|v| v.ip == ip) {
                return Err(bad_vip(&field("ip_address"), format!("{ip} is named twice")));
            }
            vips.push(Vip { ip, subnet, gateway, host_routes });
        }
        check_vips(&vips, mode, policy)?;
        let frontends = frontends(self.vrrp_ip.as_deref(), self.frontend_ips, &vips)?;
        let least = if vips.iter().any(|v| v.ip.is_ipv6()) { 1280 } else { 68 };
        if let Some(mtu) = self.mtu.filter(|m| !(least..=65_535).contains(m)) {
            return Err(bad_body("mtu", format!("{mtu} is not from {least} to 65535")));
        }
        let (is_sriov, keepalived) = (self.is_sriov.unwrap_or(false), policy.active_standby);
        Ok(Wanted { mac, mode, vips, frontends, mtu: self.mtu, is_sriov, keepalived })
    }
}

/// What a routed VIP must be, over and above an address.
fn check_vips(vips: &[Vip], mode: VipMode, policy: &Policy) -> Result<(), ApiError> {
    for (n, vip) in vips.iter().enumerate() {
        let field = if n == 0 { "VIP".to_owned() } else { format!("additional_vips[{}].ip_address", n - 1) };
        Prefix::try_from(vip.ip).map_err(|e| bad_vip(&field, e))?;
        match mode {
            VipMode::Interface if vip.ip.is_ipv4() != vip.subnet.addr().is_ipv4() => {
                return Err(bad_vip(
                    &field,
                    format!("{} and its subnet_cidr {} are of two families", vip.ip, vip.subnet),
                ));
            }
            VipMode::Interface => {}
            VipMode::Anycast | VipMode::Noarp => {
                let allowed = &policy.allowed_prefixes;
                if mode == VipMode::Anycast && !allowed.is_empty() && !crate::resolve::contains(allowed, vip.ip) {
                    let why =
                        format!("{} is outside [distributor] allowed_prefixes, so it could not be announced", vip.ip);
                    return Err(bad_vip(&field, why));
                }
            }
        }
    }
    Ok(())
}

/// The NIC's static addresses: `vrrp_ip` in the call's subnet, then `frontend_ips`.
fn frontends(vrrp_ip: Option<&str>, more: Option<Vec<FrontendBody>>, vips: &[Vip]) -> Result<Vec<Frontend>, ApiError> {
    let bad_vrrp = |why: String| ApiError::message(Status::BadRequest, format!("Invalid VRRP Address: vrrp_ip: {why}"));
    let mut all: Vec<Frontend> = Vec::new();
    if let Some(vrrp_ip) = vrrp_ip.filter(|ip| !ip.is_empty()) {
        let ip = address(vrrp_ip).map_err(bad_vrrp)?;
        let (subnet, gateway) = (vips[0].subnet, vips[0].gateway);
        if !subnet.contains(&ip) {
            return Err(bad_vrrp(format!("{ip} is not inside subnet_cidr {subnet}")));
        }
        all.push(Frontend { ip, subnet, gateway });
    }
    for (n, body) in more.into_iter().flatten().enumerate() {
        let field = |name: &str| format!("frontend_ips[{n}].{name}");
        let ip = address(&body.ip_address).map_err(|e| bad_body(&field("ip_address"), e))?;
        let subnet = network(&body.subnet_cidr).map_err(|e| bad_body(&field("subnet_cidr"), e))?;
        if !subnet.contains(&ip) {
            return Err(bad_body(&field("ip_address"), format!("{ip} is not inside {subnet}")));
        }
        let gateway = body.gateway.as_deref().map(|g| gateway(g, &field("gateway"), subnet)).transpose()?;
        let frontend = Frontend { ip, subnet, gateway };
        match all.iter().find(|f| Family::of(f.ip) == Family::of(ip)) {
            Some(same) if *same == frontend => {}
            Some(other) => {
                let why = format!("a second address of its family beside {}; give one a family", other.ip);
                return Err(bad_body(&field("ip_address"), why));
            }
            None => all.push(frontend),
        }
    }
    for frontend in &all {
        bgp::NextHop::try_from(frontend.ip).map_err(|e| bad_body("frontend_ips", e))?;
        if vips.iter().any(|v| v.ip == frontend.ip) {
            return Err(bad_body(
                "frontend_ips",
                format!("{} is a VIP; the NIC needs an address of its own", frontend.ip),
            ));
        }
    }
    Ok(all)
}

pub(super) fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("'{text}' does not appear to be an IPv4 or IPv6 address"))
}

pub(super) fn network(text: &str) -> Result<IpNet, String> {
    let net = match text.parse::<IpNet>() {
        Ok(net) => net,
        Err(_) => text
            .parse::<IpAddr>()
            .map(IpNet::from)
            .map_err(|_| format!("'{text}' does not appear to be an IPv4 or IPv6 network"))?,
    };
    if net.trunc() != net {
        return Err(format!("{net} has host bits set; did you mean {}?", net.trunc()));
    }
    Ok(net)
}

fn gateway(text: &str, field: &str, subnet: IpNet) -> Result<IpAddr, ApiError> {
    gateway_of(text, subnet).map_err(|why| bad_body(field, why))
}

fn host_routes(bodies: Option<Vec<HostRouteBody>>, field: &str) -> Result<Vec<HostRoute>, ApiError> {
    routes(bodies).map_err(|(inner, why)| bad_body(&format!("{field}{inner}"), why))
}

pub(super) fn gateway_of(text: &str, subnet: IpNet) -> Result<IpAddr, String> {
    let ip = address(text)?;
    if ip.is_ipv4() != subnet.addr().is_ipv4() || ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() {
        return Err(format!("{ip} cannot be a gateway of {subnet}"));
    }
    Ok(ip)
}

/// The routes of a subnet; else the place of the fault in the list, and what it is.
pub(super) fn routes(bodies: Option<Vec<HostRouteBody>>) -> Result<Vec<HostRoute>, (String, String)> {
    let parse = |(n, body): (usize, HostRouteBody)| {
        let field = |name: &str| format!("[{n}].{name}");
        // Neutron lets a tenant write host bits here; the kernel would not.
        let destination = body.destination.parse::<IpNet>().map(|d| d.trunc());
        let destination = destination.map_err(|e| (field("destination"), e.to_string()))?;
        let nexthop = address(&body.nexthop).map_err(|e| (field("nexthop"), e))?;
        if nexthop.is_ipv4() != destination.addr().is_ipv4() {
            return Err((field("nexthop"), format!("{nexthop} is of another family than {destination}")));
        }
        Ok(HostRoute { destination, nexthop })
    };
    bodies.into_iter().flatten().enumerate().map(parse).collect()
}

#[cfg(test)]
mod tests;
