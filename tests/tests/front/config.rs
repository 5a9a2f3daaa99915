//! `PUT /1.0/config` and SIGHUP: what is taken, what is refused, and what a crash leaves.

use lab::amphora::API_PORT;
use lab::octavia::{call, environment};
use lab::{Amphora, Family, Walk, wait_for};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::{MAIN, PATIENCE, alone, log, put, start};

fn main_file(amphora: &Amphora) -> String {
    amphora.node().read_file(MAIN).unwrap()
}

fn mode(amphora: &Amphora) -> String {
    amphora.node().run(["stat", "-c", "%a %u", MAIN]).unwrap()
}

#[test]
fn a_new_configuration_is_stored_and_in_effect_when_it_is_answered() {
    let fabric = alone("config");
    let amphora = &fabric.amphorae[0];
    let mut api = start(amphora);
    amphora.node().run(["chmod", "644", MAIN]).unwrap();
    let old = main_file(amphora);
    assert!(!log(amphora).contains("DEBUG"), "{}", log(amphora));

    let new = old.replace("debug = False", "debug = True").replace("octavia/certs\nbind", "octavia/elsewhere\nbind");
    let reply = put(&mut api, "/1.0/config", new.clone()).unwrap();
    assert_eq!((reply.status, reply.json()), (202, json!({ "message": "OK" })));
    assert_eq!((main_file(amphora), mode(amphora).as_str()), (new.clone(), "600 0\n"));
    // The next call finds it in effect: its file goes elsewhere.
    assert_eq!(put(&mut api, "/1.0/loadbalancer/1/certificates/a.pem", "x").unwrap().status, 200);
    assert_eq!(amphora.node().read_file("/var/lib/octavia/elsewhere/1/a.pem").unwrap(), "x");
    // Somebody who comes and goes is worth a debug message.
    let scan = || drop(fabric.controller.connect((amphora.management(Family::V4), API_PORT).into(), PATIENCE).unwrap());
    scan();
    wait_for("debug messages", PATIENCE, || if log(amphora).contains("DEBUG") { Ok(()) } else { Err("none") }).unwrap();

    assert_eq!(put(&mut api, "/1.0/config", old.clone()).unwrap().status, 202);
    let debug = |text: &str| text.matches("DEBUG").count();
    let before = debug(&log(amphora));
    amphora.agent().unwrap().kill(Signal::SIGHUP).unwrap();
    wait_for("the reload", PATIENCE, || match log(amphora) {
        log if log.contains("read again: nothing to change") => Ok(()),
        log => Err(log),
    })
    .unwrap();
    scan();
    api.disconnect();
    api.get("/").unwrap(); // whose connection came after that one
    assert_eq!(debug(&log(amphora)), before);
    assert_eq!(put(&mut api, "/1.0/loadbalancer/1/certificates/b.pem", "x").unwrap().status, 200);
    assert_eq!(amphora.node().read_file("/var/lib/octavia/certs/1/b.pem").unwrap(), "x");
}

#[test]
fn an_unusable_configuration_changes_nothing_and_says_what_is_wrong() {
    let fabric = alone("config-bad");
    let amphora = &fabric.amphorae[0];
    let mut api = start(amphora);
    let old = main_file(amphora);
    let canary = "heartbeat_key = canary-of-a-key";
    for (bad, words) in [
        (b"\xff\xfe".to_vec(), &["amphora-agent.conf:1", "UTF-8"][..]),
        (format!("{old}[amphora_agent]\n{canary}\nagent_tls_protocol = none\n").into_bytes(), &["agent_tls_protocol"]),
        (format!("{canary}\n{old}").into_bytes(), &["amphora-agent.conf:1"]),
        (
            old.replace("bind_port = 9443", "bind_port = 70000").replace("interval = 10", "interval = 0").into_bytes(),
            &["[haproxy_amphora] bind_port", "[health_manager] heartbeat_interval"],
        ),
        (old.replace("certs/server.pem", "certs/none.pem").into_bytes(), &["none.pem: cannot be read"]),
        (old.replace("certs/client_ca.pem", "amphora-agent.conf").into_bytes(), &["holds no usable CA"]),
    ] {
        let reply = put(&mut api, "/1.0/config", bad).unwrap();
        let said = reply.json();
        assert_eq!((reply.status, &said["message"]), (500, &json!("Unable to update amphora-agent configuration.")));
        let details = said["details"].as_str().unwrap();
        for word in words {
            assert!(details.contains(word), "{word} is not in {details}");
        }
        assert!(!details.contains("canary"), "{details}");
        assert_eq!(main_file(amphora), old);
    }
    assert!(!log(amphora).contains("canary"));
    // Nor does half a body, or a disk that is full.
    let reply = put(&mut api, "/1.0/config", vec![b'#'; 2 << 20]);
    assert!(reply.as_ref().map_or(true, |reply| reply.status == 400), "{reply:?}");
    assert_eq!(main_file(amphora), old);
    assert_eq!(amphora.api().unwrap().get("/1.0/info").unwrap().status, 200);

    // On disk it is remembered as what the next start would meet; a good one mends it.
    amphora.node().write_file(MAIN, "[amphora_agent]\nagent_tls_protocol = none\n", 0o600).unwrap();
    amphora.agent().unwrap().kill(Signal::SIGHUP).unwrap();
    wait_for("the refusal", PATIENCE, || match log(amphora) {
        log if log.contains("not usable; the old one stays") && log.contains("agent_tls_protocol") => Ok(()),
        log => Err(log),
    })
    .unwrap();
    let mut api = amphora.api().unwrap();
    assert_eq!(api.get("/1.0/info").unwrap().status, 200);
    assert_eq!(put(&mut api, "/1.0/config", old.clone()).unwrap().status, 202);
    assert_eq!(main_file(amphora), old);
}

