//! `network_data.json` (`nova/virt/netutils.py`, `get_network_metadata`): the NICs the machine is booted with, by MAC, and
//! what is to be on them. Name servers and other services are not looked at: an amphora asks none.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
struct Raw {
    #[serde(default)]
    links: Vec<RawLink>,
    #[serde(default)]
    networks: Vec<RawNetwork>,
}

#[derive(Debug, Deserialize)]
struct RawLink {
    id: String,
    #[serde(rename = "type", default)]
    kind: String,
    ethernet_mac_address: Option<String>,
    mtu: Option<u32>,
}

#[derive(Debug, Deserialize)]
struct RawNetwork {
    link: String,
    #[serde(rename = "type")]
    kind: String,
    ip_address: Option<String>,
    netmask: Option<String>,
    #[serde(default)]
    routes: Vec<RawRoute>,
}

#[derive(Debug, Deserialize)]
struct RawRoute {
    network: String,
    netmask: String,
    gateway: IpAddr,
}

/// Why the networks cannot be configured.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// No JSON, or not Nova's.
    #[error("{0}")]
    Json(serde_path_to_error::Error<serde_json::Error>),
    /// A value that cannot be used: where, and why.
    #[error("{0}: {1}")]
    Value(String, &'static str),
}

/// A route of a NIC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub to: IpNet,
    /// By whom, of the same family; `None`: all of it is on the link.
    pub gateway: Option<IpAddr>,
}

/// A NIC and what is to be on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nic {
    /// In lower case, with colons.
    pub mac: String,
    /// Bytes.
    pub mtu: Option<u32>,
    /// Asks a DHCP server for an IPv4 address.
    pub dhcp4: bool,
    /// Asks one for an IPv6 address.
    pub dhcp6: bool,
    /// Heeds router advertisements.
    pub advertised: bool,
    /// Addresses with their subnets.
    pub addresses: Vec<IpNet>,
    /// Routes of the static networks.
    pub routes: Vec<Route>,
    /// Of all its routes: the first network's are preferred.
    pub metric: u32,
}

/// What systemd-networkd gives the routes of a NIC by itself (`RouteMetric=`).
const FIRST_METRIC: u32 = 1024;

/// Reads it. NICs come in the order of their first networks, which is that of the controller's `amp_boot_network_list`: the
/// management network is the first. NICs without a network are left out.
pub(super) fn parse(json: &[u8]) -> Result<Vec<Nic>, NetworkError> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let raw: Option<Raw> = serde_path_to_error::deserialize(&mut reader).map_err(NetworkError::Json)?;
    let raw = raw.unwrap_or_default();
    let mut nics: Vec<(&str, Nic)> = Vec::new();
    for (number, link) in raw.links.iter().enumerate() {
        let wrong = |field: &str, problem| NetworkError::Value(format!("links[{number}]{field}"), problem);
        // What a NIC is on the other side (ovs, bridge, vhostuser, hw_veb...) is the hypervisor's matter.
        if matches!(link.kind.as_str(), "bond" | "vlan" | "vxlan") {
            return Err(wrong(".type", "only NICs are taken, no bond, vlan or vxlan"));
        }
        let mac = link.ethernet_mac_address.as_deref().and_then(mac);
        let mac =
            mac.ok_or_else(|| wrong(".ethernet_mac_address", "not six pairs of hexadecimal digits with colons"))?;
        let mtu = link.mtu.filter(|mtu| *mtu != 0);
        if mtu.is_some_and(|mtu| !(68..=65_535).contains(&mtu)) {
            return Err(wrong(".mtu", "not between 68 and 65535"));
        }
        if nics.iter().any(|(id, nic)| *id == link.id || nic.mac == mac) {
            return Err(wrong("", "a link with this id or MAC is there already"));
        }
        nics.push((&link.id, Nic { mac, mtu, ..Nic::default() }));
    }
    let mut used = Vec::new();
    for (number, network) in raw.networks.iter().enumerate() {
        let wrong = |field: String, problem| NetworkError::Value(format!("networks[{number}]{field}"), problem);
        let at = nics.iter().position(|(id, _)| *id == network.link);
        let at = at.ok_or_else(|| wrong(".link".to_owned(), "no link has this id"))?;
        if !used.contains(&at) {
            used.push(at);
        }
        let nic = &mut nics[at].1;
        let v4 = match network.kind.as_str() {
            "ipv4" => true,
            "ipv6" => false,
            "ipv4_dhcp" => {
                nic.dhcp4 = true;
                continue;
            }
            "ipv6_dhcp" | "ipv6_dhcpv6-stateful" => {
                (nic.dhcp6, nic.advertised) = (true, true); // DHCPv6 has no routes: these come from the router
                continue;
            }
            // All that stateless DHCPv6 adds is name servers.
            "ipv6_slaac" | "ipv6_dhcpv6-stateless" => {
                nic.advertised = true;
                continue;
            }
            _ => {
                let problem = "not ipv4, ipv6, ipv4_dhcp, ipv6_dhcp, ipv6_slaac, ipv6_dhcpv6-stateless or -stateful";
                return Err(wrong(".type".to_owned(), problem));
            }
        };
        let address = network.ip_address.as_deref().unwrap_or_default();
        let parsed = subnet(address, network.netmask.as_deref()).filter(|net| net.addr().is_ipv4() == v4);
        let address = parsed.filter(|net| !net.addr().is_unspecified() && !net.addr().is_multicast());
        nic.addresses.push(address.ok_or_else(|| {
            wrong(".ip_address".to_owned(), "with its netmask not an address of the network's family")
        })?);
        for (at, route) in network.routes.iter().enumerate() {
            let to = subnet(&route.network, Some(&route.netmask)).map(|net| net.trunc());
            let to = to.filter(|to| to.addr().is_ipv4() == v4 && route.gateway.is_ipv4() == v4);
            let to = to.ok_or_else(|| wrong(format!(".routes[{at}]"), "not a network and a gateway of one family"))?;
            nic.routes.push(Route { to, gateway: Some(route.gateway).filter(|gateway| !gateway.is_unspecified()) });
        }
    }
    Ok((FIRST_METRIC..).zip(used).map(|(metric, at)| Nic { metric, ..nics[at].1.clone() }).collect())
}

