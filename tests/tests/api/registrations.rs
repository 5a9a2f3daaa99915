//! Registrations that are refused, and whatever else is wrong with the distributor's calls.

use hyper::Method;
use lab::{Api, Fabric, Family};
use serde_json::{Value, json};

use crate::refusals::{Refusal, all_refused, with};
use crate::support::{PATIENCE, fabric, refused, running, start, vip, wait_route};

/// An amphora that serves the VIP, registered to all, and announces 203.0.113.50 for another one to tor-0 alone.
fn holding(name: &str) -> (Fabric, Api) {
    let (fabric, mut api) = running(name, 1);
    let (amphora, foreign) = (&fabric.amphorae[0], "192.0.2.77".parse().unwrap());
    fabric.tors[0].wait_established(amphora.management(Family::V4), PATIENCE).unwrap();
    api.plug_vip(vip().v4.into(), &amphora.plug_body(vip())).unwrap().success().unwrap();
    api.register(amphora.id(), vip().v4.into(), amphora.frontend(Family::V4), None).unwrap().success().unwrap();
    api.register("other", "203.0.113.50".parse().unwrap(), foreign, Some("tor-0")).unwrap().success().unwrap();
    for vip in ["203.0.113.7", "203.0.113.50"] {
        wait_route(&mut api, vip.parse().unwrap(), "ACTIVE", "ONLINE");
    }
    (fabric, api)
}

fn amphora(id: &str, vip: &str, hop: &str) -> Value {
    json!({"amphora_id": id, "vip_ip": vip, "nexthop_ip": hop})
}

fn end_point(vip: &str, hop: &str) -> Value {
    json!({"vip_ip": vip, "nexthop_ip": hop})
}

/// A good registration with one key changed.
fn but(key: &str, value: impl Into<Value>) -> Value {
    let mut body = amphora("other", "203.0.113.60", "192.0.2.77");
    body[key] = value.into();
    body
}

