use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn body() -> Value {
    json!({
        "subnet_cidr": "192.0.2.0/24", "gateway": "192.0.2.1", "mac_address": "FA:16:3E:00:00:01",
        "vrrp_ip": "192.0.2.10", "mtu": 1450, "lb_id": "unknown keys are accepted",
        "host_routes": [{"destination": "198.51.100.7/24", "nexthop": "192.0.2.9"}],
        "additional_vips": [{"ip_address": "2001:DB8:100::7", "subnet_cidr": "2001:db8:1::/64", "gateway": "2001:db8:1::1"}],
        "frontend_ips": [{"ip_address": "2001:db8:1::10", "subnet_cidr": "2001:db8:1::/64", "gateway": "2001:db8:1::1"}],
    })
}

fn policy() -> Policy {
    let prefixes = ["203.0.113.0/24", "2001:db8:100::/48"];
    Policy { allowed_prefixes: prefixes.map(|p| p.parse().unwrap()).into(), ..Policy::default() }
}

fn check(vip: &str, body: &Value) -> Result<Wanted, ApiError> {
    let (mac, plug) = parse(&serde_json::to_vec(body).unwrap())?;
    plug.check(vip, mac, VipMode::Anycast, &policy())
}

fn refused(vip: &str, body: &Value) -> (Status, String) {
    match check(vip, body).unwrap_err() {
        ApiError::Fault(status, fault) => (status, serde_json::to_string(&fault).unwrap()),
        ApiError::Http(status, fault) => (status, serde_json::to_string(&fault).unwrap()),
    }
}

#[test]
fn a_dual_stack_plug_comes_whole() {
    let wanted = check("203.0.113.7", &body()).unwrap();
    assert_eq!(wanted.mac.to_string(), "fa:16:3e:00:00:01");
    assert_eq!(wanted.vips.iter().map(|v| v.ip.to_string()).collect::<Vec<_>>(), ["203.0.113.7", "2001:db8:100::7"]);
    assert_eq!(wanted.frontends.iter().map(|f| f.ip.to_string()).collect::<Vec<_>>(), ["192.0.2.10", "2001:db8:1::10"]);
    assert_eq!(wanted.vips[0].host_routes[0].destination.to_string(), "198.51.100.0/24");
    assert_eq!((wanted.mode, wanted.mtu), (VipMode::Anycast, Some(1450)));
}

#[test]
fn what_upstream_takes_is_taken() {
    let bare = json!({"subnet_cidr": "192.0.2.0/24", "gateway": null, "mac_address": "fa:16:3e:00:00:01", "vip_mode": "interface",
        "mtu": null, "vrrp_ip": null, "host_routes": null, "additional_vips": null, "is_sriov": null});
    let wanted = check("192.0.2.7", &bare).unwrap();
    assert_eq!((wanted.mode, wanted.frontends.len(), wanted.is_sriov), (VipMode::Interface, 0, false));
}

#[test]
fn every_unusable_field_is_named() {
    let with = |key: &str, value: Value| {
        let mut body = body();
        body[key] = value;
        body
    };
    let additional =
        |ip: &str| with("additional_vips", json!([{"ip_address": ip, "subnet_cidr": "192.0.2.0/24", "gateway": null}]));
    let frontend = |subnet: &str| {
        with("frontend_ips", json!([{"ip_address": "192.0.2.11", "subnet_cidr": subnet, "gateway": null}]))
    };
    let route = |to: &str, via: &str| with("host_routes", json!([{"destination": to, "nexthop": via}]));
    let cases = [
        ("nonsense", body(), "Invalid VIP: VIP: 'nonsense'"),
        ("127.0.0.1", body(), "Invalid VIP"),
        ("198.51.100.7", body(), "allowed_prefixes"),
        ("203.0.113.7", with("subnet_cidr", json!("192.0.2.5/24")), "did you mean 192.0.2.0/24?"),
        ("203.0.113.7", with("subnet_cidr", json!(5)), "subnet_cidr"),
        ("203.0.113.7", with("gateway", json!("x")), "gateway"),
        ("203.0.113.7", with("gateway", json!("2001:db8::1")), "gateway"),
        ("203.0.113.7", with("mac_address", json!("fa:16")), "mac_address"),
        ("203.0.113.7", with("mac_address", json!("ff:ff:ff:ff:ff:ff")), "mac_address"),
        ("203.0.113.7", with("vrrp_ip", json!("198.51.100.1")), "Invalid VRRP Address: vrrp_ip"),
        ("203.0.113.7", with("vrrp_ip", json!("x")), "Invalid VRRP Address"),
        ("203.0.113.7", with("mtu", json!(1000)), "1280"),
        ("203.0.113.7", with("mtu", json!(-1)), "mtu"),
        ("203.0.113.7", with("vip_mode", json!("magic")), "vip_mode"),
        ("203.0.113.7", route("0/0", "x"), "host_routes[0].destination"),
        ("203.0.113.7", route("::/0", "192.0.2.1"), "host_routes[0].nexthop"),
        ("203.0.113.7", additional("203.0.113.7"), "named twice"),
        ("203.0.113.7", frontend("192.0.2.0/24"), "one a family"),
        ("203.0.113.7", frontend("198.51.100.0/24"), "frontend_ips[0].ip_address"),
    ];
    for (vip, body, words) in cases {
        let (status, text) = refused(vip, &body);
        assert_eq!(status, Status::BadRequest, "{text}");
        assert!(text.contains(words), "{words} is not in {text}");
    }
    for key in ["subnet_cidr", "gateway", "mac_address"] {
        let mut body = body();
        body.as_object_mut().unwrap().remove(key);
        let (_, text) = refused("203.0.113.7", &body);
        assert!(text.contains("400 Bad Request: Invalid subnet information") && text.contains(key), "{text}");
    }
}

proptest! {
    /// Whatever arrives is taken or refused as 400, and never a panic.
    #[test]
    fn any_body_is_taken_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Err(ApiError::Fault(status, _) | ApiError::Http(status, _)) = parse(&bytes) {
            prop_assert_eq!(status, Status::BadRequest);
        }
    }

    #[test]
    fn any_value_in_any_field_is_taken_or_refused(
        key in "(subnet_cidr|gateway|mac_address|vrrp_ip|mtu)", text in ".{0,40}", vip in ".{0,40}",
    ) {
        let mut body = body();
        body[key] = Value::String(text);
        if let Err(ApiError::Fault(status, _) | ApiError::Http(status, _)) = check(&vip, &body) {
            prop_assert_eq!(status, Status::BadRequest);
        }
    }
}
