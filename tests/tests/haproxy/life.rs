//! Start, stop, reload and deletion, and what becomes of haproxy when it or the agent dies.

use lab::wait_for;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::{BASE, LB, Lab, PATIENCE, act, answer, configuration, delete, done, started, unknown};

#[test]
fn a_load_balancer_lives_and_dies_as_octavia_words_it() {
    let (lab, mut api) = Lab::new("haproxy-life");
    let count = |api: &mut lab::Api| api.get("/1.0/details").unwrap().json()["haproxy_count"].as_u64().unwrap();
    for action in ["start", "STOP", "Reload"] {
        assert_eq!(answer(act(&mut api, LB, action)), unknown(LB));
    }
    for (lb, action) in [(LB, "restart"), ("absent", "Explode")] {
        let details = format!("Unknown action: {}", action.to_lowercase());
        assert_eq!(
            answer(act(&mut api, lb, action)),
            (400, json!({ "message": "Invalid Request", "details": details }))
        );
    }
    assert_eq!(answer(delete(&mut api, LB)), (200, json!({ "message": "OK" })), "also when there is none");

    assert_eq!(answer(lab.upload(&mut api, LB, configuration(LB, "one"))).0, 202);
    assert_eq!((count(&mut api), lab.ask(80, 1).answered()), (0, 0));
    // The controller never starts a new load balancer, it reloads it.
    assert_eq!(answer(act(&mut api, LB, "RELOAD")), started(LB));
    assert_eq!((count(&mut api), lab.ask(80, 1).to_string()), (1, "one 1".into()));
    let [master] = lab.masters()[..] else { panic!("one: {:?}", lab.masters()) };
    assert_eq!(answer(act(&mut api, LB, "start")), started(LB), "one that runs is fine");

    assert_eq!(answer(lab.upload(&mut api, LB, configuration(LB, "two"))).0, 202);
    assert_eq!(lab.ask(80, 1).to_string(), "one 1", "not before it is reloaded");
    assert_eq!(answer(act(&mut api, LB, "reload")), done(&format!("Listener {LB} reloaded")));
    assert_eq!(lab.masters(), [master], "the same process");
    lab.wait_answer(80, "two");
    let state = lab.read(&format!("{BASE}/{LB}/servers-state")).unwrap();
    assert!(state.starts_with("1\n# be_id ") && state.ends_with('\n') && !state.ends_with("\n\n"), "{state:?}");
    assert!(state.lines().any(|line| line.contains(" pool:listener 1 member ")), "{state}");

    for _ in 0..2 {
        assert_eq!(answer(act(&mut api, LB, "stop")), done(&format!("Listener {LB} stoped")));
        assert_eq!((count(&mut api), lab.ask(80, 1).answered()), (0, 0));
    }
    assert_eq!(answer(act(&mut api, LB, "reload")), started(LB), "a reload of what is stopped starts it");
    lab.wait_answer(80, "two");

    let certificate = format!("/1.0/loadbalancer/{LB}/certificates/a.pem");
    assert_eq!(api.send(hyper::Method::PUT, &certificate, &[], b"secret".to_vec()).unwrap().status, 200);
    for _ in 0..2 {
        assert_eq!(answer(delete(&mut api, LB)), (200, json!({ "message": "OK" })));
        let left = lab.node_run(&["find", BASE, "/run/amphora-agent", "-name", &format!("*{LB}*")]);
        assert_eq!((left.as_str(), lab.ask(80, 1).answered(), count(&mut api)), ("", 0, 0));
    }
    assert_eq!(lab.masters(), [] as [u32; 0]);
    assert_eq!(answer(act(&mut api, LB, "start")), unknown(LB));
    for odd in ["..", "%2e%2e", "certs", "%ff", "a%2fb"] {
        assert!(matches!(answer(delete(&mut api, odd)).0, 200 | 404), "{odd}");
        assert!(matches!(answer(act(&mut api, odd, "stop")).0, 400 | 404), "{odd}");
    }
    assert!(lab.read(&format!("{BASE}/haproxy-default-user-group.conf")).is_some());
}

