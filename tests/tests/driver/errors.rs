//! Every error that driver and client tell apart, provoked for real.

use std::collections::BTreeSet;

use lab::Family;
use lab::controller::CA;
use serde_json::{Value, json};

use crate::site::{Case, LB, PATIENCE, Site};

const CASE: Case = Case { name: "errors", standby: false, families: &[Family::V4], anycast: false, sriov: false };
const FOREIGN: &str = "fa:16:3e:ff:ff:ff";

/// The exception, and its text, that the method of a new driver or client raises.
#[track_caller]
fn raised(site: &mut Site, who: &str, method: &str, arguments: &Value) -> (String, String) {
    let agent = &site.fabric.amphorae[0];
    let amphora = json!({ "id": agent.id(), "lb_network_ip": agent.management(Family::V4) });
    let call = json!({ "who": who, "amphora": amphora, "method": method, "arguments": arguments });
    site.controller.ask("call", call).unwrap().raised()
}

#[test]
fn every_error_the_driver_tells_apart_is_one_this_agent_gives() {
    let Some(mut site) = Site::new(CASE) else { return };
    site.fabric.amphorae[0].stop_agent().unwrap();
    let (class, text) = raised(&mut site, "driver", "get_info", &json!({ "raise_retry_exception": true }));
    assert_eq!(class, "AmpConnectionRetry", "{text}");
    assert_eq!(raised(&mut site, "client", "get_info", &json!({})).0, "TimeOutException");

    // The machine's disk is no memory file system.
    site.fabric.amphorae[0].write_config("[distributor]\nrequire_ramfs = true\n").unwrap();
    site.fabric.amphorae[0].start_agent(&[]).unwrap();
    site.fabric.amphorae[0].wait_api(PATIENCE).unwrap();
    let load_balancer = site.load_balancer();
    let vip = load_balancer["vip"]["ip_address"].clone();
    let info = |mac: &Value| {
        json!({
            "subnet_cidr": load_balancer["vip"]["cidr"], "gateway": load_balancer["vip"]["gateway_ip"],
            "mac_address": mac, "vrrp_ip": load_balancer["amphorae"][0]["vrrp_ip"], "mtu": 1500, "host_routes": [],
            "additional_vips": [], "is_sriov": false,
        })
    };
    let (ours, foreign) = (info(&load_balancer["amphorae"][0]["mac_address"]), info(&FOREIGN.into()));
    site.does("create_load_balancer", json!({ "load_balancer": load_balancer }));
    let plug = |vip: &Value, info: &Value| json!({ "vip": vip, "net_info": info });
    let port = |port: Value| json!({ "port": port });
    let pem = |name: &str| json!({ "loadbalancer_id": LB, "pem_filename": name });
    let garbage = json!({ "bytes": "gibberish {\n" });
    let rules = |ip: &str, rules: Value| json!({ "ip_address": ip, "rules": rules });
    let mut seen = BTreeSet::new();
    for (who, method, arguments, expected) in [
        ("client", "plug_vip", plug(&vip, &ours), "Conflict"),
        ("client", "plug_vip", plug(&"nonsense".into(), &foreign), "InvalidRequest"),
        ("client", "plug_vip", plug(&vip, &foreign), "TimeOutException"),
        ("client", "plug_network", port(json!({})), "InvalidRequest"),
        ("client", "plug_network", port(json!({ "mac_address": FOREIGN })), "TimeOutException"),
        ("client", "get_interface", json!({ "ip_addr": "192.0.2.99" }), "NotFound"),
        ("client", "get_interface", json!({ "ip_addr": "nonsense" }), "InvalidRequest"),
        ("driver", "get_interface_from_ip", json!({ "ip_address": "192.0.2.99" }), "NotFound"),
        ("client", "set_interface_rules", rules(vip.as_str().unwrap(), json!([{}])), "InvalidRequest"),
        ("driver", "set_interface_rules", rules("192.0.2.99", json!([])), "AmpDriverNotImplementedError"),
        ("client", "upload_config", json!({ "loadbalancer_id": LB, "config": garbage }), "InvalidRequest"),
        ("client", "start_listener", json!({ "object_id": LB }), "NotFound"),
        ("client", "reload_listener", json!({ "object_id": LB }), "NotFound"),
        ("client", "get_listener_status", json!({ "listener_id": LB }), "InvalidRequest"),
        ("client", "upload_udp_config", json!({ "listener_id": LB, "config": garbage }), "InvalidRequest"),
        ("client", "get_cert_md5sum", pem("a.pem"), "NotFound"),
        ("client", "delete_cert_pem", pem("a.sh"), "InvalidRequest"),
        (
            "client",
            "upload_cert_pem",
            json!({ "loadbalancer_id": LB, "pem_filename": "a.pem", "pem_file": "x" }),
            "ServiceUnavailable",
        ),
        ("client", "upload_vrrp_config", json!({ "config": garbage }), "InvalidRequest"),
        ("client", "start_vrrp", json!({}), "InternalServerError"),
        ("client", "reload_vrrp", json!({}), "InternalServerError"),
        ("driver", "upload_cert_amp", json!({ "pem": garbage }), "InvalidRequest"),
        ("driver", "update_amphora_agent_config", json!({ "agent_config": garbage }), "InternalServerError"),
    ] {
        let (class, text) = raised(&mut site, who, method, &arguments);
        assert_eq!(class, expected, "{who} {method} {arguments}: {text}");
        seen.insert(class);
    }
    // The classes that its client has for an answer, found by looking at it.
    let known = site.does("report", json!({}))["exceptions"].clone();
    let never: Vec<&Value> =
        known.as_array().unwrap().iter().filter(|class| !seen.contains(class.as_str().unwrap())).collect();
    // Whoever may not call is refused by TLS: there is no answer to raise these two for.
    assert_eq!(never, ["Forbidden", "Unauthorized"]);
    let stranger = site.fabric.pki.stranger();
    let pem = format!("{}{}", stranger.certificate, stranger.key);
    site.fabric.controller.write_file("/run/stranger.pem", pem, 0o600).unwrap();
    site.does("configure", json!({ "client_cert": "/run/stranger.pem", "server_ca": CA }));
    assert_eq!(raised(&mut site, "driver", "check", &json!({})).0, "TimeOutException");
}
