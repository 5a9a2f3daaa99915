//! The VRRP calls where keepalived holds the VIP.

use std::net::{SocketAddr, UdpSocket};

use lab::addresses::{FRONTEND, tor_host};
use lab::octavia::call;
use lab::{Family, wait_for};
use serde_json::{Value, json};

use crate::support::{PATIENCE, VRRP, holds_vip, keepalived_pid, plug, put, start, stock, vrrp_configs};

fn details(body: &Value) -> &Value {
    assert_eq!(body["message"], "OK", "{body}");
    &body["details"]
}

#[test]
fn octavias_client_uploads_starts_reloads_and_stops_vrrp() {
    let test = "octavias_client_uploads_starts_reloads_and_stops_vrrp";
    let fabric = stock("vrrp", 1);
    let Some(configs) = vrrp_configs(test, &fabric) else { return };
    let amphora = &fabric.amphorae[0];
    let mut api = start(amphora);
    plug(amphora, &mut api);
    let upload = |config: &str| ("upload_vrrp_config", json!({ "config": config }));
    let act = |action| (action, json!({}));
    let calls = [
        act("start_vrrp"),
        upload("vrrp_instance x {\n    gibberish 1\n}\n"),
        act("stop_vrrp"),
        upload(&configs[0]),
        act("start_vrrp"),
        act("start_vrrp"),
        upload(&configs[0]),
        act("reload_vrrp"),
    ];
    let called = call(&fabric, amphora, &calls).unwrap();
    let answered: Vec<_> = called.iter().map(|c| (c.exception.as_deref(), c.status())).collect();
    let expected = [
        (Some("InternalServerError"), 500),
        (Some("InvalidRequest"), 400),
        (None, 202),
        (None, 200),
        (None, 202),
        (None, 202),
        (None, 200),
        (None, 202),
    ];
    assert_eq!(answered, expected, "{called:?}");
    assert_eq!(called[0].body()["message"], "Failed to start octavia-keepalived service");
    let refused = called[1].body();
    assert_eq!(refused["message"], "Invalid request");
    assert!(refused["details"].as_str().unwrap().contains("(Line 2) Unknown keyword 'gibberish'"), "{refused}");
    assert_eq!(*details(&called[2].body()), "keepalived stoped", "nothing ran");
    assert_eq!(called[3].body(), json!({ "message": "OK" }));
    assert_eq!(called[3].answers[0]["etag"].as_str().unwrap().len(), 32, "{:?}", called[3]);
    assert_eq!(*details(&called[4].body()), "keepalived started");
    assert_eq!(*details(&called[5].body()), "keepalived reloaded", "one that runs is reloaded");
    assert_eq!(*details(&called[7].body()), "keepalived reloaded");

    let node = amphora.node();
    assert_eq!(node.read_file(&format!("{VRRP}/octavia-keepalived.conf")).unwrap(), configs[0]);
    let modes = node.run(["find", VRRP, "-name", "*.conf", "-o", "-name", "*.sh", "-printf", "%f %m\\n"]).unwrap();
    assert!(modes.contains("check_script.sh 755") && modes.contains("haproxy_check_script.sh 755"), "{modes}");
    let mode = node.run(["stat", "-c", "%a", &format!("{VRRP}/octavia-keepalived.conf")]).unwrap();
    assert_eq!(mode, "600\n", "it has a password");

    // Whoever asks for an action asks in any case, and an unknown one touches nothing.
    let pid = keepalived_pid(amphora).unwrap();
    let mut api = amphora.api().unwrap(); // the agent has closed an idle one meanwhile
    let mut say = |action: &str| put(&mut api, &format!("/1.0/vrrp/{action}"), "").unwrap();
    let unknown = say("Restart");
    assert_eq!((unknown.status, unknown.json()["details"].as_str()), (400, Some("Unknown action: restart")));
    assert_eq!(unknown.json()["message"], "Invalid Request");
    assert_eq!(details(&say("START").json()), "keepalived reloaded");
    assert_eq!(keepalived_pid(amphora), Some(pid), "never restarted");
    // Without a load balancer there is nothing to be master for.
    assert!(node.run(["sh", &format!("{VRRP}/check_scripts/haproxy_check_script.sh")]).is_err());
    assert!(!holds_vip(amphora));

    assert_eq!(details(&say("stop").json()), "keepalived stoped");
    let gone = || if amphora.pids("keepalived").unwrap().is_empty() { Ok(()) } else { Err("still there") };
    wait_for("keepalived ends", PATIENCE, gone).unwrap();
    assert_eq!(details(&say("stop").json()), "keepalived stoped");
    let failed = say("reload");
    assert_eq!(
        (failed.status, &failed.json()["message"]),
        (500, &json!("Failed to reload octavia-keepalived service"))
    );
    assert_eq!(details(&say("start").json()), "keepalived started");
}

