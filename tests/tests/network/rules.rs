//! The firewall of a SR-IOV VIP.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Duration;

use lab::{Amphora, Api, Family, wait_for};
use serde_json::{Value, json};

use crate::support::{PATIENCE, Site};

const VIP: [u8; 4] = [192, 0, 2, 77];

fn plug(site: &Site, api: &mut Api) {
    let body = json!({
        "subnet_cidr": "192.0.2.0/25", "gateway": "192.0.2.1", "mac_address": site.amphora().frontend_mac(),
        "vrrp_ip": site.amphora().frontend(Family::V4), "is_sriov": true,
    });
    api.plug_vip(IpAddr::from(VIP), &body).unwrap().success().unwrap();
}

fn set(api: &mut Api, amphora: &Amphora, rules: &Value) -> lab::Reply {
    api.put(&format!("/1.0/interface/{}/rules", amphora.frontend(Family::V4)), rules).unwrap()
}

/// Which of the ports somebody on the VIP's network reaches.
fn reached(site: &Site, ports: &[u16]) -> Vec<u16> {
    let from = site.fabric.tors[0].node();
    let reach = |port: &&u16| from.connect(SocketAddr::from((VIP, **port)), Duration::from_millis(300)).is_ok();
    ports.iter().filter(reach).copied().collect()
}

#[test]
fn a_virtual_functions_vip_lets_in_what_it_is_told_and_nothing_before() {
    let site = Site::new("network-rules");
    let mut api = site.start();
    plug(&site, &mut api);
    let ports = [80, 81];
    let listen = || ports.map(|port| TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], port))).unwrap());
    let _listeners = site.inside().within(listen).unwrap();
    assert_eq!(reached(&site, &ports), [] as [u16; 0]);
    // It was there before the link was up.
    let log = std::fs::read_to_string(site.amphora().agent().unwrap().log()).unwrap();
    let line = |step: &str| log.lines().position(|l| l.contains(step)).unwrap();
    assert!(line("step=Filter") < line("step=SetUp"), "{log}");

    // The first call counts already; each replaces the one before.
    for (rules, open) in [
        (json!([{"protocol": "TCP", "cidr": null, "port": 80}]), vec![80]),
        (
            json!([{"protocol": "TCP", "cidr": "192.0.2.0/25", "port": 81}, {"protocol": "VRRP", "cidr": null, "port": 112}]),
            vec![81],
        ),
        (
            json!([{"protocol": "TCP", "cidr": "203.0.113.0/24", "port": 80}, {"protocol": "TCP", "cidr": "2001:db8::/32", "port": 81}]),
            vec![],
        ),
        (
            json!([{"protocol": "TCP", "cidr": "0.0.0.0/0", "port": 80}, {"protocol": "SCTP", "cidr": "::/0", "port": 9}, {"protocol": "UDP", "cidr": "::1/128", "port": 53}]),
            vec![80],
        ),
        (json!([]), vec![]),
        (json!([{"protocol": "TCP", "cidr": null, "port": 80}]), vec![80]),
    ] {
        let reply = set(&mut api, site.amphora(), &rules);
        assert_eq!((reply.status, reply.json()), (200, json!({"message": "OK"})), "{rules}");
        assert_eq!(reached(&site, &ports), open, "{rules}");
    }
    let bad = set(&mut api, site.amphora(), &json!([{"protocol": "TCP", "cidr": "0.0.0.0/0 accept", "port": 81}]));
    assert_eq!((bad.status, &bad.json()["error"]), (400, &json!("400 Bad Request: Invalid rules information")));
    let none = api.put("/1.0/interface/192.0.2.99/rules", &json!([])).unwrap();
    assert_eq!((none.status, none.json()), (404, json!({"message": "Error interface not found for IP address"})));
    let not = api.put("/1.0/interface/x/rules", &json!([])).unwrap();
    assert_eq!((not.status, not.json()), (400, json!({"message": "Invalid IP address"})));
    assert_eq!(reached(&site, &ports), [80]);

    // What another program takes away, and what a reboot takes away, is put back.
    let table = || site.inside().run(["nft", "list", "table", "inet", "amphora_table"]);
    let ours = table().unwrap();
    site.inside().run(["nft", "delete", "table", "inet", "amphora_table"]).unwrap();
    site.amphora().kill_agent().unwrap();
    let mut api = site.start();
    wait_for("the firewall is back", PATIENCE, || table().map_err(|e| e.to_string())).unwrap();
    assert_eq!(table().unwrap(), ours);
    let file = site.amphora().node().read_file("/var/lib/octavia/nftables-vip.rules").unwrap();
    assert!(file.contains("tcp dport 80 accept"), "{file}");

    // And with the VIP it goes.
    api.unplug_vip(IpAddr::from(VIP)).unwrap().success().unwrap();
    assert!(table().is_err());
    assert!(site.amphora().node().read_file("/var/lib/octavia/nftables-vip.rules").is_err());
}
