//! `role = distributor`: agent and gobgpd without haproxy, announcing for amphorae elsewhere.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]
#![allow(clippy::doc_markdown, reason = "ToR is a word here, not code")]

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use lab::heartbeats::{KEY, Receiver};
use lab::octavia::{call, environment};
use lab::{Api, Fabric, Family, Neighbours, Options, TorKind, addresses};
use serde_json::{Value, json};

/// A ceiling, for a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_mins(1);
const LB: &str = "6f4b2f0e-4a4e-4c1b-9f0a-0d3b7a1c2d3e";
const BOTH: [Family; 2] = [Family::V4, Family::V6];
/// Of an image without them; what is executed in their place cannot be.
const ABSENT: [&str; 3] = ["/usr/sbin/haproxy", "/usr/sbin/keepalived", "/usr/sbin/ipvsadm"];

/// Distributors behind one ToR, on machines without haproxy and keepalived, with their agents running.
fn distributors(name: &str, kind: TorKind, count: usize) -> (Fabric, Vec<Api>) {
    let mut options = Options::new(kind);
    options.amphorae = count;
    options.tors[0].neighbours = Neighbours::Each(Family::V4);
    let fabric = Fabric::new(name, &options).unwrap();
    for amphora in &fabric.amphorae {
        let sections = amphora.distributor_sections() + &fabric.tors[0].peer_section(Family::V4);
        // What it announces is registered, whatever announces the VIPs of an amphora's own.
        let sections = sections.replace("announce = api\n", "role = distributor\n");
        amphora.write_config(&sections).unwrap();
        for program in ABSENT {
            amphora
                .node()
                .run(["sh", "-c", &format!("[ ! -e {program} ] || mount --bind /dev/null {program}")])
                .unwrap();
        }
        assert!(amphora.node().run(["/usr/sbin/haproxy", "-v"]).is_err());
        amphora.start_agent(&[]).unwrap();
    }
    let apis = fabric.amphorae.iter().map(|amphora| amphora.wait_api(PATIENCE).unwrap().0).collect();
    (fabric, apis)
}

/// The next hop of an amphora on another machine: nothing here answers for it, and nothing has to.
fn elsewhere(number: u8, family: Family) -> IpAddr {
    addresses::FRONTEND.host(number).of(family)
}

#[test]
fn octavias_client_finds_a_distributor_well_and_no_load_balancer_in_it() {
    let test = "octavias_client_finds_a_distributor_well_and_no_load_balancer_in_it";
    if let Err(error) = environment() {
        return lab::skipped(test, &error.to_string());
    }
    let (fabric, _) = distributors(test, TorKind::Bird, 1);
    let amphora = &fabric.amphorae[0];
    let (identity, pem) = (fabric.pki.server(amphora.id(), &[amphora.management(Family::V4)]).unwrap(), "a.pem");
    let (lb, certificate) = (json!({ "object_id": LB }), json!({ "loadbalancer_id": LB, "pem_filename": pem }));
    let upload = json!({ "loadbalancer_id": LB, "pem_filename": pem, "pem_file": "x" });
    let agent_conf = amphora.node().read_file("/etc/octavia/amphora-agent.conf").unwrap();
    let good = [
        ("get_info", json!({}), 200),
        ("get_details", json!({}), 200),
        ("get_all_listeners", json!({}), 200),
        ("update_cert_for_rotation", json!({ "pem_file": identity.certificate + &identity.key }), 202),
        ("update_agent_config", json!({ "agent_config": agent_conf }), 202),
    ];
    let refused = [
        ("upload_config", json!({ "loadbalancer_id": LB, "config": "global\n" })),
        ("start_listener", lb.clone()),
        ("reload_listener", lb),
        ("upload_cert_pem", upload),
        ("get_cert_md5sum", certificate),
        ("upload_vrrp_config", json!({ "config": "vrrp_instance x {\n}\n" })),
        ("start_vrrp", json!({})),
        ("stop_vrrp", json!({})),
        ("reload_vrrp", json!({})),
        ("upload_udp_config", json!({ "listener_id": LB, "config": "net_namespace amphora-haproxy\n" })),
    ];
    let calls: Vec<(&str, Value)> = (good.iter().map(|(method, arguments, _)| (*method, arguments.clone())))
        .chain(refused.iter().cloned())
        .collect();
    let called = call(&fabric, amphora, &calls).unwrap();
    for ((method, _, status), called) in good.iter().zip(&called) {
        assert_eq!((called.exception.as_deref(), called.status()), (None, *status), "{method}: {called:?}");
    }
    let details = &called[1].value;
    assert_eq!((&details["haproxy_count"], &details["listeners"]), (&json!(0), &json!([])), "{details}");
    assert_eq!(called[2].value, json!([]));
    for ((method, _), called) in refused.iter().zip(&called[good.len()..]) {
        assert_eq!((called.exception.as_deref(), called.status()), (Some("NotFound"), 404), "{method}: {called:?}");
        let last = called.answers.last().unwrap();
        assert_eq!(last["content_type"], "application/json", "{method}");
        assert!(called.body()["message"].is_string() && called.body()["details"].is_string(), "{method}: {last}");
        assert_eq!(called.answers.len(), 1, "{method} is not tried again: {called:?}");
    }
    let mut api = amphora.api().unwrap();
    for path in [format!("/1.0/loadbalancer/{LB}/haproxy"), format!("/1.0/listeners/{LB}/udp_listener")] {
        assert_eq!(api.get(&path).unwrap().status, 404, "{path}");
    }
    let left = amphora.node().run(["sh", "-c", "ls /var/lib/octavia"]).unwrap();
    assert!(!left.contains(LB) && !left.contains("vrrp") && !left.contains("lvs"), "{left}");
    let status = api.get("/1.0/distributor/status").unwrap().success().unwrap().json();
    assert_eq!(status["configuration"]["role"], "distributor", "{status}");
}