#[test]
fn what_haproxy_refuses_at_the_start_or_the_reload_is_told_and_the_old_one_serves_on() {
    let (lab, mut api) = Lab::new("haproxy-refuses");
    let path = format!("{BASE}/certs/{LB}/a.pem");
    let put = |api: &mut lab::Api, name: &str, contents: &str| {
        let path = format!("/1.0/loadbalancer/{LB}/certificates/{name}");
        assert_eq!(api.send(hyper::Method::PUT, &path, &[], contents.as_bytes().to_vec()).unwrap().status, 200);
    };
    let identity = lab.fabric.pki.server("www.example.com", &[]).unwrap();
    put(&mut api, "a.pem", &(identity.certificate.clone() + &identity.key));
    put(&mut api, "listener.pem", &format!("{path}\n"));
    let tls = |answer: &str| {
        let bind = format!("bind 203.0.113.7:443 ssl crt-list {BASE}/certs/{LB}/listener.pem");
        configuration(LB, answer).replace("    bind", &format!("    {bind}\n    bind"))
    };
    assert_eq!(answer(lab.upload(&mut api, LB, tls("one"))).0, 202);
    assert_eq!(answer(act(&mut api, LB, "start")), started(LB));
    let listeners = api.get("/1.0/listeners").unwrap().json();
    assert_eq!(listeners, json!([{ "status": "ACTIVE", "uuid": "listener", "type": "TERMINATED_HTTPS" }]));
    put(&mut api, "a.pem", "no certificate");
    let (status, body) = answer(act(&mut api, LB, "reload"));
    assert_eq!((status, &body["message"]), (500, &json!("Error reloading haproxy")), "{body}");
    assert!(body["details"].as_str().unwrap().contains("a.pem"), "{body}");
    assert_eq!(lab.ask(80, 1).to_string(), "one 1");
    assert_eq!(answer(act(&mut api, LB, "stop")).0, 202);
    let (status, body) = answer(act(&mut api, LB, "start"));
    assert_eq!((status, &body["message"]), (500, &json!("Error starting haproxy")), "{body}");
    put(&mut api, "a.pem", &(identity.certificate + &identity.key));
    assert_eq!(answer(act(&mut api, LB, "start")), started(LB));
    lab.wait_answer(80, "one");
}

#[test]
fn haproxy_outlives_the_agent_and_is_found_again_and_comes_back_when_it_dies() {
    let (lab, mut api) = Lab::new("haproxy-outlives");
    assert_eq!(answer(lab.upload(&mut api, LB, configuration(LB, "one"))).0, 202);
    assert_eq!(answer(act(&mut api, LB, "start")), started(LB));
    let masters = lab.masters();
    lab.amphora().kill_agent().unwrap();
    assert_eq!(lab.ask(80, 50).to_string(), "one 50");
    let mut api = lab.start(&[]);
    assert_eq!(lab.masters(), masters);
    assert_eq!(answer(lab.upload(&mut api, LB, configuration(LB, "two"))).0, 202);
    assert_eq!(answer(act(&mut api, LB, "reload")), done(&format!("Listener {LB} reloaded")));
    lab.wait_answer(80, "two");
    assert_eq!(lab.masters(), masters, "found, not started anew");
    lab.amphora().stop_agent().unwrap();
    assert_eq!(lab.ask(80, 50).to_string(), "two 50");
    let mut api = lab.start(&[]);

    // haproxy crashes, and a reload comes before or while it is started again: in every case it serves the new one.
    for round in 0..5 {
        let [master] = lab.masters()[..] else { panic!("one: {:?}", lab.masters()) };
        let text = format!("round-{round}");
        assert_eq!(answer(lab.upload(&mut api, LB, configuration(LB, &text))).0, 202);
        lab.node_run(&["sh", "-c", &format!("kill -{} {master}", Signal::SIGKILL as i32)]);
        let (status, body) = answer(act(&mut api, LB, "reload"));
        assert_eq!(status, 202, "{body}");
        lab.wait_answer(80, &text);
        let up = || match lab.masters()[..] {
            [new] if new != master => Ok(()),
            ref other => Err(format!("{other:?}")),
        };
        wait_for("one new haproxy", PATIENCE, up).unwrap();
        // Or it counts as one that cannot be kept running.
        std::thread::sleep(std::time::Duration::from_secs(2));
    }
}
