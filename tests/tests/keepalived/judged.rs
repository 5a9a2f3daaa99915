//! What keepalived's own test of a configuration decides: refused is what is built wrongly, and nothing else.

use lab::octavia::call;
use serde_json::json;

use crate::support::{LISTENER, plug, put, rendered, start, stock, vip};

#[test]
fn values_that_octavias_api_allows_are_taken_though_keepalived_has_a_default_for_them() {
    let test = "values_that_octavias_api_allows_are_taken_though_keepalived_has_a_default_for_them";
    let fabric = stock("judged-values", 1);
    let amphora = &fabric.amphorae[0];
    let member = json!({ "id": LISTENER, "ip_address": "192.0.2.50", "port": 53 });
    let monitor = json!({ "delay": 0, "timeout": 0 });
    let lvs = json!({ "listener_id": LISTENER, "vips": [vip().v4], "protocol": "UDP", "port": 53, "monitor": "TCP",
        "monitor_values": monitor, "members": [member] });
    let route = json!({ "destination": "198.51.100.0/24", "nexthop": "192.0.2.9" });
    let subnet = json!({ "cidr": "192.0.2.0/24", "gateway_ip": "192.0.2.1", "host_routes": [route] });
    let vrrp = json!({ "vip": vip().v4, "subnet": subnet,
        "amphorae": [{ "vrrp_ip": amphora.frontend(lab::Family::V4), "priority": 100 }] });
    let Some(configs) = rendered(test, &fabric, &[json!({ "lvs": lvs }), json!({ "vrrp": vrrp })]) else { return };
    assert!(configs[0].contains("delay_loop 0") && configs[0].contains("connect_timeout 0"), "{}", configs[0]);
    assert!(configs[1].contains(" gateway "), "no word of keepalived's: {}", configs[1]);
    let mut api = start(amphora);
    plug(amphora, &mut api);
    let calls = [
        ("upload_udp_config", json!({ "listener_id": LISTENER, "config": configs[0] })),
        ("upload_vrrp_config", json!({ "config": configs[1] })),
    ];
    for stored in call(&fabric, amphora, &calls).unwrap() {
        assert_eq!((stored.exception.as_deref(), stored.status()), (None, 200), "{stored:?}");
    }
}

#[test]
fn what_is_built_wrongly_is_refused_also_where_no_name_server_answers_and_the_namespace_is_another() {
    let fabric = stock("judged-built", 1);
    let amphora = &fabric.amphorae[0];
    let mut api = start(amphora);
    plug(amphora, &mut api);
    // Packets to these go out and nobody says that there is no such host.
    let subnet = lab::addresses::FRONTEND;
    let servers = [91, 92, 93].map(|host| subnet.host(host).v4.to_string());
    let inside = amphora.haproxy_netns().unwrap();
    for server in &servers {
        inside.run(["ip", "neigh", "add", server, "lladdr", "02:00:00:00:00:91", "dev", "eth1"]).unwrap();
    }
    let resolv = servers.map(|server| format!("nameserver {server}\n")).concat();
    amphora.node().write_file("/etc/resolv.conf", resolv, 0o644).unwrap();
    let listener = format!("/1.0/listeners/{}/{LISTENER}/udp_listener", amphora.id());
    // As large as with many members and an HTTP monitor.
    let good = "net_namespace amphora-haproxy\n".to_owned() + &"# a member's line\n".repeat(120_000);
    assert_eq!(put(&mut api, &listener, good.clone()).unwrap().status, 200);
    for (line, bad) in [
        (2, "net_namespace nowhere\ngarbage\n"),
        (4, "net_namespace amphora-haproxy\nvirtual_server_group g {\n}\n}\n"),
        (2, "vrrp_instance x {\n  priority\n}\n"),
        (1, "vrrp_instance x \"{\n}\n"),
    ] {
        let reply = put(&mut amphora.api().unwrap(), &listener, bad).unwrap();
        let refused = (reply.status, reply.text().contains(&format!("(Line {line})")));
        assert_eq!(refused, (400, true), "{bad}: {}", reply.text());
    }
    let stored = amphora.api().unwrap().get(&format!("/1.0/listeners/{LISTENER}/udp_listener")).unwrap();
    assert_eq!(stored.text(), good);
}
