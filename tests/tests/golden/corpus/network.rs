//! Plugging member networks, and the VIP's own NIC once more.

use crate::case::{Case, ask, json, request};

const NETWORK: &str = "/1.0/plug/network";

pub(crate) fn cases() -> Vec<Case> {
    let good = r#"{"mac_address":"{member nic}","mtu":1400,"fixed_ips":[{"ip_address":"{member4}",
        "subnet_cidr":"192.0.2.0/25","host_routes":[]}]}"#;
    let two = good.replace(
        "\"fixed_ips\":[",
        "\"fixed_ips\":[{\"ip_address\":\"{second member4}\",\"subnet_cidr\":\"192.0.2.0/25\",\"gateway\":null,\
         \"host_routes\":[{\"destination\":\"203.0.113.128/25\",\"nexthop\":\"{gateway4}\"}]},",
    );
    let mut cases = vec![
        ask("plug network: wrong method", "GET", NETWORK),
        ask("plug network: nothing", "POST", NETWORK),
        request(
            "plug network: as text",
            "POST",
            NETWORK,
            "Content-Type: text/plain\r\n",
            good.replace("{member nic}", "fa:16:3e:ff:ff:ff"),
        ),
    ];
    for (name, body) in
        [("no JSON", "mac_address"), ("a list", "[]"), ("no keys", "{}"), ("no MAC", r#"{"fixed_ips":[]}"#)]
    {
        cases.push(json(&format!("plug network: {name}"), "POST", NETWORK, body));
    }
    for (name, from, to) in [
        ("a MAC that is nowhere", "{member nic}", "fa:16:3e:ff:ff:ff"),
        ("a MAC that is null", "\"{member nic}\"", "null"),
        ("an address that is none", "{member4}", "192.0.2.999"),
        ("an address that is null", "\"{member4}\"", "null"),
        ("an address without its subnet", "\"subnet_cidr\":\"192.0.2.0/25\",", ""),
        ("a subnet that is none", "192.0.2.0/25", "192.0.2.0/99"),
        ("fixed IPs that are no list", "\"fixed_ips\":[", "\"fixed_ips\":5,\"x\":["),
    ] {
        let body = good.replace(from, to);
        assert_ne!(body, good, "{name}");
        cases.push(json(&format!("plug network: {name}"), "POST", NETWORK, &body));
    }
    cases.extend([
        json("plug network", "POST", NETWORK, good),
        json("plug network: again", "POST", NETWORK, good),
        json("plug network: one address more", "POST", NETWORK, &two),
        ask("interface of a member network's address", "GET", "/1.0/interface/{member4}"),
        ask("interface of a member network's second address", "GET", "/1.0/interface/{second member4}"),
        json("plug network: one address less", "POST", NETWORK, good),
        ask("interface of an address that is gone", "GET", "/1.0/interface/{second member4}"),
        json(
            "plug network: the VIP's own NIC",
            "POST",
            NETWORK,
            r#"{"mac_address":"{nic}","mtu":1500,"fixed_ips":[{"ip_address":"{front4}","subnet_cidr":"192.0.2.0/25",
            "gateway":"{gateway4}","host_routes":[]}],"vip_net_info":{"vip":"{vip4}","subnet_cidr":"192.0.2.0/25",
            "gateway":"{gateway4}","vrrp_ip":"{front4}","host_routes":[],"additional_vips":[]}}"#,
        ),
        ask("interface of the VIP after its NIC was plugged again", "GET", "/1.0/interface/{vip4}"),
        ask("details after two plugs", "GET", "/1.0/details").shapes(&["cpu", "memory", "disk", "load", "networks"]),
    ]);
    cases
}
