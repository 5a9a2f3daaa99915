//! The body of `POST /1.0/plug/network`, from JSON to values that cannot be wrong.
//!
//! The order of the checks is upstream's (`server.py`, `plug.py`): the body, then its addresses, then the NIC.

use std::net::IpAddr;

use ipnet::IpNet;
use netns::Mac;
use serde::Deserialize;
use utoipa::ToSchema;

use super::request::{HostRouteBody, address, gateway_of, network, routes};
use crate::{
    api::error::{ApiError, Status},
    state::{FixedIp, HostRoute},
};

/// As the controller sends it: a Neutron port. Unknown keys are accepted, as upstream does.
#[derive(Debug, Deserialize, ToSchema)]
pub struct PlugNetwork {
    /// The NIC's MAC address, in any case.
    mac_address: String,
    /// The port's addresses. None: the network gives some by DHCP and router advertisements.
    fixed_ips: Option<Vec<FixedIpBody>>,
    /// The NIC's MTU in bytes.
    mtu: Option<u32>,
    /// The VIP of this NIC once more, when members are reached through the VIP's port.
    vip_net_info: Option<VipNetInfo>,
    /// The NIC is a virtual function.
    is_sriov: Option<bool>,
}

/// One of `fixed_ips`.
#[derive(Debug, Deserialize, ToSchema)]
pub struct FixedIpBody {
    ip_address: String,
    subnet_cidr: String,
    gateway: Option<String>,
    host_routes: Option<Vec<HostRouteBody>>,
}

/// What upstream plugs the VIP anew with. Its additional VIPs are always left out by the controller, and are kept.
#[derive(Debug, Deserialize, ToSchema)]
pub struct VipNetInfo {
    vip: String,
    subnet_cidr: String,
    gateway: Option<String>,
    host_routes: Option<Vec<HostRouteBody>>,
}

/// A member network as it was asked for, every part of it usable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedNetwork {
    /// The NIC.
    pub mac: Mac,
    /// Its addresses.
    pub fixed_ips: Vec<FixedIp>,
    /// Its MTU in bytes.
    pub mtu: Option<u32>,
    /// It is a virtual function.
    pub is_sriov: bool,
    /// What its VIP's subnet is now.
    pub vip: Option<VipSubnet>,
}

/// The subnet of a VIP, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VipSubnet {
    /// The VIP.
    pub ip: IpAddr,
    /// Its subnet.
    pub subnet: IpNet,
    /// The gateway of that.
    pub gateway: Option<IpAddr>,
    /// The static routes of that.
    pub host_routes: Vec<HostRoute>,
}

pub(super) fn bad_body(field: &str, why: impl std::fmt::Display) -> ApiError {
    ApiError::http(Status::BadRequest, "Invalid port information", Some(format!("{field}: {why}")))
}

fn bad_port(field: &str, why: impl std::fmt::Display) -> ApiError {
    ApiError::new(Status::BadRequest, "Invalid network port", format!("{field}: {why}"))
}

/// Reads and checks a body.
pub fn parse(bytes: &[u8]) -> Result<WantedNetwork, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let body: PlugNetwork =
        serde_path_to_error::deserialize(&mut json).map_err(|e| bad_body(&e.path().to_string(), e.inner()))?;
    json.end().map_err(|e| bad_body("body", e))?;
    let mac = body.mac_address.parse().map_err(|e| bad_body("mac_address", e))?;
    let mut fixed_ips: Vec<FixedIp> = Vec::new();
    for (n, fixed) in body.fixed_ips.into_iter().flatten().enumerate() {
        let at = format!("fixed_ips[{n}]");
        let ip = address(&fixed.ip_address).map_err(|e| bad_port(&format!("{at}.ip_address"), e))?;
        let (subnet, gateway, host_routes) =
            subnet(&at, &fixed.subnet_cidr, fixed.gateway.as_deref(), fixed.host_routes)?;
        if !subnet.contains(&ip) || ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() {
            return Err(bad_port(&format!("{at}.ip_address"), format!("{ip} is no address of a host in {subnet}")));
        }
        if !fixed_ips.iter().any(|f| f.ip == ip) {
            fixed_ips.push(FixedIp { ip, subnet, gateway, host_routes });
        }
    }
    let least = if fixed_ips.iter().any(|f| f.ip.is_ipv6()) { 1280 } else { 68 };
    if let Some(mtu) = body.mtu.filter(|m| !(least..=65_535).contains(m)) {
        return Err(bad_body("mtu", format!("{mtu} is not from {least} to 65535")));
    }
    let vip = |info: VipNetInfo| -> Result<VipSubnet, ApiError> {
        let ip = address(&info.vip).map_err(|e| bad_port("vip_net_info.vip", e))?;
        let (subnet, gateway, host_routes) =
            subnet("vip_net_info", &info.subnet_cidr, info.gateway.as_deref(), info.host_routes)?;
        Ok(VipSubnet { ip, subnet, gateway, host_routes })
    };
    let vip = body.vip_net_info.map(vip).transpose()?;
    Ok(WantedNetwork { mac, fixed_ips, mtu: body.mtu, is_sriov: body.is_sriov.unwrap_or(false), vip })
}

