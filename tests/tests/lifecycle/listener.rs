//! A listener starts, stops, and dies.

use std::time::{Duration, Instant};

use lab::{Family, TorKind, wait_for};
use serde_json::Value;

use crate::support::{BOTH, LB, PATIENCE, Site, act, found, lost};

const BOTH_TORS: [TorKind; 2] = [TorKind::Bird, TorKind::Frr];
/// What FRR itself takes from an UPDATE to the kernel's route is 60 ms; this is for a machine that is busy with other tests.
const FRR: Duration = Duration::from_millis(500);

/// The default of `hold_down`.
const HOLD_DOWN: Duration = Duration::from_secs(2);

#[test]
fn a_vip_is_announced_when_its_listener_starts_and_withdrawn_before_it_is_stopped() {
    for kind in BOTH_TORS {
        let (site, mut api) = Site::new(&format!("lifecycle-start-{kind:?}"), kind, "");
        let vip = site.vip.v4.into();
        let evidence = site.wait_gate(&mut api, "process", false);
        assert_eq!(evidence, format!("haproxy of {LB} is stopped"));
        assert!(!site.is_announced());
        let said = site.why(&mut api, Family::V4);
        assert_eq!((&said["announced"], &said["verdict"]), (&false.into(), &"withdraw".into()), "{said}");
        assert!(said["reason"].as_str().unwrap().contains("is stopped"), "{said}");

        let watch = site.tor().watch_routes().unwrap();
        std::thread::sleep(HOLD_DOWN); // of the agent, which has just started
        act(&mut api, "start");
        let started = Instant::now();
        let announced = found(&watch, vip).saturating_duration_since(started);
        site.wait_announced();
        let listed = api.amphorae().unwrap().json();
        let text = |route: &Value, key: &str| route[key].as_str().unwrap_or_default().to_owned();
        let origins: Vec<_> =
            listed.as_array().unwrap().iter().map(|r| (text(r, "origin"), text(r, "vip_ip"))).collect();
        assert_eq!(origins, BOTH.map(|f| ("listener".to_owned(), site.vip.of(f).to_string())), "{listed}");
        let (said, _) = wait_for("why says that it is announced", PATIENCE, || match site.why(&mut api, Family::V6) {
            said if said["announced"] == true && said.get("reason").is_none() => Ok(said),
            said => Err(said),
        })
        .unwrap();
        let gates: Vec<_> =
            said["gates"].as_array().unwrap().iter().map(|g| (text(g, "gate"), g["open"].as_bool())).collect();
        let all = ["process", "listener", "socket", "bound", "carrier", "gateway"];
        assert_eq!(gates, all.map(|gate| (gate.to_owned(), Some(true))), "{said}");

        // What clients are refused by the socket that is gone was never sent there by the ToR.
        let before = Instant::now();
        act(&mut api, "stop");
        let stopped = Instant::now();
        let withdrawn = lost(&watch, vip);
        site.wait_withdrawn();
        println!(
            "{kind:?}: announced {announced:?} after the start, withdrawn {:?} after the call of a stop that took {:?}",
            withdrawn.duration_since(before),
            stopped.duration_since(before)
        );
        let spare = if kind == TorKind::Frr { FRR } else { Duration::ZERO };
        assert!(withdrawn < stopped + spare, "the stop was answered before the route was gone");
    }
}

#[test]
fn a_haproxy_that_is_killed_takes_its_route_along_and_brings_it_back() {
    for kind in BOTH_TORS {
        let (site, mut api) = Site::announced(&format!("lifecycle-kill-{kind:?}"), kind, "");
        let vip = site.vip.v4.into();
        for (nth, who) in [(0, "master"), (1, "worker")] {
            let watch = site.tor().watch_routes().unwrap();
            let killed = site.kill(site.haproxies()[nth]);
            let gone = lost(&watch, vip).saturating_duration_since(killed);
            let back = found(&watch, vip).saturating_duration_since(killed);
            println!("{kind:?}, {who} killed: route gone after {gone:?}, back after {back:?}");
            site.wait_announced();
        }
        let said = site.why(&mut api, Family::V4);
        assert_eq!(said["verdict"], "announce", "{said}");
    }
}

#[test]
fn what_is_registered_meets_the_same_gates_and_a_silenced_amphora_stays_silent() {
    let (site, mut api) = Site::announced("lifecycle-registered", TorKind::Bird, "");
    let amphora = site.amphora();
    let (vip, hop) = (site.vip.v4.into(), amphora.frontend(Family::V4));
    api.register(amphora.id(), vip, hop, None).unwrap().success().unwrap();
    act(&mut api, "stop");
    site.wait_withdrawn();
    let listed = api.amphorae().unwrap().json();
    let registered = listed.as_array().unwrap().iter().find(|r| r["origin"] == "api").cloned().unwrap();
    assert_eq!(registered["provisioning_status"], "PENDING_CREATE", "{registered}");
    assert!(registered["reason"].as_str().unwrap().contains("is stopped"), "{registered}");
    act(&mut api, "start");
    site.wait_announced();
    api.unregister(amphora.id(), "").unwrap().success().unwrap();
    site.wait_announced();
    for (action, announced) in [("stop", false), ("start", true)] {
        api.put(&format!("/1.0/vrrp/{action}"), &serde_json::json!({})).unwrap().success().unwrap();
        if announced { site.wait_announced() } else { site.wait_withdrawn() }
    }
    api.unplug_vip(vip).unwrap().success().unwrap();
    site.wait_withdrawn();
    assert_eq!(api.get(&format!("/1.0/distributor/why/{vip}")).unwrap().status, 404);
    assert_eq!(api.get("/1.0/distributor/why/nobody").unwrap().status, 400);
}
