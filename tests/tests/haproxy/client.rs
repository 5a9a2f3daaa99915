//! Octavia's own client and its own templater, unpatched: what a controller sends for a load balancer of every kind of
//! listener, and what it makes of the answers.

use lab::octavia::{Called, call, environment, render};
use lab::{Family, addresses};
use serde_json::{Value, json};

use crate::support::{BASE, LB, Lab};

/// The status of the answer, and no exception.
#[track_caller]
fn ok(called: &Called, status: u64) -> Value {
    assert_eq!((called.exception.as_deref(), called.status()), (None, status), "{called:?}");
    called.body()
}

#[track_caller]
fn raised(called: &Called, exception: &str, status: u64) -> Value {
    assert_eq!((called.exception.as_deref(), called.status()), (Some(exception), status), "{called:?}");
    called.body()
}

fn listener(id: &str, protocol: &str, port: u16) -> Value {
    let member = json!({ "id": format!("member-{id}"), "address": "127.0.0.2", "port": 8080 });
    json!({ "id": id, "protocol": protocol, "port": port, "members": [member], "monitor": "TCP" })
}

/// What the controller would send to this amphora.
fn rendered(lab: &Lab, topology: &str, listeners: &[Value]) -> String {
    let (amphora, vip) = (lab.amphora(), addresses::vip(7));
    let other = json!({ "id": "00000000-0000-4000-8000-00000000ffff", "address": "192.0.2.99" });
    let own = json!({ "id": amphora.id(), "address": amphora.frontend(Family::V4) });
    let memory = json!({ "free": 100_000, "buffers": 1000, "cached": 20_000 });
    render(&json!({
        "id": LB, "topology": topology, "vip": vip.v4, "additional_vips": [vip.v6], "amphora": amphora.id(),
        "amphorae": [own, other], "haproxy": "2.6", "listeners": listeners,
        "details": { "memory": memory, "cpu_count": 2, "active_tuned_profiles": "" },
    }))
    .unwrap()
}

#[test]
fn octavias_client_brings_up_changes_and_deletes_a_load_balancer_of_every_kind() {
    let test = "octavias_client_brings_up_changes_and_deletes_a_load_balancer_of_every_kind";
    if let Err(error) = environment() {
        return lab::skipped(test, &error.to_string());
    }
    let (lab, _) = Lab::new("haproxy-client");
    let amphora = lab.amphora();
    amphora.start_haproxy(&["127.0.0.2".parse().unwrap()], 8080).unwrap();
    let mut http = listener("http", "HTTP", 80);
    http["redirect"] = "/old".into();
    http["persistence"] = true.into();
    http["monitor"] = "HTTP".into();
    let mut terminated = listener("tls", "TERMINATED_HTTPS", 443);
    terminated["certificate"] = true.into();
    let mut ping = listener("ping", "HTTP", 81);
    ping["monitor"] = "PING".into();
    let prometheus = json!({ "id": "prometheus", "protocol": "PROMETHEUS", "port": 9090 });
    let all = [http, terminated, listener("https", "HTTPS", 8443), listener("tcp", "TCP", 8000), ping, prometheus];
    let first = rendered(&lab, "ACTIVE_STANDBY", &all);
    let fewer = rendered(&lab, "SINGLE", &all[..3]);
    let broken = fewer.replace("mode http", "mode none");

    let identity = lab.fabric.pki.server("www.example.com", &[]).unwrap();
    let pem = |name: &str, content: &str| {
        ("upload_cert_pem", json!({ "loadbalancer_id": LB, "pem_filename": name, "pem_file": content }))
    };
    let upload = |config: &str| ("upload_config", json!({ "loadbalancer_id": LB, "config": config }));
    let act = |action: &'static str| (action, json!({ "object_id": LB }));
    let calls = [
        act("reload_listener"),
        pem("site.pem", &(identity.certificate + &identity.key)),
        pem("tls.pem", &format!("{BASE}/certs/{LB}/site.pem\n")),
        ("get_details", json!({})),
        upload(&first),
        act("reload_listener"),
        ("get_all_listeners", json!({})),
        ("get_details", json!({})),
        upload(&fewer),
        act("reload_listener"),
        upload(&broken),
        ("get_all_listeners", json!({})),
        act("start_listener"),
    ];
    let called = call(&lab.fabric, amphora, &calls).unwrap();
    let unknown = json!({ "message": "Loadbalancer Not Found", "details": format!("No loadbalancer with UUID: {LB}") });
    assert_eq!(raised(&called[0], "NotFound", 404), unknown);
    assert_eq!(ok(&called[3], 200)["haproxy_count"], 0);
    assert_eq!(ok(&called[4], 202), json!({ "message": "OK" }));
    assert_eq!(called[4].answers[0]["etag"].as_str().unwrap().len(), 32);
    let started = format!("Configuration file is valid\nhaproxy daemon for {LB} started");
    assert_eq!(ok(&called[5], 202), json!({ "message": "OK", "details": started }));
    let listed: Vec<_> = ok(&called[6], 200).as_array().unwrap().clone();
    let kind = |id: &str| listed.iter().find(|l| l["uuid"] == id).map(|l| (l["type"].clone(), l["status"].clone()));
    for (id, expected) in [
        ("prometheus-exporter-internal-endpoint", "HTTP"),
        ("http", "HTTP"),
        ("tls", "TERMINATED_HTTPS"),
        ("https", "TCP"),
        ("tcp", "TCP"),
        ("ping", "HTTP"),
        ("prometheus", "HTTP"),
    ] {
        assert_eq!(kind(id), Some((expected.into(), "ACTIVE".into())), "{id}: {listed:?}");
    }
    assert_eq!(listed.len(), 7, "{listed:?}");
    assert_eq!(ok(&called[7], 200)["haproxy_count"], 1);
    ok(&called[8], 202);
    assert_eq!(ok(&called[9], 202)["details"], format!("Listener {LB} reloaded"));
    let refused = raised(&called[10], "InvalidRequest", 400);
    assert_eq!(refused["message"], "Invalid request");
    assert!(refused["details"].as_str().unwrap().contains("none"), "{refused}");
    assert_eq!(ok(&called[11], 200).as_array().unwrap().len(), 3);
    ok(&called[12], 202);

    // The member answers through it, by both families and through TLS.
    lab.wait_answer(80, amphora.name());
    let inside = amphora.haproxy_netns().unwrap();
    let vip = addresses::vip(7);
    let curl = |url: &str| {
        let url = url.replace("VIP", &vip.v4.to_string());
        inside.run(["curl", "-skg", "--max-time", "20", &url]).unwrap()
    };
    assert_eq!(curl("https://VIP:443/"), amphora.name());
    assert_eq!(curl(&format!("http://[{}]:80/", vip.v6)), amphora.name());
    let location =
        inside.run(["curl", "-s", "-o", "/dev/null", "-w", "%{redirect_url}", &format!("http://{}/old/x", vip.v4)]);
    assert_eq!(location.unwrap(), "http://www.example.com/");

    // Its client has no method for a stop.
    let calls = [act("delete_listener"), act("delete_listener"), act("start_listener")];
    let called = call(&lab.fabric, amphora, &calls).unwrap();
    assert_eq!(ok(&called[0], 200), json!({ "message": "OK" }));
    assert_eq!(ok(&called[1], 200), json!({ "message": "OK" }));
    assert_eq!(raised(&called[2], "NotFound", 404), unknown);
}
