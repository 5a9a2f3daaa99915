//! Plugs that are refused: with which status, naming the field and the way out, and with nothing changed by it.

use hyper::Method;
use lab::{Amphora, Api};
use serde_json::{Value, json};

use crate::support::{Everything, STATE, refused, running, vip};

/// One refused call: method, path and body, the status, and what the answer says.
pub(crate) type Refusal<'a> = (Method, &'a str, Value, u16, &'a [&'a str]);

#[track_caller]
pub(crate) fn all_refused(amphora: &Amphora, api: &mut Api, refusals: &[Refusal<'_>]) {
    let before = Everything::of(amphora);
    let routes =
        |api: &mut Api| ["amphorae", "vips"].map(|of| api.get(&format!("/1.0/distributor/{of}")).unwrap().json());
    let listed = routes(api);
    for (method, path, body, status, words) in refusals {
        // Text stands for a body that is no JSON.
        let bytes = body.as_str().map_or_else(|| body.to_string(), str::to_owned).into_bytes();
        let reply = api.send(method.clone(), path, &[], bytes).unwrap();
        println!("{method} {path} {body}: {} {}", reply.status, reply.text());
        refused(&reply, *status, words);
        assert_eq!(routes(api), listed, "{method} {path} {body}");
    }
    assert_eq!(Everything::of(amphora), before);
}

/// The lab's plug body with one key changed, or without it.
pub(crate) fn with(amphora: &Amphora, pointer: &str, value: Value) -> Value {
    let mut body = amphora.plug_body(vip());
    if value == "ABSENT" {
        body.as_object_mut().unwrap().remove(&pointer[1..]);
        return body;
    }
    match body.pointer_mut(pointer) {
        Some(place) => *place = value,
        None => body[&pointer[1..]] = value,
    }
    body
}

#[test]
fn a_plug_with_an_unusable_field_is_a_400_that_names_it() {
    let (fabric, mut api) = running("bad-plugs", 1);
    let amphora = &fabric.amphorae[0];
    let management = amphora.node().read_file("/sys/class/net/eth0/address").unwrap();
    let change = |pointer: &str, value: Value| with(amphora, pointer, value);
    let subnet = "Invalid subnet information";
    let path = "/1.0/plug/vip/203.0.113.7";
    let mut refusals: Vec<Refusal<'_>> = Vec::new();
    let no_json: [(Value, &[&str]); 4] = [
        ("{".into(), &[subnet]),
        ("".into(), &[subnet]),
        (json!([]), &[subnet]),
        (json!({}), &[subnet, "subnet_cidr"]),
    ];
    refusals.extend(no_json.map(|(body, words)| (Method::POST, path, body, 400, words)));
    let fields: [(&str, Value, &[&str]); 28] = [
        ("/mac_address", "ABSENT".into(), &[subnet, "mac_address"]),
        ("/subnet_cidr", "ABSENT".into(), &[subnet, "subnet_cidr"]),
        ("/gateway", "ABSENT".into(), &[subnet, "gateway"]),
        ("/mac_address", json!(5), &[subnet, "mac_address"]),
        ("/mac_address", "fa:16:3e:00:00".into(), &[subnet, "mac_address"]),
        ("/mac_address", "01:00:5e:00:00:01".into(), &[subnet, "mac_address"]),
        ("/mac_address", "ff:ff:ff:ff:ff:ff".into(), &[subnet, "mac_address"]),
        ("/mac_address", management.trim().into(), &["mac_address", "management interface eth0"]),
        ("/mac_address", management.trim().to_uppercase().into(), &["mac_address", "management interface eth0"]),
        ("/subnet_cidr", "192.0.2.0/33".into(), &["Invalid VIP", "subnet_cidr", "192.0.2.0/33"]),
        ("/subnet_cidr", "192.0.2.7/25".into(), &["Invalid VIP", "subnet_cidr", "did you mean 192.0.2.0/25"]),
        ("/gateway", "192.0.2.300".into(), &[subnet, "gateway"]),
        ("/gateway", "2001:db8::1".into(), &[subnet, "gateway"]),
        ("/vrrp_ip", "192.0.2".into(), &["Invalid VRRP Address", "192.0.2"]),
        ("/vrrp_ip", "198.51.100.77".into(), &["Invalid VRRP Address", "subnet_cidr 192.0.2.0/25"]),
        ("/mtu", json!(1279), &[subnet, "mtu", "1280"]), // there is an IPv6 VIP
        ("/mtu", json!(65_536), &[subnet, "mtu", "65535"]),
        ("/mtu", json!(-1), &[subnet, "mtu"]),
        (
            "/host_routes",
            json!([{"destination": "x", "nexthop": "192.0.2.9"}]),
            &[subnet, "host_routes[0].destination"],
        ),
        (
            "/host_routes",
            json!([{"destination": "198.18.0.0/15", "nexthop": "::1"}]),
            &[subnet, "host_routes[0].nexthop"],
        ),
        ("/additional_vips/0/ip_address", "203.0.113.7".into(), &["Invalid VIP", "additional_vips[0]", "named twice"]),
        ("/additional_vips/0/ip_address", "2001:db8:100:".into(), &["Invalid VIP", "additional_vips[0].ip_address"]),
        ("/additional_vips/0/ip_address", "2001:db8:999::1".into(), &["Invalid VIP", "allowed_prefixes"]),
        ("/frontend_ips/0/ip_address", "192.0.2.200".into(), &[subnet, "frontend_ips[0].ip_address", "192.0.2.0/25"]),
        ("/frontend_ips/0/ip_address", "192.0.2.12".into(), &[subnet, "frontend_ips[0]", "second address"]),
        ("/frontend_ips/1/subnet_cidr", "2001:db8:2::/129".into(), &[subnet, "frontend_ips[1].subnet_cidr"]),
        ("/vip_mode", "unicast".into(), &[subnet, "vip_mode", "anycast"]),
        ("/additional_vips", json!({}), &[subnet, "additional_vips"]),
    ];
    refusals.extend(fields.map(|(pointer, value, words)| (Method::POST, path, change(pointer, value), 400, words)));
    let whole = amphora.plug_body(vip());
    let paths: [(&str, &[&str]); 9] = [
        ("203.0.113.777", &["Invalid VIP", "203.0.113.777"]),
        ("203.0.113.0%2F24", &["Invalid VIP"]),
        ("%00", &["Invalid VIP"]),
        ("..%2F..%2Fetc", &["Invalid VIP"]),
        ("198.51.100.77", &["Invalid VIP", "198.51.100.77 is outside [distributor] allowed_prefixes"]),
        ("0.0.0.0", &["Invalid VIP"]),
        ("127.0.0.1", &["Invalid VIP"]),
        ("224.0.0.1", &["Invalid VIP"]),
        ("fe80::1", &["Invalid VIP"]),
    ];
    let paths = paths.map(|(vip, words)| (format!("/1.0/plug/vip/{vip}"), words));
    refusals.extend(paths.iter().map(|(path, words)| (Method::POST, path.as_str(), whole.clone(), 400, *words)));
    all_refused(amphora, &mut api, &refusals);
    assert!(!amphora.node().within(|| std::fs::exists(STATE)).unwrap().unwrap(), "there is nothing to remember");
}

/// The controller tries again on exactly these words, and counts exactly that 409 as success.
#[test]
fn a_nic_that_is_nowhere_is_upstreams_404_and_one_that_is_plugged_a_409_whatever_the_body() {
    let (fabric, mut api) = running("nics", 1);
    let amphora = &fabric.amphorae[0];
    let before = Everything::of(amphora);
    for mac in ["fa:16:3e:99:99:99", "FA:16:3E:99:99:99"] {
        let reply = api.plug_vip(vip().v4.into(), &with(amphora, "/mac_address", mac.into())).unwrap();
        refused(&reply, 404, &[]);
        assert_eq!(reply.text(), r#"{"details":"No suitable network interface found"}"#);
    }
    assert_eq!(Everything::of(amphora), before);

    api.plug_vip(vip().v4.into(), &amphora.plug_body(vip())).unwrap().success().unwrap();
    let words: &[&str] = &["Interface already exists"];
    let conflict = |vip: &'static str, pointer: &str, value: Value| -> Refusal<'static> {
        (Method::POST, vip, with(amphora, pointer, value), 409, words)
    };
    let (same, other) = ("/1.0/plug/vip/203.0.113.7", "/1.0/plug/vip/203.0.113.8");
    let refusals = [
        conflict(same, "/mtu", json!(1500)),
        conflict(same, "/mtu", json!(9)),
        conflict(same, "/vip_mode", "interface".into()),
        conflict(same, "/vrrp_ip", "not an address".into()),
        conflict(same, "/mac_address", amphora.frontend_mac().to_uppercase().into()),
        conflict(other, "/mtu", json!(1400)),
        conflict("/1.0/plug/vip/2001:db8:100::7", "/subnet_cidr", "x".into()),
        conflict("/1.0/plug/vip/nonsense", "/additional_vips", json!([])),
    ];
    all_refused(amphora, &mut api, &refusals);
    let reply = api.plug_vip(vip().v4.into(), &amphora.plug_body(vip())).unwrap();
    assert_eq!(reply.json(), json!({"message": "Interface already exists"}));
}

/// Which of them the controller means, nobody can know.
#[test]
fn a_mac_that_two_nics_have_is_a_400_that_names_both() {
    let (fabric, mut api) = running("same-mac", 1);
    let amphora = &fabric.amphorae[0];
    fabric.frontend.plug(amphora.node(), "ens8", Some(&amphora.frontend_mac())).unwrap();
    let words: &[&str] = &["Invalid subnet information", "mac_address", "ens7", "ens8"];
    let refusal = (Method::POST, "/1.0/plug/vip/203.0.113.7", amphora.plug_body(vip()), 400, words);
    all_refused(amphora, &mut api, &[refusal]);
    amphora.node().ip("link del ens8").unwrap();
    api.plug_vip(vip().v4.into(), &amphora.plug_body(vip())).unwrap().success().unwrap();
}
