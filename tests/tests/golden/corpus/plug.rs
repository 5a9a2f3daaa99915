//! Plugging: first all that is refused, then what is done, then the same again.

use crate::case::{Case, ask, json, request};

const VIP: &str = "/1.0/plug/vip/{vip4}";

pub(crate) fn cases() -> Vec<Case> {
    let good = r#"{"subnet_cidr":"192.0.2.0/25","gateway":"{gateway4}","mac_address":"{nic}","vrrp_ip":"{front4}",
        "mtu":1500,"host_routes":[{"destination":"203.0.113.0/24","nexthop":"{gateway4}"}],"unheard":"of",
        "additional_vips":[{"ip_address":"{vip6}","subnet_cidr":"2001:db8:2::/64","gateway":"{gateway6}",
        "host_routes":[]}]}"#;
    let mut cases = vec![
        ask("plug VIP: nothing", "POST", VIP),
        request("plug VIP: no content type", "POST", VIP, "", good.replace("{nic}", "fa:16:3e:ff:ff:ff")),
        request(
            "plug VIP: as text",
            "POST",
            VIP,
            "Content-Type: text/plain\r\n",
            good.replace("{nic}", "fa:16:3e:ff:ff:ff"),
        ),
        request(
            "plug VIP: as JSON of another name",
            "POST",
            VIP,
            "Content-Type: application/vnd.x+json\r\n",
            good.replace("{nic}", "fa:16:3e:ff:ff:ff"),
        ),
        request("plug VIP: any bytes", "POST", VIP, "Content-Type: application/json\r\n", [0xff, 0x00, 0xfe]),
    ];
    for (name, body) in [
        ("empty", ""),
        ("no JSON", "subnet_cidr"),
        ("half of it", "{\"subnet_cidr\":"),
        ("a list", "[]"),
        ("null", "null"),
        ("a text", "\"x\""),
        ("no keys", "{}"),
        ("no subnet", r#"{"gateway":null,"mac_address":"{nic}"}"#),
        ("no gateway", r#"{"subnet_cidr":"192.0.2.0/25","mac_address":"{nic}"}"#),
        ("no MAC", r#"{"subnet_cidr":"192.0.2.0/25","gateway":null}"#),
    ] {
        cases.push(json(&format!("plug VIP: {name}"), "POST", VIP, body));
    }
    for (name, from, to) in [
        ("a MAC that is nowhere", "{nic}", "fa:16:3e:ff:ff:ff"),
        ("a MAC that is none", "{nic}", "the NIC"),
        ("a MAC that is a number", "\"{nic}\"", "5"),
        ("a MAC that is null", "\"{nic}\"", "null"),
        ("a subnet that is none", "192.0.2.0/25", "the subnet"),
        ("a subnet with host bits", "192.0.2.0/25", "192.0.2.1/25"),
        ("a subnet that is null", "\"192.0.2.0/25\"", "null"),
        ("a front-end IP that is none", "{front4}", "192.0.2.999"),
        ("an additional VIP that is none", "\"{vip6}\"", "\"2001:db8::g\""),
        ("an additional VIP with a subnet that is none", "2001:db8:2::/64", "2001:db8:2::/129"),
        ("an additional VIP without its subnet", "\"subnet_cidr\":\"2001:db8:2::/64\",", ""),
        ("additional VIPs that are no list", "\"additional_vips\":[", "\"additional_vips\":5,\"x\":["),
    ] {
        let body = good.replace(from, to);
        assert_ne!(body, good, "{name}");
        cases.push(json(&format!("plug VIP: {name}"), "POST", VIP, &body));
    }
    for vip in ["x", "203.0.113.999", "203.0.113.0%2f24", "2001:db8::g", "%20203.0.113.7"] {
        let path = format!("/1.0/plug/vip/{vip}");
        cases.push(json(&format!("plug VIP: {vip} as address"), "POST", &path, good));
    }
    cases.extend([
        ask("plug VIP: nothing in the address's place", "POST", "/1.0/plug/vip/"),
        json("plug VIP", "POST", VIP, good),
        json("plug VIP: again", "POST", VIP, good),
        json("plug VIP: again, MAC in upper case", "POST", VIP, &good.replace("{nic}", "{NIC}")),
        json("plug VIP: again, another VIP", "POST", "/1.0/plug/vip/{vip6}", good),
        json("plug VIP: again, a subnet that is none", "POST", VIP, &good.replace("192.0.2.0/25", "x")),
        ask("interface of the VIP", "GET", "/1.0/interface/{vip4}"),
        ask("interface of the front-end IP", "GET", "/1.0/interface/{front4}"),
        ask("interface of the additional VIP", "GET", "/1.0/interface/{vip6}"),
        ask("interface of the additional VIP in full", "GET", "/1.0/interface/{VIP6 in full}"),
        ask("interface of the loopback address", "GET", "/1.0/interface/127.0.0.1"),
        ask("details after a plug", "GET", "/1.0/details").shapes(&["cpu", "memory", "disk", "load", "networks"]),
    ]);
    cases
}
