//! What an agent shows to those it should not: ports, and secrets in whatever it writes.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

use hyper::Method;
use lab::{Amphora, Fabric, Family, Neighbours, Options, TorKind, command, wait_for};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{PATIENCE, inside, running, start, vip};
use crate::{serving, state};

#[test]
fn nothing_listens_but_the_api_and_bgp_on_the_management_side_and_haproxy_inside() {
    let (fabric, mut api) = running("ports", 1);
    let amphora = &fabric.amphorae[0];
    serving(&fabric, &mut api);
    let listeners = |place: &lab::Place| -> BTreeSet<(String, String)> {
        let said = place.run(["ss", "-Hltnp"]).unwrap();
        let line = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            (words[3].to_owned(), words[5].split('"').nth(1).unwrap().to_owned())
        };
        said.lines().map(line).collect()
    };
    let of = |list: &[(&str, &str)]| -> BTreeSet<(String, String)> {
        list.iter().map(|(address, program)| ((*address).to_owned(), (*program).to_owned())).collect()
    };
    let api_at = format!("{}:9443", amphora.management(Family::V4));
    let outside = of(&[(&api_at, "amphora-agent"), ("*:179", "gobgpd")]);
    let found = listeners(amphora.node());
    let merge =
        |(address, program): &(String, String)| (address.replace("0.0.0.0", "*").replace("[::]", "*"), program.clone());
    assert_eq!(found.iter().map(merge).collect::<BTreeSet<_>>(), outside, "{found:?}");
    let proxy = ("127.0.0.1:9102", "amphora-agent"); // prometheus-proxy
    lab::wait_for("the proxy for metrics", PATIENCE, || {
        let found = listeners(&inside(amphora));
        if found == of(&[proxy]) { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .unwrap();
    amphora.start_haproxy(&[vip().v4.into(), vip().v6.into()], 80).unwrap();
    let all = [proxy, ("203.0.113.7:80", "haproxy"), ("[2001:db8:100::7]:80", "haproxy")];
    assert_eq!(listeners(&inside(amphora)), of(&all));
    let udp = [amphora.node().run(["ss", "-Hlun"]).unwrap(), inside(amphora).run(["ss", "-Hlun"]).unwrap()];
    assert_eq!(udp, ["", ""], "and nothing by UDP");
}

/// What other processes, and whoever may read them, see: command lines and environments of the whole node.
fn in_proc(amphora: &Amphora) -> String {
    amphora.node().run(["sh", "-c", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\0' '\\n'"]).unwrap()
}

#[test]
fn a_run_at_debug_level_lets_out_none_of_its_secrets() {
    let mut options = Options::new(TorKind::Bird);
    options.amphorae = 1;
    options.tors[0].neighbours = Neighbours::Each(Family::V4);
    options.tors[0].password = Some("canary-md5-password".into());
    let fabric = Fabric::new("canaries", &options).unwrap();
    fabric.write_configs(Family::V4).unwrap();
    let (amphora, node) = (&fabric.amphorae[0], fabric.amphorae[0].node());
    let path = "/etc/octavia/amphora-agent.conf";
    let config = node.read_file(path).unwrap();
    let config = config.replace("debug = False", "debug = True").replace("lab-heartbeat-key", "canary-heartbeat-key");
    node.write_file(path, config, 0o600).unwrap();
    let server = node.read_file("/etc/octavia/certs/server.pem").unwrap();
    let (_, key) = server.split_once("-----BEGIN PRIVATE KEY-----\n").unwrap();
    let mut canaries = vec!["canary-heartbeat-key", "canary-md5-password"];
    canaries.extend(key.lines().filter(|line| !line.starts_with('-') && line.len() > 16));
    assert!(canaries.len() > 3, "the key is in the file");

    let mut said = String::new();
    for arguments in [&["--check-config"][..], &["--print-effective-config"]] {
        let program = format!("/proc/{}/exe", std::process::id());
        let agent = fs::read_link(program).unwrap().ancestors().nth(2).unwrap().join("amphora-agent");
        let mut run = command([agent]);
        run.args(arguments).args(["--config-file", path, "--config-dir", "/etc/octavia/amphora-agent.conf.d"]);
        said += &String::from_utf8(node.output(&mut run).unwrap().stdout).unwrap();
    }
    assert!(said.contains("***"), "{said}");
    let mut api = start(amphora);
    fabric.tors[0].wait_established(amphora.management(Family::V4), PATIENCE).unwrap();
    serving(&fabric, &mut api);
    let registration = json!({"vip_ip": "203.0.113.30", "nexthop_ip": "192.0.2.77", "peer_id": "tor-0"});
    let calls: [(hyper::Method, &str, Value); 20] = [
        (Method::GET, "/", Value::Null),
        (Method::GET, "/1.0/info", Value::Null),
        (Method::GET, "/1.0/interface/203.0.113.7", Value::Null),
        (Method::GET, "/1.0/interface/203.0.113.9", Value::Null),
        (Method::GET, "/1.0/nowhere", Value::Null),
        (Method::PUT, "/1.0/info", Value::Null),
        (Method::GET, "/1.0/distributor/peers", Value::Null),
        (Method::GET, "/1.0/distributor/amphorae", Value::Null),
        (Method::POST, "/1.0/distributor/vips", registration.clone()),
        (Method::GET, "/1.0/distributor/vips", Value::Null),
        (Method::POST, "/1.0/distributor/vips", json!({"vip_ip": "x", "nexthop_ip": 5})),
        (
            Method::POST,
            "/1.0/distributor/vips",
            json!({"vip_ip": "203.0.113.31", "nexthop_ip": "192.0.2.77", "peer_id": "x"}),
        ),
        (Method::POST, "/1.0/distributor/amphorae", json!({"amphora_id": "x"})),
        (Method::POST, "/1.0/plug/vip/203.0.113.7", amphora.plug_body(vip())),
        (Method::POST, "/1.0/plug/vip/203.0.113.8", json!({"subnet_cidr": "x", "gateway": null, "mac_address": "y"})),
        (Method::DELETE, "/1.0/distributor/vips/203.0.113.30", Value::Null),
        (Method::DELETE, "/1.0/distributor/amphorae/nobody", Value::Null),
        (Method::DELETE, "/1.0/plug/vip/x", Value::Null),
        (Method::DELETE, "/1.0/plug/vip/203.0.113.7", Value::Null),
        (Method::GET, "/1.0/distributor/amphorae", Value::Null),
    ];
    for (method, path, body) in calls {
        let reply = api.send(method, path, &[], body.to_string().into_bytes()).unwrap();
        writeln!(said, "{:?}\n{}", reply.headers, reply.text()).unwrap();
    }
    let stranger = amphora.api_as(fabric.pki.client(Some(fabric.pki.stranger())).unwrap()).unwrap().get("/");
    assert!(stranger.is_err());
    amphora.agent().unwrap().kill(Signal::SIGHUP).unwrap();
    assert_eq!(amphora.kill_program("gobgpd", Signal::SIGKILL).unwrap(), 1);
    wait_for("gobgpd is back", PATIENCE, || {
        if amphora.pids("gobgpd").unwrap().is_empty() { Err("gone".to_owned()) } else { Ok(()) }
    })
    .unwrap();
    fabric.tors[0].wait_established(amphora.management(Family::V4), PATIENCE).unwrap();
    said += &in_proc(amphora);
    said += &node.read_file("/var/log/gobgpd.log").unwrap();
    said += &String::from_utf8_lossy(&state(amphora));
    amphora.stop_agent().unwrap();
    let log = fs::read_to_string(amphora.agent().unwrap().log()).unwrap();
    assert!(log.contains("DEBUG"), "{log}");
    said += &log;
    println!("{} bytes were looked through for {} canaries", said.len(), canaries.len());
    for canary in canaries {
        let found: Vec<&str> = said.lines().filter(|line| line.contains(canary)).collect();
        assert!(found.is_empty(), "{canary} is in {found:#?}");
    }
}
