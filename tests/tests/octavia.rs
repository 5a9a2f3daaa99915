//! Octavia's own client, unpatched, against this agent: what the controller asks and what it makes of the answers.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]

use std::time::Duration;

use lab::octavia::{Called, call, environment};
use lab::{Fabric, Family, Options, TorKind, addresses};
use serde_json::{Value, json};

/// A ceiling, for a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_mins(1);
const LB: &str = "6f4b2f0e-4a4e-4c1b-9f0a-0d3b7a1c2d3e";

/// One amphora as the stock controller configures it; `None` without Octavia.
fn fabric(test: &str) -> Option<Fabric> {
    if let Err(error) = environment() {
        lab::skipped(test, &error.to_string());
        return None;
    }
    let mut options = Options::new(TorKind::Bird);
    options.amphorae = 1;
    let fabric = Fabric::new(test, &options).unwrap();
    fabric.amphorae[0].node().run(["mkdir", "-p", "/etc/octavia/amphora-agent.conf.d"]).unwrap();
    fabric.amphorae[0].start_agent(&[]).unwrap();
    fabric.amphorae[0].wait_api(PATIENCE).unwrap();
    Some(fabric)
}

/// The status of the answer and what the method returned: no exception.
#[track_caller]
fn ok(called: &Called, status: u64) -> &Value {
    assert_eq!((called.exception.as_deref(), called.status()), (None, status), "{called:?}");
    &called.value
}

#[track_caller]
fn raised(called: &Called, exception: &str, status: u64) {
    assert_eq!((called.exception.as_deref(), called.status()), (Some(exception), status), "{called:?}");
}

#[test]
fn octavias_client_is_told_what_the_amphora_is_and_how_it_does() {
    let Some(fabric) = fabric("octavias_client_is_told_what_the_amphora_is_and_how_it_does") else { return };
    let amphora = &fabric.amphorae[0];
    let node = amphora.node();
    node.write_file(
        &format!("/var/lib/octavia/{LB}/haproxy.cfg"),
        "frontend one\n    bind 192.0.2.7:443 ssl crt-list /x.pem\n    mode http\nfrontend two\n    mode tcp\n",
        0o600,
    )
    .unwrap();
    node.write_file(&format!("/var/lib/octavia/{LB}/{LB}.pid"), "1\n", 0o600).unwrap();
    let calls = ["get_api_version", "get_info", "get_details", "get_all_listeners"].map(|method| (method, json!({})));
    let [version, info, details, listeners] = &call(&fabric, amphora, &calls).unwrap()[..] else { panic!("four") };

    assert_eq!(*ok(version, 200), json!({ "api_version": "1.0" }));
    let info = ok(info, 200);
    let haproxy = info["haproxy_version"].as_str().unwrap();
    assert!(haproxy.split('.').take(2).all(|number| number.parse::<u8>().is_ok()), "{haproxy}");
    assert_eq!((&info["hostname"], &info["api_version"]), (&json!("amphora-0"), &json!("1.0")));
    for key in ["keepalived_version", "ipvsadm_version"] {
        assert!(info[key].is_string(), "{info}");
    }

    let details = ok(details, 200);
    // Of these the controller computes what it shows of an amphora.
    let memory = &details["memory"];
    let sum: u64 = ["free", "buffers", "cached"].iter().map(|key| memory[key].as_u64().unwrap()).sum();
    assert!(sum > 0 && sum < memory["total"].as_u64().unwrap(), "{memory}");
    assert!(details["cpu_count"].as_u64().unwrap() >= 1 && details["active_tuned_profiles"].is_string(), "{details}");
    assert!(details["cpu"]["total"].is_u64(), "{details}");
    for key in ["user", "system", "soft_irq"] {
        assert!(details["cpu"][key].as_str().unwrap().parse::<u64>().is_ok(), "{details}");
    }
    let load = details["load"].as_array().unwrap();
    assert!(load.len() == 3 && load.iter().all(|l| l.as_str().unwrap().parse::<f64>().is_ok()), "{details}");
    for (key, value) in [
        ("haproxy_version", info["haproxy_version"].clone()),
        ("active", json!(true)),
        ("topology", json!("SINGLE")),
        ("topology_status", json!("OK")),
        ("haproxy_count", json!(1)),
        ("lvs_listener_process_count", json!(0)),
        ("listeners", json!(["one", "two"])),
        ("networks", json!({})),
        ("packages", json!({})),
    ] {
        assert_eq!(details[key], value, "{key}: {details}");
    }
    assert!(details["disk"]["used"].as_u64().unwrap() > 0 && details["disk"]["available"].is_u64(), "{details}");

    let expected = json!([
        { "status": "ACTIVE", "uuid": "one", "type": "TERMINATED_HTTPS" },
        { "status": "ACTIVE", "uuid": "two", "type": "TCP" },
    ]);
    assert_eq!(*ok(listeners, 200), expected);
}

