//! What is refused: with which status, naming the field and the way out, and with nothing changed by it.

use hyper::Method;
use lab::{Amphora, Api, Family};
use serde_json::{Value, json};

use crate::support::{Everything, PATIENCE, STATE, fabric, refused, running, start, vip, wait_route};

/// One refused call: method, path and body, the status, and what the answer says.
type Refusal<'a> = (Method, &'a str, Value, u16, &'a [&'a str]);

#[track_caller]
fn all_refused(amphora: &Amphora, api: &mut Api, refusals: &[Refusal<'_>]) {
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

/// The lab's body with one key changed, or without it.
fn with(amphora: &Amphora, pointer: &str, value: Value) -> Value {
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

#[test]
fn a_registration_with_an_unusable_field_is_a_400_and_a_contradicting_one_a_409_that_names_what_is_held() {
    let (fabric, mut api) = running("bad-registrations", 1);
    let amphora = &fabric.amphorae[0];
    let (own, hop) = (amphora.id(), amphora.frontend(Family::V4));
    fabric.tors[0].wait_established(amphora.management(Family::V4), PATIENCE).unwrap();
    api.plug_vip(vip().v4.into(), &amphora.plug_body(vip())).unwrap().success().unwrap();
    api.register(own, vip().v4.into(), hop, None).unwrap().success().unwrap();
    api.register("other", "203.0.113.50".parse().unwrap(), "192.0.2.77".parse().unwrap(), Some("tor-0")).unwrap();
    for vip in ["203.0.113.7", "203.0.113.50"] {
        wait_route(&mut api, vip.parse().unwrap(), "ACTIVE", "ONLINE");
    }
    let body = |id: &str, vip: &str, hop: &str| json!({"amphora_id": id, "vip_ip": vip, "nexthop_ip": hop});
    let with = |key: &str, value: Value| {
        let mut body = body("other", "203.0.113.60", "192.0.2.77");
        body[key] = value;
        body
    };
    let post = |body: Value, status: u16, words: &'static [&'static str]| -> Refusal<'static> {
        (Method::POST, "/1.0/distributor/amphorae", body, status, words)
    };
    let bad_vips = [
        "0.0.0.0",
        "127.0.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "ff02::1",
        "::ffff:203.0.113.9",
    ];
    let mut refusals: Vec<Refusal<'_>> =
        bad_vips.iter().map(|ip| post(with("vip_ip", (*ip).into()), 400, &["vip_ip"])).collect();
    refusals.extend(bad_vips.iter().map(|ip| post(with("nexthop_ip", (*ip).into()), 400, &["nexthop_ip"])));
    refusals.extend([
        post("{".into(), 400, &["Invalid request body"]),
        post("".into(), 400, &["Invalid request body"]),
        post("{} {}".into(), 400, &["Invalid request body"]),
        post(json!({}), 400, &["missing field `amphora_id`"]),
        post(json!({"amphora_id": "other", "vip_ip": "203.0.113.60"}), 400, &["missing field `nexthop_ip`"]),
        post(with("vip", "203.0.113.60".into()), 400, &["unknown field `vip`", "vip_ip"]),
        post(with("vip_ip", json!(7)), 400, &["vip_ip: invalid type"]),
        post(with("vip_ip", "203.0.113.0/24".into()), 400, &["vip_ip", "203.0.113.0/24"]),
        post(
            with("vip_ip", "198.51.100.9".into()),
            400,
            &["vip_ip", "allowed_prefixes", "203.0.113.0/24, 2001:db8:100::/48"],
        ),
        post(with("nexthop_ip", "192.0.2.256".into()), 400, &["nexthop_ip", "192.0.2.256"]),
        post(with("nexthop_ip", "198.51.100.9".into()), 400, &["nexthop_ip", "allowed_nexthops", "192.0.2.0/25"]),
        post(with("nexthop_ip", "2001:db8:2::77".into()), 400, &["nexthop_ip", "family", "203.0.113.60"]),
        post(with("nexthop_ip", "203.0.113.60".into()), 400, &["nexthop_ip", "front-end IP"]),
        post(with("peer_id", "tor-9".into()), 400, &["peer_id", "tor-9", "there are tor-0"]),
        post(with("peer_id", "a b".into()), 400, &["peer_id"]),
        post(with("peer_id", "".into()), 400, &["peer_id"]),
        post(with("amphora_id", "".into()), 400, &["amphora_id"]),
        post(with("amphora_id", "a/b".into()), 400, &["amphora_id"]),
        post(with("amphora_id", "..".into()), 400, &["amphora_id"]),
        post(with("amphora_id", "x".repeat(65).into()), 400, &["amphora_id", "64"]),
        // What is held: one next hop a VIP, and the way out of it.
        post(
            body("other", "203.0.113.50", "192.0.2.78"),
            409,
            &["vip_ip 203.0.113.50", "amphora_id other with nexthop_ip 192.0.2.77", "DELETE"],
        ),
        post(
            body("third", "203.0.113.50", "192.0.2.77"),
            409,
            &["vip_ip 203.0.113.50", "amphora_id other with nexthop_ip 192.0.2.77", "DELETE"],
        ),
        post(
            body("other", "203.0.113.7", "192.0.2.77"),
            409,
            &["vip_ip 203.0.113.7", "nexthop_ip 192.0.2.11", "DELETE"],
        ),
        // What is plugged.
        post(body("other", "203.0.113.60", "192.0.2.11"), 409, &["amphora_id other", "this amphora is 00000000-"]),
        post(body("other", "2001:db8:100::7", "2001:db8:2::77"), 409, &["amphora_id other", "2001:db8:100::7"]),
        post(body(own, "2001:db8:100::7", "2001:db8:2::77"), 409, &["nexthop_ip 2001:db8:2::77", "2001:db8:2::11"]),
    ]);
    let vips = "/1.0/distributor/vips";
    refusals.extend([
        (
            Method::POST,
            vips,
            json!({"vip_ip": "2001:db8:100::7", "nexthop_ip": "2001:db8:2::11"}),
            409,
            &["this amphora's", "POST /1.0/distributor/amphorae"][..],
        ),
        (Method::POST, vips, json!({"vip_ip": "203.0.113.50", "nexthop_ip": "192.0.2.77"}), 409, &["amphora_id other"]),
        (
            Method::POST,
            vips,
            json!({"vip_ip": "203.0.113.61", "nexthop_ip": "192.0.2.77", "amphora_id": "x"}),
            400,
            &["unknown field `amphora_id`"],
        ),
        (Method::GET, "/1.0/distributor/amphorae?vip_ip=x", Value::Null, 400, &["Invalid query", "vip_ip"]),
        (Method::GET, "/1.0/distributor/amphorae?vip=203.0.113.7", Value::Null, 400, &["Invalid query", "vip_ip"]),
        (Method::DELETE, "/1.0/distributor/amphorae/other?vip_ip=x", Value::Null, 400, &["Invalid query", "vip_ip"]),
        (Method::DELETE, "/1.0/distributor/amphorae/other?peer=tor-0", Value::Null, 400, &["Invalid query", "peer_id"]),
        (
            Method::DELETE,
            "/1.0/distributor/amphorae/other?peer_id=a%20b",
            Value::Null,
            400,
            &["Invalid query", "peer_id"],
        ),
        (Method::DELETE, "/1.0/distributor/vips/x", Value::Null, 400, &["Invalid vip", "'x'"]),
    ]);
    let all_but_one = format!("/1.0/distributor/amphorae/{own}?peer_id=tor-0");
    refusals.push((
        Method::DELETE,
        &all_but_one,
        Value::Null,
        409,
        &["for all peers", "peer_id tor-0", "leave peer_id out"],
    ));
    all_refused(amphora, &mut api, &refusals);
}

#[test]
fn a_vip_that_is_never_announced_and_an_amphora_without_bgp_refuse_registrations() {
    let fabric = fabric("no-bgp", 1);
    let amphora = &fabric.amphorae[0];
    let hop = amphora.frontend(Family::V4);
    let mut api = start(amphora);
    for mode in ["noarp", "interface"] {
        let body = with(amphora, "/vip_mode", mode.into());
        api.plug_vip(vip().v4.into(), &body).unwrap().success().unwrap();
        let reply = api.register(amphora.id(), vip().v4.into(), hop, None).unwrap();
        refused(&reply, 409, &["203.0.113.7", "vip_mode", "anycast"]);
        api.unplug_vip(vip().v4.into()).unwrap().success().unwrap();
    }
    amphora.stop_agent().unwrap();
    amphora.write_config("[distributor]\nvip_mode = anycast\n").unwrap();
    let mut api = start(amphora);
    api.plug_vip(vip().v4.into(), &amphora.plug_body(vip())).unwrap().success().unwrap();
    let reply = api.register(amphora.id(), vip().v4.into(), hop, None).unwrap();
    refused(&reply, 409, &["Nothing can be announced", "[bgp]", "[bgp_peer:NAME]"]);
    assert_eq!(api.peers().unwrap().json(), json!([]));
    assert_eq!(api.amphorae().unwrap().json(), json!([]));
}