#[test]
fn keepalived_outlives_the_agent_and_a_refused_upload_leaves_the_old_one() {
    let test = "keepalived_outlives_the_agent_and_a_refused_upload_leaves_the_old_one";
    let fabric = stock("outlives", 1);
    let Some(configs) = vrrp_configs(test, &fabric) else { return };
    let amphora = &fabric.amphorae[0];
    let mut api = start(amphora);
    plug(amphora, &mut api);
    // Something to be master for.
    amphora.node().run(["mkdir", "-p", &format!("{VRRP}/check_scripts")]).unwrap();
    put(&mut api, "/1.0/vrrp/upload", configs[0].clone()).unwrap().success().unwrap();
    let check = format!("{VRRP}/check_scripts/haproxy_check_script.sh");
    amphora.node().write_file(&check, "exit 0\n", 0o755).unwrap();
    put(&mut api, "/1.0/vrrp/start", "").unwrap().success().unwrap();
    let master = || if holds_vip(amphora) { Ok(()) } else { Err("not yet") };
    wait_for("the only amphora becomes the master", PATIENCE, master).unwrap();
    let rules = amphora.haproxy_netns().unwrap().run(["ip", "rule", "show"]).unwrap();
    assert!(rules.contains(&format!("from {} lookup 1", FRONTEND.host(77).v4)), "{rules}");

    let pid = keepalived_pid(amphora);
    for bad in ["vrrp_instance {", "\u{0}\u{1}", "} } }", &configs[0].replace("priority", "prioritty")] {
        let reply = put(&mut api, "/1.0/vrrp/upload", bad).unwrap();
        assert_eq!((reply.status, &reply.json()["message"]), (400, &json!("Invalid request")), "{}", reply.text());
    }
    let there = || amphora.node().read_file(&format!("{VRRP}/octavia-keepalived.conf")).unwrap();
    assert_eq!(there(), configs[0]);
    amphora.kill_agent().unwrap();
    assert!(holds_vip(amphora));
    let mut api = start(amphora);
    assert_eq!(put(&mut api, "/1.0/vrrp/start", "").unwrap().json()["details"], "keepalived reloaded");
    assert_eq!(keepalived_pid(amphora), pid, "found again");
    assert!(holds_vip(amphora), "neither the agent's end nor a start takes the VIP away");
}

#[test]
fn an_upload_asks_no_name_server() {
    let test = "an_upload_asks_no_name_server";
    let fabric = stock("resolver", 1);
    let Some(configs) = vrrp_configs(test, &fabric) else { return };
    let (amphora, tor) = (&fabric.amphorae[0], &fabric.tors[0]);
    let mut api = start(amphora);
    plug(amphora, &mut api);
    // One that hears and never answers, as of an amphora whose management network is out of the VIP's reach.
    let server = SocketAddr::new(tor.frontend(Family::V4), 53);
    amphora.node().run(["rm", "-f", "/etc/resolv.conf"]).unwrap();
    let resolver = format!("nameserver {}\n", server.ip());
    amphora.node().write_file("/etc/resolv.conf", resolver, 0o644).unwrap();
    let socket = tor.node().within(|| UdpSocket::bind(server)).unwrap().unwrap();
    socket.set_nonblocking(true).unwrap();
    let asked = || socket.recv(&mut [0; 512]).map(drop);
    put(&mut api, "/1.0/vrrp/upload", configs[0].clone()).unwrap().success().unwrap();
    assert!(asked().is_err(), "it waits for the answer before it looks at the configuration");
    // The service itself does, for its configuration is the controller's.
    put(&mut api, "/1.0/vrrp/start", "").unwrap().success().unwrap();
    wait_for("keepalived asks", PATIENCE, asked).unwrap();
}

#[test]
fn a_plug_by_ipv6_answers_when_keepalived_can_have_the_address() {
    let fabric = stock("by-ipv6", 1);
    let amphora = &fabric.amphorae[0];
    let mut api = start(amphora);
    let front = amphora.frontend(Family::V6);
    let body = json!({
        "subnet_cidr": FRONTEND.v6, "gateway": FRONTEND.host(tor_host(0)).v6, "mac_address": amphora.frontend_mac(),
        "vrrp_ip": front,
    });
    api.plug_vip(FRONTEND.host(77).v6.into(), &body).unwrap().success().unwrap();
    // keepalived that comes before duplicate address detection is over would never become a master.
    let inside = amphora.haproxy_netns().unwrap();
    let show = |more: &[&str]| {
        let words = ["ip", "-o", "-6", "address", "show", "dev", "eth1", "scope", "global"];
        inside.run(words.iter().chain(more)).unwrap()
    };
    assert_eq!(show(&["tentative"]), "");
    assert!(show(&[]).contains(&front.to_string()));
}
