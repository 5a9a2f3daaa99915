//! UDP and SCTP listeners: up to the point where the kernel's IPVS is needed.

use lab::octavia::call;
use lab::{Amphora, wait_for};
use serde_json::{Value, json};

use crate::support::{LISTENER, LVS, PATIENCE, plug, put, rendered, start, stock, vip};

/// A listener for Octavia's templater, with what is different about it.
fn listener(protocol: &str, monitor: &str, more: &Value) -> Value {
    let member = |number: u8, ip: &str| json!({ "id": format!("b3a1d2c4-0000-4000-8000-00000000000{number}"), "ip_address": ip, "port": 53 });
    let mut asked = json!({
        "listener_id": LISTENER,
        "vips": [vip().v4, vip().v6],
        "protocol": protocol,
        "port": 5353,
        "monitor": monitor,
        "members": [member(1, "192.0.2.50"), member(2, "2001:db8:2::50"), member(3, "192.0.2.51")],
    });
    asked["members"][2]["enabled"] = false.into();
    for (key, value) in more.as_object().unwrap() {
        asked[key] = value.clone();
    }
    json!({ "lvs": asked })
}

fn path() -> String {
    format!("/1.0/listeners/{LISTENER}/udp_listener")
}

fn running(amphora: &Amphora) -> bool {
    !amphora.pids("keepalived").unwrap().is_empty()
}

#[test]
fn octavias_client_uploads_every_kind_of_udp_and_sctp_listener() {
    let test = "octavias_client_uploads_every_kind_of_udp_and_sctp_listener";
    let fabric = stock("lvs-upload", 1);
    let amphora = &fabric.amphorae[0];
    let none = json!({});
    let asked = vec![
        listener("SCTP", "SCTP", &none),
        listener("UDP", "HTTP", &none),
        listener("UDP", "TCP", &none),
        listener("UDP", "", &none),
        listener("UDP", "UDP-CONNECT", &json!({ "members": [] })),
        listener("UDP", "UDP-CONNECT", &json!({ "enabled": false })),
        listener("UDP", "UDP-CONNECT", &none),
    ];
    let Some(configs) = rendered(test, &fabric, &asked) else { return };
    let mut api = start(amphora);
    plug(amphora, &mut api);
    assert_eq!(configs.len(), 7);
    let upload = |config: &str| ("upload_udp_config", json!({ "listener_id": LISTENER, "config": config }));
    let mut calls: Vec<_> = configs.iter().map(|config| upload(config)).collect();
    calls.push(upload("virtual_server_group x {\n"));
    calls.extend([("get_details", json!({})), ("get_all_listeners", json!({}))]);
    let called = call(&fabric, amphora, &calls).unwrap();
    for stored in &called[..7] {
        assert_eq!((stored.exception.as_deref(), stored.status()), (None, 200), "{stored:?}");
        assert_eq!(stored.body(), json!({ "message": "OK" }));
        assert_eq!(stored.answers[0]["etag"].as_str().unwrap().len(), 32);
    }
    assert_eq!((called[7].exception.as_deref(), called[7].status()), (Some("InvalidRequest"), 400), "{:?}", called[7]);
    assert_eq!(called[8].value["lvs_listener_process_count"], 0);
    assert_eq!(called[8].value["listeners"], json!([LISTENER]));
    assert_eq!(called[9].value, json!([{ "status": "OFFLINE", "uuid": LISTENER, "type": "UDP" }]));

    let last = configs.last().unwrap();
    let mut api = amphora.api().unwrap(); // the agent has closed an idle one meanwhile
    let reply = api.get(&path()).unwrap();
    assert_eq!((reply.status, &reply.text()), (200, last), "what was refused has replaced nothing");
    assert!(reply.headers["content-type"].to_str().unwrap().starts_with("text/plain"), "{:?}", reply.headers);
    let mode = |file: &str| amphora.node().run(["stat", "-c", "%a", &format!("{LVS}/{file}")]).unwrap();
    assert_eq!(mode(&format!("octavia-keepalivedlvs-{LISTENER}.conf")), "600\n");
    assert_eq!(mode("check/udp_check.sh"), "755\n");
    let checks = "/var/lib/octavia/vrrp/check_scripts";
    let names = amphora.node().run(["ls", checks]).unwrap();
    assert_eq!(names, "lvs_udp_check.sh\n", "UDP alone: no haproxy to check");
    for unknown in ["absent", "..%2fvrrp", "%ff"] {
        let reply = api.get(&format!("/1.0/listeners/{unknown}/udp_listener")).unwrap();
        assert_eq!((reply.status, &reply.json()["message"]), (404, &json!("UDP Listener Not Found")), "{unknown}");
        let reply = put(&mut api, &format!("/1.0/listeners/a/{unknown}%00/udp_listener"), "").unwrap();
        assert_eq!(reply.status, 400, "{unknown}");
    }
}

