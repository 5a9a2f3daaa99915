//! That the figures are those of what happened.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lab::{Family, TorKind, wait_for};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::{LB, PATIENCE, PORT, Site, act};
use crate::{Samples, configure_heartbeats, drain, samples};

fn wait(what: &str, api: &mut lab::Api, settled: impl Fn(&Samples) -> bool) -> Samples {
    let look = || {
        let samples = samples(api);
        if settled(&samples) { Ok(samples) } else { Err(format!("{samples:#?}")) }
    };
    wait_for(what, PATIENCE, look).unwrap().0
}

/// How much a counter has grown; one that is not there yet is zero.
fn growth(after: &Samples, before: &Samples, what: &str) -> f64 {
    after.get(what).copied().unwrap_or_default() - before.get(what).copied().unwrap_or_default()
}

#[test]
fn figures_follow_what_happens() {
    let (site, mut api) = Site::announced("metrics-counts", TorKind::Bird, "");
    let amphora = site.amphora();
    let (vip, peer) = (site.vip.v4, site.tor().peering_address(Family::V4));
    let (desired, announced) =
        (format!("amphora_vip_desired{{vip=\"{vip}\"}}"), format!("amphora_vip_announced{{vip=\"{vip}\"}}"));
    let process = |name: &str| format!("amphora_vip_{name}{{vip=\"{vip}\",gate=\"process\"}}");
    let is = |samples: &Samples, wanted: f64, there: f64| (samples[&desired], samples[&announced]) == (wanted, there);

    // As it stands.
    let start = wait("both families are sent", &mut api, |s| {
        ["ipv4", "ipv6"]
            .iter()
            .all(|f| s.get(&format!("amphora_bgp_announced_prefixes{{peer=\"{peer}\",family=\"{f}\"}}")) == Some(&1.0))
    });
    assert!(is(&start, 1.0, 1.0));
    assert_eq!(start[&process("gate_ok")], 1.0);
    assert_eq!(start[&format!("amphora_haproxy_workers{{lb_id=\"{LB}\"}}")], 1.0);
    assert!(start.keys().any(|key| key.starts_with("amphora_build_info{version=\"0.1.0\"")), "{start:#?}");
    assert!(start.keys().any(|key| key.starts_with("amphora_bgp_speaker_info{version=\"3.")), "{start:#?}");
    let pem = amphora.node().read_file("/etc/octavia/certs/server.pem").unwrap();
    amphora.node().write_file("/run/server.pem", pem, 0o600).unwrap();
    let ends = amphora.node().run([
        "sh",
        "-c",
        "date -d \"$(openssl x509 -in /run/server.pem -noout -enddate | cut -d= -f2)\" +%s",
    ]);
    assert_eq!(
        start["amphora_cert_not_after_timestamp_seconds{which=\"server\"}"],
        ends.unwrap().trim().parse::<f64>().unwrap()
    );
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let started = start["process_start_time_seconds"];
    assert!((now - PATIENCE.as_secs_f64() * 2.0..now + 2.0).contains(&started), "{started} at {now}");

    // Stopped by a call: nobody wants it announced, and nobody is to be alarmed. Then again.
    act(&mut api, "stop");
    wait("it is neither desired nor announced", &mut api, |s| is(s, 0.0, 0.0));
    act(&mut api, "start");
    let again = wait("it is desired and announced", &mut api, |s| is(s, 1.0, 1.0));
    assert_eq!(growth(&again, &start, &process("gate_transitions_total")), 2.0);

    // Reloaded, started by a reload, and refused.
    let reloads = |result: &str| format!("amphora_haproxy_reload_total{{result=\"{result}\"}}");
    act(&mut api, "reload");
    let route = "route=\"/1.0/loadbalancer/{lb_id}/{action}\"";
    let reloaded = samples(&mut api);
    assert_eq!(growth(&reloaded, &again, &reloads("reloaded")), 1.0);
    let calls = format!("amphora_http_requests_total{{method=\"PUT\",{route},code=\"202\"}}");
    assert_eq!(growth(&reloaded, &again, &calls), 1.0);
    assert_eq!(growth(&reloaded, &again, &format!("amphora_http_request_duration_seconds_count{{{route}}}")), 1.0);
    api.get("/made/up/by/a/client").unwrap();
    api.get("/another").unwrap();
    let unknown = samples(&mut api);
    assert_eq!(
        growth(&unknown, &reloaded, "amphora_http_requests_total{method=\"GET\",route=\"none\",code=\"404\"}"),
        2.0
    );

    // A death, which is a failure: it is wanted, and comes back.
    site.kill(site.haproxies()[0]);
    let healed = wait("the gate has closed and opened", &mut api, |s| {
        growth(s, &unknown, &process("gate_transitions_total")) >= 2.0 && is(s, 1.0, 1.0)
    });

    // Heartbeats: every other one to nobody.
    let (receiver, [heard, deaf]) = configure_heartbeats(amphora, &site.fabric.controller);
    let (sent, failed) = (
        format!("amphora_heartbeat_sent_total{{target=\"{heard}\"}}"),
        format!("amphora_heartbeat_errors_total{{target=\"{deaf}\",reason=\"refused\"}}"),
    );
    assert_eq!(healed["amphora_heartbeat_silent"], 1.0);
    let beating = wait("heartbeats are sent and refused", &mut api, |s| {
        growth(s, &healed, &sent) >= 2.0 && growth(s, &healed, &failed) >= 1.0
    });
    let heartbeat = receiver.next(lab::heartbeats::KEY, PATIENCE).unwrap();
    assert_eq!(beating["amphora_heartbeat_silent"], 0.0);
    let size = f64::from(u32::try_from(heartbeat.size).unwrap());
    assert!((beating["amphora_heartbeat_payload_bytes"] - size).abs() < 100.0, "{size}");

    // A configuration that is not usable, and is mended.
    let agent = amphora.agent().unwrap();
    let extra = "/etc/octavia/amphora-agent.conf.d/60-broken.conf";
    amphora.node().write_file(extra, "[distributor]\nvip_mode = sideways\n", 0o600).unwrap();
    agent.kill(Signal::SIGHUP).unwrap();
    let stale = wait("the configuration is stale", &mut api, |s| s["amphora_config_stale"] == 1.0);
    amphora.node().run(["rm", extra]).unwrap();
    std::thread::sleep(Duration::from_millis(10));
    agent.kill(Signal::SIGHUP).unwrap();
    let mended = wait("it is in effect", &mut api, |s| s["amphora_config_stale"] == 0.0);
    assert!(growth(&mended, &stale, "amphora_config_last_reload_success_timestamp_seconds") > 0.0);

    // Drained with a client that stays, and undrained. Its connection is what is waited for.
    let of_vip = |name: &str| format!("amphora_vip_{name}{{vip=\"{vip}\"}}");
    let stage = |stage: &str| format!("amphora_vip_drain_stage{{vip=\"{vip}\",stage=\"{stage}\"}}");
    assert_eq!((mended[&of_vip("draining")], mended.contains_key(&of_vip("connections"))), (0.0, false));
    let client = site.fabric.client.connect((vip, PORT).into(), PATIENCE).unwrap();
    drain(&site, &mut api, 600);
    let left = wait("a connection is left", &mut api, |s| s.get(&of_vip("connections")) == Some(&1.0));
    assert_eq!(left[&of_vip("draining")], 1.0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let deadline = left[&of_vip("drain_deadline_timestamp_seconds")];
    assert!(deadline > now && deadline < now + 602.0, "{deadline} at {now}");
    drop(client);
    let drained = wait("it is drained", &mut api, |s| s.get(&stage("drained")) == Some(&1.0));
    assert!(is(&drained, 0.0, 0.0) && !drained.contains_key(&stage("deprefer")));
    let undrain = format!("/1.0/distributor/amphorae/{}/undrain", amphora.id());
    api.put(&undrain, &json!({})).unwrap().success().unwrap();
    let back = wait("it is undrained", &mut api, |s| is(s, 1.0, 1.0) && s[&of_vip("draining")] == 0.0);
    assert!(!back.contains_key(&stage("drained")));

    // The ToR goes away and comes no more; the amphora goes on wanting and announcing, to nobody.
    let session = |to: &str| format!("amphora_bgp_session_transitions_total{{peer=\"{peer}\",to=\"{to}\"}}");
    assert_eq!(mended[&session("down")], 0.0);
    for daemon in site.tor().daemons() {
        daemon.kill(Signal::SIGTERM).unwrap();
    }
    let alone =
        wait("the session is down", &mut api, |s| s[&format!("amphora_bgp_session_up{{peer=\"{peer}\"}}")] == 0.0);
    assert_eq!(alone[&session("down")], 1.0);
    assert!(
        is(&alone, 1.0, 1.0) && !alone.contains_key(&format!("amphora_bgp_peer_uptime_seconds{{peer=\"{peer}\"}}"))
    );
}