#[test]
fn octavias_client_plugs_a_vip_and_takes_the_refusals_for_what_they_are() {
    let Some(fabric) = fabric("octavias_client_plugs_a_vip_and_takes_the_refusals_for_what_they_are") else { return };
    let amphora = &fabric.amphorae[0];
    let vip = addresses::FRONTEND.host(77).v4;
    let mut body = amphora.plug_body(addresses::vip(7));
    body.as_object_mut().unwrap().remove("frontend_ips");
    body["additional_vips"] = json!([]);
    let mut foreign = body.clone();
    foreign["mac_address"] = json!("fa:16:3e:ff:ff:ff");
    let plug = |vip: &str, info: &Value| ("plug_vip", json!({ "vip": vip, "net_info": info }));
    let interface = |ip: &str| ("get_interface", json!({ "ip_addr": ip }));
    let vrrp_ip = amphora.frontend(Family::V4).to_string();
    let calls = [
        interface(&vrrp_ip),
        plug(&vip.to_string(), &foreign),
        plug("not-an-address", &body),
        plug(&vip.to_string(), &body),
        plug(&vip.to_string(), &body),
        interface(&vrrp_ip),
        interface("not-an-address"),
        ("get_details", json!({})),
    ];
    let called = call(&fabric, amphora, &calls).unwrap();
    raised(&called[0], "NotFound", 404);
    // It tries again while the NIC may be on its way; here two attempts are all.
    raised(&called[1], "TimeOutException", 404);
    assert_eq!(called[1].answers.len(), 2, "{:?}", called[1]);
    assert_eq!(called[1].body(), json!({ "details": "No suitable network interface found" }));
    raised(&called[2], "InvalidRequest", 400);
    ok(&called[3], 202);
    assert_eq!(
        called[3].body(),
        json!({ "message": "OK", "details": format!("VIPs plugged on interface eth1: {vip}") })
    );
    raised(&called[4], "Conflict", 409);
    assert_eq!(called[4].body(), json!({ "message": "Interface already exists" }));
    assert_eq!(*ok(&called[5], 200), json!({ "message": "OK", "interface": "eth1" }));
    raised(&called[6], "InvalidRequest", 400);
    let networks = &ok(&called[7], 200)["networks"];
    assert!(networks["eth1"]["network_tx"].is_u64() && networks["eth1"]["network_rx"].is_u64(), "{networks}");
    assert_eq!(networks.as_object().unwrap().len(), 1, "{networks}");
}

#[test]
fn octavias_client_stores_certificates_and_rotates_the_agents_own() {
    let Some(fabric) = fabric("octavias_client_stores_certificates_and_rotates_the_agents_own") else { return };
    let amphora = &fabric.amphorae[0];
    let pem = |name: &str| json!({ "loadbalancer_id": LB, "pem_filename": name });
    let upload = |name: &str, content: &str| {
        let mut arguments = pem(name);
        arguments["pem_file"] = content.into();
        ("upload_cert_pem", arguments)
    };
    let new = fabric.pki.server(amphora.id(), &[amphora.management(Family::V4)]).unwrap();
    let new = new.certificate + &new.key;
    let other_key = fabric.pki.server(amphora.id(), &[]).unwrap().key;
    let mut ignoring = pem("a.pem");
    ignoring["ignore"] = json!([404]);
    let rotate = |pem: &str| ("update_cert_for_rotation", json!({ "pem_file": pem }));
    let calls = [
        ("get_cert_md5sum", ignoring),
        ("get_cert_md5sum", pem("a.pem")),
        upload("a.pem", "a first content, longer than the second"),
        upload("a.pem", "message digest"),
        ("get_cert_md5sum", pem("a.pem")),
        upload("a.pem.sh", "x"),
        ("delete_cert_pem", pem("a.pem")),
        ("delete_cert_pem", pem("a.pem")),
        upload("kept.pem", "kept"),
        rotate(&new),
        ("get_info", json!({})),
        rotate(&(new.split_inclusive("-----END CERTIFICATE-----\n").next().unwrap().to_owned() + &other_key)),
        rotate("no certificate"),
        ("get_info", json!({})),
    ];
    let called = call(&fabric, amphora, &calls).unwrap();
    assert_eq!(*ok(&called[0], 404), Value::Null);
    raised(&called[1], "NotFound", 404);
    let missing = json!({ "message": "Certificate Not Found", "details": "No certificate with filename: a.pem" });
    assert_eq!(called[1].body(), missing);
    ok(&called[2], 200);
    ok(&called[3], 200);
    let digest = "f96b697d7cb7938d525a2f31aaf161d0";
    assert_eq!(called[3].answers[0]["etag"], digest);
    assert_eq!(called[3].body(), json!({ "message": "OK" }));
    assert_eq!(*ok(&called[4], 200), digest);
    raised(&called[5], "InvalidRequest", 400);
    assert_eq!(called[5].body(), json!({ "message": "Filename has wrong format" }));
    ok(&called[6], 200);
    ok(&called[7], 200);
    ok(&called[8], 200);
    let node = amphora.node();
    let certs = node.run(["find", "/var/lib/octavia/certs", "-printf", "%P %m\\n"]).unwrap();
    let mut certs: Vec<_> = certs.lines().map(str::trim).collect();
    certs.sort_unstable();
    assert_eq!(certs, [&format!("{LB} 700"), &format!("{LB}/kept.pem 600"), "700"]);

    ok(&called[9], 202);
    ok(&called[10], 200);
    raised(&called[11], "InvalidRequest", 400);
    raised(&called[12], "InvalidRequest", 400);
    ok(&called[13], 200);
    assert_eq!(node.read_file("/etc/octavia/certs/server.pem").unwrap(), new);
    assert_eq!(node.run(["stat", "-c", "%a", "/etc/octavia/certs/server.pem"]).unwrap(), "600\n");
}

