//! What heartbeats say over time, whom they go to, and when there are none.

use std::time::Duration;

use lab::heartbeats::{KEY, Receiver};
use lab::wait_for;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::site::{HTTP, PATIENCE, Site, start_haproxy};

/// How many connections a heartbeat reports for the HTTP listener.
fn reported(message: &Value) -> u64 {
    message["listeners"][HTTP]["stats"]["totconns"].as_u64().unwrap()
}

#[test]
fn every_connection_is_reported_once_across_restarts_of_agent_and_haproxy() {
    let mut site = Site::new("deltas");
    site.traffic(3);
    site.configure(&[site.target()], 1, KEY);
    let mut sum = reported(&site.next().message);
    assert_eq!(sum, 3, "as far as haproxy has counted");
    site.traffic(2);
    while sum < 5 {
        sum += reported(&site.next().message);
    }
    site.amphora().kill_agent().unwrap();
    site.manager.drain().unwrap();
    site.traffic(4);
    site.amphora().start_agent(&[]).unwrap();
    let first = site.next().message;
    assert_eq!((&first["seq"], reported(&first)), (&json!(0), 4));
    sum += 4;
    assert_eq!(sum, site.connections());

    // Without haproxy its listeners are left out; a new one counts from zero.
    site.haproxy.kill(Signal::SIGTERM).unwrap();
    site.haproxy.wait(PATIENCE).unwrap();
    site.manager.drain().unwrap();
    wait_for("it is left out", PATIENCE, || {
        let message = site.next().message;
        if message["listeners"] == json!({}) && message["pools"] == json!({}) { Ok(()) } else { Err(message) }
    })
    .unwrap();
    site.haproxy = start_haproxy(&site.inside());
    site.traffic(1);
    let mut sum = 0;
    while sum < 1 {
        let message = site.next().message;
        sum += message["listeners"].get(HTTP).map_or(0, |_| reported(&message));
    }
    assert_eq!(sum, 1);
}

#[test]
fn an_agent_killed_at_any_step_of_a_heartbeat_reports_no_connection_twice() {
    let site = Site::new("killed");
    site.configure(&[site.target()], 1, KEY);
    let mut sum = reported(&site.next().message);
    site.amphora().kill_agent().unwrap();
    site.manager.drain().unwrap();
    let (mut seen, mut lost) = (Vec::new(), 0);
    for at in 1..40 {
        site.traffic(1);
        let agent = site.amphora().start_agent(&[("AMPHORA_AGENT_CRASH_AT", &at.to_string())]).unwrap();
        let log = || std::fs::read_to_string(agent.log()).unwrap_or_default();
        let point = format!("crash point {at}: ");
        // What it sent before it died counts; so it dies, or its first heartbeat is here.
        let ended = wait_for("its end or its heartbeat", PATIENCE, || {
            if !agent.is_running() {
                return Ok(None);
            }
            site.manager.next(KEY, Duration::from_millis(20)).map(|heartbeat| Some(heartbeat.message))
        });
        let (sent, _) = ended.unwrap();
        sum += sent.as_ref().map_or(0, reported);
        agent.kill_and_wait().unwrap();
        while let Ok(heartbeat) = site.manager.next(KEY, Duration::from_millis(20)) {
            sum += reported(&heartbeat.message);
        }
        let died_at = log().lines().find_map(|line| line.strip_prefix(&point).map(ToOwned::to_owned));
        if died_at.as_deref() == Some("heartbeat: counters stored") {
            lost = site.connections() - sum; // one heartbeat's numbers, and never more
        }
        let left = site.connections() - sum - lost; // reported twice, it would be below zero
        assert!(left == 0 || sent.is_none(), "at {at}: {left} left");
        seen.extend(died_at);
        if sent.is_some() && !log().contains(&point) {
            break; // there are no more steps up to a heartbeat
        }
    }
    for step in ["heartbeat: counters written", "heartbeat: counters stored"] {
        assert!(seen.iter().any(|point| point == step), "{step} is none of {seen:?}");
    }
}

#[test]
fn targets_key_and_interval_are_followed_and_take_turns() {
    let site = Site::new("targets");
    site.configure(&[site.target()], 1, KEY);
    site.next();
    // Another one by IPv6, under a new key; the one in between cannot be reached.
    let second = Receiver::new(&site.fabric.controller, "[::]:0".parse().unwrap()).unwrap();
    let host = lab::addresses::MANAGEMENT.host(lab::addresses::CONTROLLER_HOST).v6;
    let v6 = format!("[{host}]:{}", second.address().unwrap().port());
    site.configure(&[site.target(), "nobody.invalid:5555".to_owned(), v6.clone()], 1, "another key");
    let (first, _) = wait_for("the new key", PATIENCE, || site.manager.next("another key", PATIENCE)).unwrap();
    let turns: Vec<_> = (0..2)
        .map(|_| {
            let there = second.next("another key", PATIENCE).unwrap().message["seq"].as_u64().unwrap();
            let here = site.manager.next("another key", PATIENCE).unwrap().message["seq"].as_u64().unwrap();
            (there, here)
        })
        .collect();
    let seq = first.message["seq"].as_u64().unwrap();
    assert_eq!(turns, [(seq + 1, seq + 2), (seq + 3, seq + 4)], "no turn is lost to the one without an address");
    site.configure(&[v6], 1, KEY);
    wait_for("the other one alone", PATIENCE, || second.next(KEY, PATIENCE)).unwrap();
    site.manager.drain().unwrap();
    for _ in 0..3 {
        second.next(KEY, PATIENCE).unwrap();
    }
    assert!(site.manager.next(KEY, Duration::from_millis(1)).is_err());
    let log = std::fs::read_to_string(site.amphora().agent().unwrap().log()).unwrap();
    assert_eq!(log.matches("a heartbeat cannot be sent").count(), 1, "{log}");
    for key in [KEY, "another key"] {
        assert!(!log.contains(key), "{log}");
    }
}

#[test]
fn an_amphora_whose_keepalived_is_dead_is_silent_but_an_anycast_one_is_not() {
    let site = Site::new("keepalived");
    let (node, vrrp) = (site.amphora().node(), "/var/lib/octavia/vrrp/octavia-keepalived");
    site.configure(&[site.target()], 1, KEY);
    site.next();
    node.write_file(&format!("{vrrp}.conf"), "vrrp_instance x {}\n", 0o600).unwrap();
    let log = || std::fs::read_to_string(site.amphora().agent().unwrap().log()).unwrap();
    let silent = |times: usize| {
        wait_for("it falls silent", PATIENCE, || {
            let count = log().matches("no heartbeats: the controller will replace this amphora").count();
            if count == times { Ok(()) } else { Err(count) }
        })
        .unwrap();
        site.manager.drain().unwrap();
        assert!(site.manager.next(KEY, Duration::from_secs(3)).is_err(), "silent");
    };
    silent(1);
    node.write_file(&format!("{vrrp}.pid"), "1\n", 0o644).unwrap();
    site.next();
    node.write_file(&format!("{vrrp}.pid"), "4194304\n", 0o644).unwrap();
    silent(2);
    // The VIP is anycast, so keepalived is never started and says nothing about this amphora.
    site.amphora().write_config("[distributor]\nvip_mode = anycast\nannounce = api\n").unwrap();
    site.amphora().agent().unwrap().kill(Signal::SIGHUP).unwrap();
    site.next();
}