type Subnet = (IpNet, Option<IpAddr>, Vec<HostRoute>);

fn subnet(
    at: &str,
    cidr: &str,
    gateway: Option<&str>,
    host_routes: Option<Vec<HostRouteBody>>,
) -> Result<Subnet, ApiError> {
    let subnet = network(cidr).map_err(|e| bad_port(&format!("{at}.subnet_cidr"), e))?;
    let gateway = gateway.map(|g| gateway_of(g, subnet)).transpose();
    let gateway = gateway.map_err(|e| bad_port(&format!("{at}.gateway"), e))?;
    let host_routes = routes(host_routes).map_err(|(inner, e)| bad_port(&format!("{at}.host_routes{inner}"), e))?;
    Ok((subnet, gateway, host_routes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse as _;

    const MAC: &str = "fa:16:3e:00:00:0a";

    fn one(ip: &str, cidr: &str) -> String {
        format!(r#"{{"mac_address":"{MAC}","fixed_ips":[{{"ip_address":"{ip}","subnet_cidr":"{cidr}"}}]}}"#)
    }

    #[test]
    fn everything_but_the_mac_may_be_left_out_or_null() {
        let bare = parse(format!(r#"{{"mac_address":"{}"}}"#, MAC.to_uppercase()).as_bytes()).unwrap();
        assert_eq!((bare.mac.to_string().as_str(), bare.fixed_ips.len(), bare.mtu), (MAC, 0, None));
        let null = r#""fixed_ips":null,"mtu":null,"vip_net_info":null,"is_sriov":null,"later":[1]"#;
        assert_eq!(parse(format!(r#"{{"mac_address":"{MAC}",{null}}}"#).as_bytes()).unwrap(), bare);
        let twice = one("2001:DB8::0:A", "2001:db8::/64");
        let ip = parse(twice.as_bytes()).unwrap().fixed_ips[0].ip;
        assert_eq!(ip.to_string(), "2001:db8::a");
    }

    #[test]
    fn each_fault_is_a_400_in_upstreams_words_that_names_the_field() {
        let port = "Invalid network port";
        let body = "Invalid port information";
        for (text, message, field) in [
            ("[]".to_owned(), body, "mac_address"),
            ("{}".to_owned(), body, "mac_address"),
            (r#"{"mac_address":"x"}"#.to_owned(), body, "mac_address"),
            (format!(r#"{{"mac_address":"{MAC}","mtu":20}}"#), body, "mtu"),
            (one("192.0.2", "192.0.2.0/24"), port, "fixed_ips[0].ip_address"),
            (one("192.0.2.7", "192.0.2.7/24"), port, "fixed_ips[0].subnet_cidr"),
            (one("192.0.3.7", "192.0.2.0/24"), port, "fixed_ips[0].ip_address"),
            (one("192.0.2.7", "2001:db8::/64"), port, "fixed_ips[0].ip_address"),
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            let said = format!("{error:?}");
            assert!(said.contains(message) && (text == "[]" || said.contains(field)), "{text}: {said}");
            assert_eq!(error.into_response().status(), 400);
        }
    }
}