#[test]
fn octavias_client_plugs_networks_and_sets_rules() {
    let Some(fabric) = fabric("octavias_client_plugs_networks_and_sets_rules") else { return };
    let amphora = &fabric.amphorae[0];
    let member = "fa:16:3e:00:02:02";
    fabric.frontend.plug(amphora.node(), "ens8", Some(member)).unwrap();
    let vip = addresses::FRONTEND.host(77).v4.to_string();
    let mut vip_info = amphora.plug_body(addresses::vip(7));
    vip_info.as_object_mut().unwrap().remove("frontend_ips");
    vip_info["additional_vips"] = json!([]);
    vip_info["is_sriov"] = true.into();
    let port = |mac: &str, ips: Value| json!({ "mac_address": mac, "fixed_ips": ips, "mtu": 1500, "is_sriov": false });
    let fixed =
        |ip: &str, cidr: &str| json!({ "ip_address": ip, "subnet_cidr": cidr, "host_routes": [], "gateway": null });
    let mut shared = port(&amphora.frontend_mac(), json!([fixed("10.3.0.5", "10.3.0.0/24")]));
    shared["vip_net_info"] = vip_info.clone();
    shared["vip_net_info"]["vip"] = vip.clone().into();
    let network = |port: &Value| ("plug_network", json!({ "port": port }));
    let rules =
        |rules: Value| ("set_interface_rules", json!({ "ip_address": amphora.frontend(Family::V4), "rules": rules }));
    let calls = [
        ("plug_vip", json!({ "vip": vip, "net_info": vip_info })),
        network(&port(member, json!([fixed("10.1.0.5", "10.1.0.0/24"), fixed("2001:db8:a::5", "2001:db8:a::/64")]))),
        network(&port(member, json!([fixed("10.1.0.5", "10.1.0.0/24")]))),
        network(&shared),
        network(&port("fa:16:3e:ff:ff:ff", json!([]))),
        network(&port(member, json!([fixed("nonsense", "10.1.0.0/24")]))),
        rules(json!([{ "protocol": "TCP", "cidr": null, "port": 80 }])),
        rules(json!([{ "protocol": "ICMP", "cidr": null, "port": 80 }])),
    ];
    let called = call(&fabric, amphora, &calls).unwrap();
    ok(&called[0], 202);
    for (n, details) in [
        (1, "Plugged on interface eth2"),
        (2, "Updated existing interface eth2"),
        (3, "Updated existing interface eth1"),
    ] {
        ok(&called[n], 202);
        assert_eq!(called[n].body(), json!({ "message": "OK", "details": details }));
    }
    raised(&called[4], "TimeOutException", 404);
    raised(&called[5], "InvalidRequest", 400);
    assert_eq!(called[5].body()["message"], "Invalid network port");
    ok(&called[6], 200);
    raised(&called[7], "InvalidRequest", 400);
}
