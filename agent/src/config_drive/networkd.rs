//! A NIC of the drive as a file of systemd-networkd (systemd.network(5)), by its MAC: names of NICs follow the order in which
//! the kernel finds them.

use std::{fmt::Write as _, net::IpAddr};

use super::network::Nic;

/// What the names of our files begin with, in /etc/systemd/network; before those of the image, which leave every other NIC
/// alone.
pub(super) const PREFIX: &str = "10-config-drive-";

/// An amphora has no name server and its name from Nova, whatever a DHCP server or a router offers.
const NOT_USED: &str = "UseDNS=no\nUseNTP=no\nUseHostname=no\n";

/// The file's name.
pub(super) fn file_name(nic: &Nic) -> String {
    format!("{PREFIX}{}.network", nic.mac.replace(':', ""))
}

/// The file.
#[must_use]
pub fn render(nic: &Nic) -> String {
    let yes = |flag| if flag { "yes" } else { "no" };
    let dhcp = match (nic.dhcp4, nic.dhcp6) {
        (true, true) => "yes",
        (true, false) => "ipv4",
        (false, true) => "ipv6",
        (false, false) => "no",
    };
    let mut file = format!("# From the config drive.\n[Match]\nMACAddress={}\n", nic.mac);
    // Writing to a String cannot fail.
    if let Some(mtu) = nic.mtu {
        let _ = writeln!(file, "\n[Link]\nMTUBytes={mtu}");
    }
    let _ = writeln!(file, "\n[Network]\nDHCP={dhcp}\nIPv6AcceptRA={}", yes(nic.advertised));
    for address in &nic.addresses {
        let _ = writeln!(file, "Address={address}");
    }
    for route in &nic.routes {
        let _ = writeln!(file, "\n[Route]\nDestination={}\nMetric={}", route.to, nic.metric);
        match route.gateway {
            Some(gateway) => {
                let _ = writeln!(file, "Gateway={gateway}");
                if !on_link(nic, gateway) {
                    file.push_str("GatewayOnLink=yes\n");
                }
            }
            None if route.to.addr().is_ipv4() => file.push_str("Scope=link\n"),
            None => {} // IPv6 has no scopes of routes
        }
    }
    if nic.dhcp4 {
        // Where Nova names no MTU it means the DHCP server's, which networkd leaves alone unless told; MTUBytes= goes first.
        let _ = writeln!(file, "\n[DHCPv4]\nUseMTU=yes\nRouteMetric={}\n{NOT_USED}UseDomains=no", nic.metric);
    }
    if nic.dhcp6 {
        // Also where no router says so: a subnet of Neutron's needs none.
        let _ = writeln!(file, "\n[DHCPv6]\nWithoutRA=solicit\n{NOT_USED}UseDomains=no");
    }
    if nic.advertised {
        let (metric, client) = (nic.metric, yes(nic.dhcp6));
        let _ =
            writeln!(file, "\n[IPv6AcceptRA]\nRouteMetric={metric}\nUseDNS=no\nUseDomains=no\nDHCPv6Client={client}");
    }
    file
}

/// Whether the gateway is in a subnet of the NIC; where it is not (a /32 with a gateway elsewhere), the kernel has to be told.
fn on_link(nic: &Nic, gateway: IpAddr) -> bool {
    let link_local = matches!(gateway, IpAddr::V6(address) if address.is_unicast_link_local());
    link_local || nic.addresses.iter().any(|subnet| subnet.contains(&gateway))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config_drive::network;

    #[test]
    fn static_networks_and_dhcp() {
        let nics = network::parse(network::tests::NOVA.as_bytes()).unwrap();
        assert_eq!(file_name(&nics[0]), "10-config-drive-fa163eed9a59.network");
        assert_eq!(
            render(&nics[0]),
            "# From the config drive.\n[Match]\nMACAddress=fa:16:3e:ed:9a:59\n\n[Link]\nMTUBytes=1450\n\n[Network]\n\
             DHCP=no\nIPv6AcceptRA=no\nAddress=192.0.2.10/24\nAddress=2001:db8::a/64\n\n[Route]\n\
             Destination=0.0.0.0/0\nMetric=1024\nGateway=192.0.2.1\n\n[Route]\nDestination=10.0.0.0/8\nMetric=1024\n\
             Gateway=192.0.2.2\n\n[Route]\nDestination=::/0\nMetric=1024\nGateway=fe80::1\n"
        );
        assert_eq!(
            render(&nics[1]),
            "# From the config drive.\n[Match]\nMACAddress=fa:16:3e:d4:57:ad\n\n[Network]\nDHCP=ipv4\nIPv6AcceptRA=yes\n\n\
             [DHCPv4]\nUseMTU=yes\nRouteMetric=1025\nUseDNS=no\nUseNTP=no\nUseHostname=no\nUseDomains=no\n\n\
             [IPv6AcceptRA]\nRouteMetric=1025\nUseDNS=no\nUseDomains=no\nDHCPv6Client=no\n"
        );
        let lonely = Nic { addresses: vec!["198.51.100.7/32".parse().unwrap()], ..nics[0].clone() };
        assert!(render(&lonely).contains("Gateway=192.0.2.1\nGatewayOnLink=yes\n"));
        let on_link = |to: &str| {
            let routes = vec![network::Route { to: to.parse().unwrap(), gateway: None }];
            render(&Nic { routes, ..nics[0].clone() }).split_once("[Route]\n").unwrap().1.to_owned()
        };
        assert_eq!(on_link("10.1.0.0/16"), "Destination=10.1.0.0/16\nMetric=1024\nScope=link\n");
        assert_eq!(on_link("2001:db8:1::/48"), "Destination=2001:db8:1::/48\nMetric=1024\n");
        let stateful = Nic { dhcp4: false, dhcp6: true, ..nics[1].clone() };
        assert!(render(&stateful).contains("\n[DHCPv6]\nWithoutRA=solicit\nUseDNS=no\n"));
    }
}
