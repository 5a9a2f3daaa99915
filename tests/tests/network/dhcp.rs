//! Networks that give addresses themselves: a real DHCP server and router advertisements.

use lab::net::up;
use lab::{Node, command, wait_for};
use serde_json::json;

use crate::support::{MEMBER, PATIENCE, Site, fixed, plug, plugged, port};

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

/// Killed with the Python agent, a client leaves a lease that nobody renews.
#[test]
fn a_lease_of_a_client_that_is_gone_is_taken_over_by_ours_and_a_client_nobody_wants_ends() {
    let site = Site::new("network-dhcp-takeover");
    let _server = server(&site);
    let node = site.amphora().node();
    node.run(["ip", "netns", "add", lab::amphora::HAPROXY_NETNS]).unwrap();
    node.run(["ip", "link", "set", "ens8", "netns", lab::amphora::HAPROXY_NETNS, "name", "eth2"]).unwrap();
    let lease = "link set eth2 up\naddr add 10.4.0.77/24 dev eth2 valid_lft 600 preferred_lft 600";
    site.inside().ip(lease).unwrap();
    let file = json!({"name": "eth2", "if_type": "backend", "addresses": [{"dhcp": true, "ipv6auto": true}]});
    node.run(["mkdir", "-p", "/etc/octavia/interfaces"]).unwrap();
    node.write_file("/etc/octavia/interfaces/eth2.json", file.to_string(), 0o600).unwrap();
    node.write_file("/var/lib/octavia/plugged_interfaces", format!("{MEMBER} eth2\n"), 0o644).unwrap();
    site.start();
    let leased = || {
        let said = site.inside().run(["ip", "-o", "addr", "show", "dev", "eth2", "scope", "global"]).unwrap();
        if said.contains("10.4.0.50/24") { Ok(()) } else { Err(said) }
    };
    wait_for("a lease of our client", PATIENCE, leased).unwrap();

    // As a call leaves it that was cut off after the commit.
    site.amphora().kill_agent().unwrap();
    let service = |nic: &str| format!("/var/lib/octavia/amphora-agent/services/octavia-dhcp-{nic}.json");
    let text = node.read_file(&service("eth2")).unwrap();
    node.write_file(&service("eth7"), text.replace("eth2", "eth7"), 0o600).unwrap();
    site.start();
    let gone = || if node.read_file(&service("eth7")).is_err() { Ok(()) } else { Err("still installed") };
    wait_for("the end of a client nobody wants", PATIENCE, gone).unwrap();
    assert!(node.read_file(&service("eth2")).is_ok());
    leased().unwrap();
}
