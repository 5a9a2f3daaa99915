//! Networks that give addresses themselves: a real DHCP server and router advertisements.

use lab::net::up;
use lab::{Node, command, wait_for};
use serde_json::json;

use crate::support::{PATIENCE, Site, fixed, plug, plugged, port};

/// dnsmasq on the members' segment.
fn server(site: &Site) -> Node {
    let node = Node::new(&site.fabric.workdir, "dhcp").unwrap();
    site.members.plug(&node, "eth0", None).unwrap();
    up(&node, "eth0", &["10.4.0.1/24".parse().unwrap(), "2001:db8:4::1/64".parse().unwrap()]).unwrap();
    let mut dnsmasq =
        command(["/usr/sbin/dnsmasq", "--no-daemon", "--port=0", "--interface=eth0", "--conf-file=/dev/null"]);
    dnsmasq.args(["--dhcp-range=10.4.0.50,10.4.0.50,1h", "--dhcp-leasefile=/run/leases", "--dhcp-authoritative"]);
    dnsmasq.args(["--dhcp-option=option:router,10.4.0.1", "--dhcp-option=121,10.8.0.0/16,10.4.0.9"]);
    dnsmasq.args(["--enable-ra", "--dhcp-range=2001:db8:4::,ra-only,64", "--user=root", "--no-ping"]);
    node.spawn("dnsmasq", &mut dnsmasq).unwrap();
    node
}

#[test]
fn a_network_without_addresses_gets_them_by_dhcp_and_advertisements_and_keeps_them_without_the_agent() {
    let site = Site::new("network-dhcp");
    let _server = server(&site);
    let mut api = site.start();
    // As in the image: advertisements count although the namespace forwards.
    site.inside().run(["sysctl", "-qw", "net.ipv6.conf.all.forwarding=1"]).unwrap();
    plugged(&plug(&mut api, &port(&json!([]))), "Plugged on interface eth2");
    let addresses = || site.inside().run(["ip", "-o", "addr", "show", "dev", "eth2", "scope", "global"]).unwrap();
    let leased = |said: &str| said.contains("10.4.0.50/24");
    assert!(leased(&addresses()), "answered without a lease: {}", addresses());
    let both = || {
        let said = addresses();
        if leased(&said) && said.contains("2001:db8:4:") { Ok(()) } else { Err(said) }
    };
    wait_for("an advertised address", PATIENCE, both).unwrap();
    // The routes its server names, but no default: that is the VIP's.
    let routes = || site.inside().run(["ip", "route", "show", "dev", "eth2"]).unwrap();
    wait_for("the server's route", PATIENCE, || if routes().contains("10.8.0.0/16") { Ok(()) } else { Err(routes()) })
        .unwrap();
    assert!(!routes().contains("default"), "{}", routes());

    // The client outlives the agent, and another agent finds it.
    let clients = || site.amphora().pids("dhcpcd").unwrap();
    let before = clients();
    assert!(!before.is_empty());
    site.amphora().kill_agent().unwrap();
    assert_eq!(clients(), before);
    let mut api = site.start();
    plugged(&plug(&mut api, &port(&json!([]))), "Updated existing interface eth2");
    assert_eq!(clients(), before);

    // With addresses of its own the NIC needs none.
    plugged(&plug(&mut api, &port(&json!([fixed("10.1.0.5", "10.1.0.0/24")]))), "Updated existing interface eth2");
    assert_eq!(clients(), [] as [u32; 0]);
    let said = addresses();
    assert!(said.contains("10.1.0.5/24") && !leased(&said), "{said}");
}