/// An address with a mask: dotted, as an IPv6 address, or a length; or with the length behind a slash.
fn subnet(address: &str, mask: Option<&str>) -> Option<IpNet> {
    if address.contains('/') {
        return address.parse().ok();
    }
    let (address, mask): (IpAddr, _) = (address.parse().ok()?, mask?);
    match mask.parse::<u8>() {
        Ok(length) => IpNet::new(address, length).ok(),
        Err(_) => IpNet::with_netmask(address, mask.parse().ok()?).ok(),
    }
}

fn mac(text: &str) -> Option<String> {
    let pair = |pair: &str| pair.len() == 2 && pair.bytes().all(|c| c.is_ascii_hexdigit());
    (text.split(':').count() == 6 && text.split(':').all(pair)).then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// As Nova writes it for a NIC with a static IPv4 and IPv6 subnet, and one with DHCP.
    pub(in crate::config_drive) const NOVA: &str = r#"{
        "links": [
            {"id": "tap1a81968a-79", "vif_id": "1a81968a-797a-400f-8a80-567f997eb93f", "type": "ovs", "mtu": 1450,
             "ethernet_mac_address": "FA:16:3E:ED:9A:59"},
            {"id": "tap2", "vif_id": "2", "type": "phy", "mtu": null, "ethernet_mac_address": "fa:16:3e:d4:57:ad"},
            {"id": "tap3", "vif_id": "3", "type": "bridge", "mtu": 1500, "ethernet_mac_address": "fa:16:3e:d4:57:ae"}],
        "networks": [
            {"id": "network0", "type": "ipv4", "link": "tap1a81968a-79", "ip_address": "192.0.2.10",
             "netmask": "255.255.255.0", "network_id": "da5b",
             "routes": [{"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "192.0.2.1"},
                        {"network": "10.0.0.0", "netmask": "255.0.0.0", "gateway": "192.0.2.2"}],
             "services": [{"type": "dns", "address": "192.0.2.3"}]},
            {"id": "network1", "type": "ipv6", "link": "tap1a81968a-79", "ip_address": "2001:db8::a",
             "netmask": "ffff:ffff:ffff:ffff::", "network_id": "da5c",
             "routes": [{"network": "::", "netmask": "::", "gateway": "fe80::1"}]},
            {"id": "network2", "type": "ipv4_dhcp", "link": "tap2", "network_id": "da5d"},
            {"id": "network3", "type": "ipv6_slaac", "link": "tap2", "network_id": "da5d"}],
        "services": [{"type": "dns", "address": "192.0.2.3"}]}"#;

    #[test]
    fn what_nova_writes_is_read() {
        let nics = parse(NOVA.as_bytes()).unwrap();
        assert_eq!(nics.len(), 2, "a NIC without a network is none of ours: {nics:?}");
        assert_eq!((nics[0].mac.as_str(), nics[0].mtu), ("fa:16:3e:ed:9a:59", Some(1450)));
        let addresses: Vec<_> = nics[0].addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["192.0.2.10/24", "2001:db8::a/64"]);
        let routes: Vec<_> = nics[0].routes.iter().map(|r| format!("{} {}", r.to, r.gateway.unwrap())).collect();
        assert_eq!(routes, ["0.0.0.0/0 192.0.2.1", "10.0.0.0/8 192.0.2.2", "::/0 fe80::1"]);
        assert!(nics[1].dhcp4 && nics[1].advertised && !nics[1].dhcp6 && nics[1].mtu.is_none());
    }

    /// `amp_boot_network_list` of two: whatever Neutron calls their ports, the first network's routes win.
    #[test]
    fn the_first_network_is_preferred() {
        let of = |mac: u8, id: &str| {
            format!(r#"{{"id": "{id}", "type": "ovs", "mtu": 0, "ethernet_mac_address": "fa:16:3e:00:00:0{mac}"}}"#)
        };
        let on = |id: &str, kind: &str| format!(r#"{{"link": "{id}", "type": "{kind}"}}"#);
        let json = format!(
            r#"{{"links": [{}, {}, {}], "networks": [{}, {}, {}]}}"#,
            of(1, "tapa"),
            of(2, "tapb"),
            of(3, "tapc"),
            on("tapc", "ipv4_dhcp"),
            on("tapa", "ipv4_dhcp"),
            on("tapc", "ipv6_slaac")
        );
        let nics = parse(json.as_bytes()).unwrap();
        let order: Vec<_> = nics.iter().map(|nic| (nic.mac.as_str(), nic.metric, nic.mtu)).collect();
        assert_eq!(order, [("fa:16:3e:00:00:03", 1024, None), ("fa:16:3e:00:00:01", 1025, None)]);
        assert!(nics[0].dhcp4 && nics[0].advertised);
    }

    #[test]
    fn a_route_without_a_next_hop_is_on_the_link() {
        let json = r#"{"links": [{"id": "a", "ethernet_mac_address": "fa:16:3e:00:00:01"}], "networks": [
            {"link": "a", "type": "ipv4", "ip_address": "192.0.2.1", "netmask": "24",
             "routes": [{"network": "10.0.0.0", "netmask": "255.0.0.0", "gateway": "0.0.0.0"}]}]}"#;
        let nics = parse(json.as_bytes()).unwrap();
        assert_eq!(nics[0].routes, [Route { to: "10.0.0.0/8".parse().unwrap(), gateway: None }]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let link = r#"{"id": "a", "ethernet_mac_address": "fa:16:3e:00:00:01", "type": "phy"}"#;
        let with = |links: &str, network: &str| {
            parse(format!(r#"{{"links": [{links}], "networks": [{network}]}}"#).as_bytes()).map_err(|e| e.to_string())
        };
        let network = |rest: &str| with(link, &format!(r#"{{"link": "a", {rest}}}"#)).unwrap_err();
        assert_eq!(with("", ""), Ok(Vec::new()));
        assert_eq!(parse(b"null").map_err(|e| e.to_string()), Ok(Vec::new()));
        assert!(network(r#""type": "ipv5""#).contains("networks[0].type"));
        assert!(network(r#""type": "ipv4""#).contains("networks[0].ip_address"));
        assert!(network(r#""type": "ipv4", "ip_address": "2001:db8::1/64""#).contains("networks[0].ip_address"));
        assert!(network(r#""type": "ipv4", "ip_address": "192.0.2.1", "netmask": "255.0.255.0""#).contains(".ip_addr"));
        let route = r#""type": "ipv4", "ip_address": "192.0.2.1", "netmask": 24, "routes": []"#;
        assert!(network(route).contains("netmask"), "{}", network(route));
        let route = r#""type": "ipv4", "ip_address": "192.0.2.1", "netmask": "24",
            "routes": [{"network": "::", "netmask": "::", "gateway": "192.0.2.9"}]"#;
        assert!(network(route).contains("networks[0].routes[0]"));
        assert!(with("", r#"{"link": "b", "type": "ipv4_dhcp"}"#).unwrap_err().contains("networks[0].link"));
        assert!(with(r#"{"id": "a", "type": "vlan"}"#, "").unwrap_err().contains("links[0].type"));
        assert!(with(r#"{"id": "a", "ethernet_mac_address": "fa:16"}"#, "").unwrap_err().contains("links[0].ethernet"));
        let tiny = r#"{"id": "a", "ethernet_mac_address": "fa:16:3e:00:00:01", "mtu": 9}"#;
        assert!(with(tiny, "").unwrap_err().contains("links[0].mtu"));
        assert!(with(&format!("{link}, {link}"), "").unwrap_err().contains("links[1]"));
        assert!(parse(b"[").is_err());
    }
}