#[test]
fn a_udp_listener_is_started_reloaded_stopped_and_deleted() {
    let test = "a_udp_listener_is_started_reloaded_stopped_and_deleted";
    let fabric = stock("lvs-life", 1);
    let amphora = &fabric.amphorae[0];
    // Without a pool it needs no IPVS.
    let asked = vec![listener("UDP", "", &json!({ "enabled": false })), listener("UDP", "UDP-CONNECT", &json!({}))];
    let Some(configs) = rendered(test, &fabric, &asked) else { return };
    let [empty, full] = <[String; 2]>::try_from(configs).unwrap();
    let mut api = start(amphora);
    plug(amphora, &mut api);
    let upload = format!("/1.0/listeners/{}/{LISTENER}/udp_listener", amphora.id());
    put(&mut api, &upload, empty).unwrap().success().unwrap();
    let act = |action: &str| {
        let reply = put(&mut amphora.api().unwrap(), &format!("/1.0/loadbalancer/{LISTENER}/{action}"), "").unwrap();
        (reply.status, reply.json())
    };
    let done =
        |done: &str| (202, json!({ "message": "OK", "details": format!("keepalivedlvs listener {LISTENER} {done}") }));
    assert_eq!(act("restart").0, 400);
    assert_eq!(act("stop"), done("stoped"));
    assert_eq!(act("reload"), done("restarted"), "what does not run is started");
    assert!(running(amphora));
    let pid = amphora.node().read_file(&format!("{LVS}/octavia-keepalivedlvs-{LISTENER}.pid")).unwrap();
    assert_eq!(act("reload"), done("restarted"));
    let same = amphora.node().read_file(&format!("{LVS}/octavia-keepalivedlvs-{LISTENER}.pid")).unwrap();
    assert_eq!(same, pid, "a reload: a restart would take the service away for a moment");
    assert_eq!(api.get("/1.0/details").unwrap().json()["lvs_listener_process_count"], 1);
    amphora.kill_agent().unwrap();
    let mut api = start(amphora);
    assert_eq!(act("stop"), done("stoped"));
    assert_eq!(api.get("/1.0/details").unwrap().json()["lvs_listener_process_count"], 0);
    assert_eq!(act("start"), done("started"));

    let delete = format!("/1.0/listeners/{LISTENER}");
    for _ in 0..2 {
        let reply = api.delete(&delete).unwrap();
        assert_eq!((reply.status, reply.json()), (200, json!({ "message": "OK" })));
        assert_eq!(api.get(&path()).unwrap().status, 404);
    }
    let gone = || if running(amphora) { Err("still there") } else { Ok(()) };
    wait_for("keepalived ends", PATIENCE, gone).unwrap();
    assert_eq!(amphora.node().run(["ls", LVS]).unwrap(), "check\n");
    assert_eq!(act("start").0, 404);

    put(&mut api, &upload, full).unwrap().success().unwrap();
    let (status, said) = act("start");
    if std::path::Path::new("/proc/net/ip_vs").exists() {
        assert_eq!(status, 202, "{said}");
    } else {
        // It starts, and ends when it comes to it.
        assert!(matches!(status, 202 | 500), "{status} {said}");
        let log = || amphora.node().read_file(&format!("/var/log/octavia-keepalivedlvs-{LISTENER}.log")).unwrap();
        let failed = || if log().contains("Can't initialize ipvs") { Ok(()) } else { Err(log()) };
        wait_for("keepalived wants IPVS", PATIENCE, failed).unwrap();
        lab::skipped(test, "no IPVS in this kernel, so no UDP listener forwards anything here");
    }
    assert_eq!(api.delete(&delete).unwrap().status, 200);
}