/// The health manager wants version 3, and as many listeners as there are: none.
#[test]
fn heartbeats_of_a_distributor_have_no_listeners() {
    let (fabric, mut apis) = distributors("distributor-heartbeats", TorKind::Bird, 1);
    let amphora = &fabric.amphorae[0];
    let at = addresses::MANAGEMENT.host(addresses::CONTROLLER_HOST).of(Family::V4);
    let receiver = Receiver::new(&fabric.controller, SocketAddr::new(at, 5555)).unwrap();
    let conf = amphora.node().read_file("/etc/octavia/amphora-agent.conf").unwrap();
    let conf = conf.replace("controller_ip_port_list =", &format!("controller_ip_port_list = {at}:5555"));
    let conf = conf.replace("heartbeat_interval = 10", "heartbeat_interval = 1");
    let put = apis[0].send(hyper::Method::PUT, "/1.0/config", &[], conf.into_bytes()).unwrap();
    assert_eq!(put.status, 202, "{}", put.text());
    let beat = receiver.next(KEY, PATIENCE).unwrap().message;
    assert_eq!((&beat["id"], &beat["ver"]), (&json!(amphora.id()), &json!(3)), "{beat}");
    assert_eq!((&beat["listeners"], &beat["pools"]), (&json!({}), &json!({})), "{beat}");
}

/// One announces VIPs of several amphorae; two announce one VIP, and the ToR spreads over both next hops.
#[test]
fn distributors_announce_what_is_registered_and_the_tor_spreads_over_them() {
    let (fabric, mut apis) = distributors("distributors", TorKind::Frr, 2);
    let (tor, shared) = (&fabric.tors[0], addresses::vip(7));
    for amphora in &fabric.amphorae {
        tor.wait_established(amphora.management(Family::V4), PATIENCE).unwrap();
    }
    // The first announces two other VIPs, each of an amphora elsewhere.
    for (vip, hop) in [(addresses::vip(8), 80), (addresses::vip(9), 90)] {
        for family in BOTH {
            let amphora = format!("amphora-{hop}");
            apis[0].register(&amphora, vip.of(family), elsewhere(hop, family), None).unwrap().success().unwrap();
        }
    }
    for (api, hop) in apis.iter_mut().zip([70, 71]) {
        for family in BOTH {
            let amphora = format!("amphora-{hop}");
            api.register(&amphora, shared.of(family), elsewhere(hop, family), None).unwrap().success().unwrap();
        }
    }
    for family in BOTH {
        let hops = [70, 71].map(|hop| elsewhere(hop, family));
        tor.wait_next_hops(IpNet::from(shared.of(family)), &hops, PATIENCE).unwrap();
        for (vip, hop) in [(addresses::vip(8), 80), (addresses::vip(9), 90)] {
            tor.wait_next_hops(IpNet::from(vip.of(family)), &[elsewhere(hop, family)], PATIENCE).unwrap();
        }
    }
    // One speaker has one next hop for a prefix, and names the one it has.
    let second = apis[0].register("amphora-71", shared.v4.into(), elsewhere(71, Family::V4), None).unwrap();
    assert!(second.status == 409 && second.text().contains("amphora-70"), "{}", second.text());
    let why = apis[0].get(&format!("/1.0/distributor/why/{}", shared.v4)).unwrap().success().unwrap().json();
    assert!(why["announced"] == true && why["gates"] == json!([]), "{why}");
    assert!(why["notes"].to_string().contains("role = distributor"), "{why}");

    // Whoever leaves takes its own next hop with it.
    apis[0].unregister("amphora-70", "").unwrap().success().unwrap();
    for family in BOTH {
        tor.wait_next_hops(IpNet::from(shared.of(family)), &[elsewhere(71, family)], PATIENCE).unwrap();
        tor.wait_next_hops(IpNet::from(addresses::vip(8).of(family)), &[elsewhere(80, family)], PATIENCE).unwrap();
    }
}