#[test]
fn the_next_connection_has_the_tls_of_the_new_configuration() {
    let fabric = alone("config-tls");
    let amphora = &fabric.amphorae[0];
    let mut api = start(amphora);
    let old = main_file(amphora);
    let shown = || crate::support::shown(&fabric);
    let first = shown();
    let other = fabric.pki.server(amphora.id(), &[amphora.management(Family::V4)]).unwrap();
    let pem = other.certificate.clone() + &other.key;
    amphora.node().write_file("/etc/octavia/certs/other.pem", &pem, 0o600).unwrap();
    let new = old.replace("certs/server.pem", "certs/other.pem").replace("TLSv1.2", "TLSv1.3");
    assert_eq!(put(&mut api, "/1.0/config", new).unwrap().status, 202);
    assert_ne!(shown(), first);
    assert_eq!(api.get("/").unwrap().status, 200, "the connection that brought it goes on");
    // A client of TLS 1.2 is let in no more, and again with the old configuration.
    let old_client = fabric.pki.client_of(Some(fabric.pki.controller()), &[&rustls::version::TLS12]).unwrap();
    amphora.api_as(old_client.clone()).unwrap().get("/").unwrap_err();
    // A rotation goes where the configuration says now.
    assert_eq!(put(&mut api, "/1.0/certificate", pem.clone()).unwrap().status, 202);
    assert_eq!(amphora.node().read_file("/etc/octavia/certs/other.pem").unwrap(), pem);
    assert_eq!(put(&mut api, "/1.0/config", old).unwrap().status, 202);
    assert_eq!(shown(), first);
    assert_eq!(amphora.api_as(old_client).unwrap().get("/").unwrap().status, 200);
}

#[test]
fn kill_9_at_any_step_leaves_the_old_configuration_or_the_new() {
    let fabric = alone("config-kill-9");
    let amphora = &fabric.amphorae[0];
    start(amphora); // whose steps in the kernel are done then
    amphora.kill_agent().unwrap();
    let base = main_file(amphora);
    let content = |step: usize| if step == 0 { base.clone() } else { format!("{base}# number {step}\n") };
    let walk = Walk {
        name: "configuration",
        but: None,
        before: &|_, _| {},
        call: &|api, step| put(api, "/1.0/config", content(step)),
        always: &|step| assert!([content(step - 1), content(step)].contains(&main_file(amphora))),
        after: &|step| match main_file(amphora) {
            there if there == content(step) => Ok(()),
            there => Err(there),
        },
    };
    let deaths = walk.run(amphora);
    assert_eq!(deaths.len(), 4, "before and after the rename, before it is in effect, and before the answer");
    let mut api = start(amphora);
    assert_eq!(put(&mut api, "/1.0/config", base.clone()).unwrap().status, 202);
    assert_eq!(amphora.node().run(["find", "/etc/octavia", "-name", "*.new"]).unwrap(), "");
}

#[test]
fn octavias_client_replaces_the_configuration() {
    const TEST: &str = "octavias_client_replaces_the_configuration";
    if let Err(error) = environment() {
        return lab::skipped(TEST, &error.to_string());
    }
    let fabric = alone("config-octavia");
    let amphora = &fabric.amphorae[0];
    start(amphora);
    let new = main_file(amphora).replace("heartbeat_interval = 10", "heartbeat_interval = 3");
    let update = |config: &str| ("update_agent_config", json!({ "agent_config": config }));
    let called = call(&fabric, amphora, &[update(&new), update("[haproxy_amphora]\nbind_port = x\n")]).unwrap();
    assert_eq!((called[0].exception.as_deref(), called[0].status()), (None, 202), "{:?}", called[0]);
    let refused = (called[1].exception.as_deref(), called[1].status());
    assert_eq!(refused, (Some("InternalServerError"), 500), "{:?}", called[1]);
    assert_eq!(main_file(amphora), new);
}
