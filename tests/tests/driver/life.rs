//! The life of a load balancer, from its first plug to its last listener's deletion.

use std::net::SocketAddr;

use ipnet::IpNet;
use lab::Family;
use serde_json::{Value, json};

use crate::site::{Case, LB, PATIENCE, Site};

const V4: &[Family] = &[Family::V4];
const V6: &[Family] = &[Family::V6];
const DUAL: &[Family] = &[Family::V4, Family::V6];

/// Upstream's own agent answers it with 405: the client's method has outlived what it called.
const NOT_SERVED: &str = "get_listener_status";

macro_rules! lives {
    ($($name:ident: $standby:literal $families:ident $anycast:literal $sriov:literal;)*) => {$(
        #[test]
        fn $name() {
            live(Case {
                name: stringify!($name), standby: $standby, families: $families, anycast: $anycast, sriov: $sriov,
            });
        }
    )*};
}

lives! {
    // name: standby families anycast sriov;
    a_single_amphora_by_ipv4_as_a_virtual_function: false V4 false true;
    a_single_amphora_by_ipv6: false V6 false false;
    a_single_amphora_by_both: false DUAL false false;
    a_pair_by_ipv4: true V4 false false;
    a_pair_by_ipv6: true V6 false false;
    a_pair_by_both_as_a_virtual_function: true DUAL false true;
    a_single_amphora_routed_by_ipv6: false V6 true false;
    a_pair_routed_by_ipv4: true V4 true false;
    a_pair_routed_by_both: true DUAL true false;
}

fn live(case: Case) {
    let Some(mut site) = Site::new(case) else { return };
    let plugged = site.does("create_load_balancer", json!({ "load_balancer": site.load_balancer() }));
    let interfaces = if case.standby { json!(["eth1", "eth1"]) } else { json!([null]) };
    assert_eq!(plugged, interfaces);
    if case.standby && !case.anycast {
        for amphora in &site.fabric.amphorae {
            // The image sets them, for haproxy listens on a VIP that its amphora may not have.
            for family in ["ipv4", "ipv6"] {
                let key = format!("net/{family}/ip_nonlocal_bind");
                amphora.haproxy_netns().unwrap().sysctl(&key, "1").unwrap();
            }
        }
    }
    let listeners = json!([
        { "name": "http", "protocol": "HTTP", "port": 80 },
        { "name": "tcp", "protocol": "TCP", "port": 8080 },
        { "name": "tls", "protocol": "TERMINATED_HTTPS", "port": 443 },
        { "name": "udp", "protocol": "UDP", "port": 53 },
    ]);
    let ids = site.does("create_listeners", json!({ "listeners": listeners }));
    if case.anycast {
        announce(&site);
    }
    site.wait_served(&[80, 8080, 443]);
    looks(&mut site, &ids);

    for flow in ["update", "start", "reload", "update_agent_config"] {
        site.does(flow, json!({}));
        site.wait_served(&[80]);
    }
    for amphora in 0..site.fabric.amphorae.len() {
        assert_eq!(site.does("rotate", json!({ "amphora": amphora })), true, "the agent shows the new certificate");
    }
    if case.standby {
        site.does("reload_vrrp", json!({}));
        site.wait_served(&[80]);
        site.does("stop_vrrp", json!({}));
        site.wait_silent(&[80]);
        site.does("set_up_vrrp", json!({}));
        site.wait_served(&[80]);
        site.does("silence", json!({ "amphora": 0 }));
        site.wait_served(&[80]);
        site.does("set_up_vrrp", json!({}));
    }

    site.does("delete_listener", json!({ "name": "tcp" }));
    site.wait_silent(&[8080]);
    site.wait_served(&[80, 443]);
    site.does("delete_listener", json!({ "name": "udp" }));
    site.does("delete_listener", json!({ "name": "tls" }));
    site.wait_served(&[80]);
    for amphora in &site.fabric.amphorae {
        let certificates = amphora.node().run(["ls", &format!("/var/lib/octavia/certs/{LB}")]).unwrap_or_default();
        // The driver takes back the two certificates; crt-list and client CA stay, as with upstream's agent.
        assert_eq!(certificates.lines().count(), 2, "{certificates}");
    }
    site.does("delete_listener", json!({ "name": "http" }));
    site.wait_silent(&[80]);
    for amphora in 0..site.fabric.amphorae.len() {
        let seen = site.does("look", json!({ "amphora": amphora }));
        assert_eq!((&seen["listeners"], &seen["details"]["haproxy_count"]), (&json!([]), &json!(0)), "{seen}");
    }
    complete(&mut site);
}