fn post(of: &'static str, body: impl Into<Value>, status: u16, words: &'static [&'static str]) -> Refusal<'static> {
    (Method::POST, of, body.into(), status, words)
}

const AMPHORAE: &str = "/1.0/distributor/amphorae";
const VIPS: &str = "/1.0/distributor/vips";

#[test]
fn a_registration_with_an_unusable_field_is_a_400_that_names_it() {
    let (fabric, mut api) = holding("bad-registrations");
    let no_host = [
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
    let bad = |body: Value, words| post(AMPHORAE, body, 400, words);
    let mut refusals: Vec<_> = no_host.iter().map(|ip| bad(but("vip_ip", *ip), &["vip_ip"])).collect();
    refusals.extend(no_host.iter().map(|ip| bad(but("nexthop_ip", *ip), &["nexthop_ip"])));
    refusals.extend([
        bad("{".into(), &["Invalid request body"]),
        bad("".into(), &["Invalid request body"]),
        bad("{} {}".into(), &["Invalid request body"]),
        bad(json!({}), &["missing field `amphora_id`"]),
        bad(json!({"amphora_id": "other", "vip_ip": "203.0.113.60"}), &["missing field `nexthop_ip`"]),
        bad(but("vip", "203.0.113.60"), &["unknown field `vip`", "vip_ip"]),
        bad(but("vip_ip", 7), &["vip_ip: invalid type"]),
        bad(but("vip_ip", "203.0.113.0/24"), &["vip_ip", "203.0.113.0/24"]),
        bad(but("vip_ip", "198.51.100.9"), &["vip_ip", "allowed_prefixes (203.0.113.0/24, 2001:db8:100::/48)"]),
        bad(but("nexthop_ip", "192.0.2.256"), &["nexthop_ip", "192.0.2.256"]),
        bad(but("nexthop_ip", "198.51.100.9"), &["nexthop_ip", "allowed_nexthops (192.0.2.0/25, 2001:db8:2::/64)"]),
        bad(but("nexthop_ip", "2001:db8:2::77"), &["nexthop_ip", "family", "203.0.113.60"]),
        bad(but("nexthop_ip", "203.0.113.60"), &["nexthop_ip", "front-end IP"]),
        bad(but("peer_id", "tor-9"), &["peer_id", "tor-9", "there are tor-0"]),
        bad(but("peer_id", "a b"), &["peer_id"]),
        bad(but("peer_id", ""), &["peer_id"]),
        bad(but("amphora_id", ""), &["amphora_id"]),
        bad(but("amphora_id", "a/b"), &["amphora_id"]),
        bad(but("amphora_id", ".."), &["amphora_id"]),
        bad(but("amphora_id", "x".repeat(65)), &["amphora_id", "64"]),
        post(VIPS, but("peer_id", "tor-0"), 400, &["unknown field `amphora_id`"]),
        post(VIPS, end_point("203.0.113.300", "192.0.2.77"), 400, &["vip_ip", "203.0.113.300"]),
        post(VIPS, end_point("198.51.100.9", "192.0.2.77"), 400, &["vip_ip", "allowed_prefixes"]),
        post(VIPS, end_point("203.0.113.60", "198.51.100.9"), 400, &["nexthop_ip", "allowed_nexthops"]),
    ]);
    let queries = [
        (Method::GET, "amphorae?vip_ip=x", "vip_ip"),
        (Method::GET, "amphorae?vip=203.0.113.7", "vip_ip"),
        (Method::GET, "vips?vip_ip=203.0.113.0%2F24", "vip_ip"),
        (Method::DELETE, "amphorae/other?vip_ip=x", "vip_ip"),
        (Method::DELETE, "amphorae/other?nexthop_ip=x", "nexthop_ip"),
        (Method::DELETE, "amphorae/other?peer=tor-0", "peer_id"),
        (Method::DELETE, "amphorae/other?peer_id=a%20b", "peer_id"),
        (Method::DELETE, "vips/203.0.113.50?amphora_id=other", "nexthop_ip"),
        (Method::DELETE, "vips/x", "'x'"),
    ];
    let queries = queries.map(|(method, path, word)| (method, format!("/1.0/distributor/{path}"), [word]));
    refusals.extend(
        queries.iter().map(|(method, path, words)| -> Refusal<'_> { (method.clone(), path, Value::Null, 400, words) }),
    );
    all_refused(&fabric.amphorae[0], &mut api, &refusals);
}

#[test]
fn a_registration_that_contradicts_another_or_a_plug_is_a_409_that_names_what_is_held_and_the_way_out() {
    let (fabric, mut api) = holding("contradictions");
    let own = fabric.amphorae[0].id();
    let taken = |body: Value, words| post(AMPHORAE, body, 409, words);
    let held: &[&str] = &[
        "vip_ip 203.0.113.50",
        "amphora_id other with nexthop_ip 192.0.2.77",
        "DELETE /1.0/distributor/amphorae/other",
    ];
    let refusals = [
        taken(amphora("other", "203.0.113.50", "192.0.2.78"), held),
        taken(amphora("third", "203.0.113.50", "192.0.2.77"), held),
        taken(
            amphora("other", "203.0.113.7", "192.0.2.77"),
            &["vip_ip 203.0.113.7", "nexthop_ip 192.0.2.11", "DELETE"],
        ),
        post(VIPS, end_point("203.0.113.50", "192.0.2.77"), 409, held),
        // This amphora's front-end IP, and its VIP, are nobody else's.
        taken(amphora("other", "203.0.113.60", "192.0.2.11"), &["amphora_id other", "this amphora is 00000000-"]),
        taken(amphora("other", "2001:db8:100::7", "2001:db8:2::77"), &["amphora_id other", "2001:db8:100::7"]),
        taken(amphora(own, "2001:db8:100::7", "2001:db8:2::77"), &["nexthop_ip 2001:db8:2::77", "2001:db8:2::11"]),
        post(
            VIPS,
            end_point("2001:db8:100::7", "2001:db8:2::11"),
            409,
            &["this amphora's", "POST /1.0/distributor/amphorae"],
        ),
        (
            Method::DELETE,
            &format!("{AMPHORAE}/{own}?peer_id=tor-0"),
            Value::Null,
            409,
            &["for all peers", "leave peer_id out"],
        ),
    ];
    all_refused(&fabric.amphorae[0], &mut api, &refusals);
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