/// What every amphora says of itself while all four listeners are there.
fn looks(site: &mut Site, ids: &Value) {
    for amphora in 0..site.fabric.amphorae.len() {
        let seen = site.does("look", json!({ "amphora": amphora }));
        let listed = seen["listeners"].as_array().unwrap();
        for (name, kind, status) in [
            ("http", "HTTP", "ACTIVE"),
            ("tcp", "TCP", "ACTIVE"),
            ("tls", "TERMINATED_HTTPS", "ACTIVE"),
            ("udp", "UDP", "OFFLINE"), // for it has no pool: a kernel without IPVS takes no virtual service
        ] {
            let expected = json!({ "uuid": ids[name], "type": kind, "status": status });
            assert!(listed.contains(&expected), "{expected}: {listed:?}");
        }
        let (details, counts) = (&seen["details"], ["haproxy_count", "lvs_listener_process_count"]);
        assert_eq!((listed.len(), counts.map(|key| &details[key])), (4, [&json!(1), &json!(1)]), "{seen}");
        assert_eq!(seen["interface"], "eth1");
    }
}

/// What a controller that knows of routed VIPs asks for, or an operator does by hand.
fn announce(site: &Site) {
    let case = site.case;
    for family in case.reachable() {
        let vip = case.vip(family);
        for amphora in &site.fabric.amphorae {
            let mut api = amphora.api().unwrap();
            api.register(amphora.id(), vip, amphora.frontend(family), None).unwrap().success().unwrap();
        }
        let hops: Vec<_> = site.fabric.amphorae.iter().map(|amphora| amphora.frontend(family)).collect();
        site.fabric.tors[0].wait_next_hops(IpNet::from(vip), &hops, PATIENCE).unwrap();
    }
    for amphora in &site.fabric.amphorae {
        let inside = amphora.haproxy_netns().unwrap();
        for family in case.families {
            let to = SocketAddr::new(case.vip(*family), 80);
            assert!(inside.connect(to, PATIENCE).is_ok(), "{to}: every VIP is bound, announced or not");
        }
        assert!(amphora.pids("keepalived").unwrap().len() <= 3, "that of the UDP listener alone");
    }
}

/// Every public method of driver and client has been called by now, and has succeeded.
fn complete(site: &mut Site) {
    let id = site.fabric.amphorae[0].id().to_owned();
    let address = site.fabric.amphorae[0].management(Family::V4);
    let asked = json!({
        "who": "client", "amphora": { "id": id, "lb_network_ip": address }, "method": NOT_SERVED,
        "arguments": { "listener_id": LB },
    });
    let (class, _) = site.controller.ask("call", asked).unwrap().raised();
    assert_eq!(class, "InvalidRequest");
    let report = site.does("report", json!({}));
    let spared = |method: &str| {
        method == NOT_SERVED
            || (!site.case.standby && method.contains("vrrp"))
            || (!site.case.sriov && method == "set_interface_rules")
    };
    for (who, least) in [("client", 27), ("driver", 20)] {
        let methods = report[who].as_object().unwrap();
        assert!(methods.len() >= least, "{who}: {methods:?}");
        let never = |(method, how): &(&String, &Value)| how["returned"] == 0 && !spared(method);
        let never: Vec<_> = methods.iter().filter(never).collect();
        assert!(never.is_empty(), "{who}: never called with success: {never:?}");
        let failed = |(method, how): &(&String, &Value)| how["raised"] != json!([]) && *method != NOT_SERVED;
        let failed: Vec<_> = methods.iter().filter(failed).collect();
        assert!(failed.is_empty(), "{who}: failed: {failed:?}");
    }
}
