//! Cancelled, interrupted, begun anew.

use std::thread;
use std::time::Duration;

use lab::{TorKind, wait_for};
use serde_json::json;

use crate::clients::Clients;
use crate::support::{BOTH, PATIENCE, PORT, Site, call};

/// Clients that keep a drain in its first stage; both amphorae get some.
const STAY: usize = 30;

#[test]
fn a_drain_that_is_cancelled_in_any_stage_leaves_everything_as_it_was() {
    let site = Site::new("drain-cancel", TorKind::Bird, false, 2);
    site.keep_sessions();
    let before = (site.look(0), site.attributes(0));
    let _clients = Clients::start(&site.fabric.client, &site.vips(), STAY);
    for stage in ["deprefer", "withdrawn", "drained"] {
        match stage {
            "withdrawn" => withdraw(&site),
            "deprefer" => drop(site.drain(0, 300, 0)),
            _ => drop(site.drain(0, 0, 0)),
        }
        site.wait_used(&[1]);
        site.wait_stage(0, stage);
        assert_ne!((site.look(0), site.attributes(0)), before, "{stage}");
        site.undrain(0);
        site.wait_used(&[0, 1]);
        assert_eq!((site.look(0), site.attributes(0)), before, "{stage}");
        assert!(site.drains(0).iter().all(serde_json::Value::is_null));
        assert_eq!(site.undrain(0).status, 202, "once more is the same");
    }
}

/// Withdrawn, and kept so by the connections that are left. Without time left it is withdrawn at once, and with new numbers
/// within the second before it would be unbound it has time again; on a busy machine that may take more than one attempt.
fn withdraw(site: &Site) {
    for _ in 0..5 {
        site.drain(0, 0, 0);
        let past = || match site.drains(0) {
            all if all.iter().all(|drain| drain["stage"] != "deprefer") => Ok(()),
            all => Err(json!(all)),
        };
        wait_for("its first stage is over", PATIENCE, past).unwrap();
        site.drain(0, 300, 0);
        thread::sleep(Duration::from_secs(2)); // longer than without connections
        let drains = site.drains(0);
        if drains.iter().all(|drain| drain["stage"] == "withdrawn" && drain["connections"].as_u64() > Some(0)) {
            assert_eq!(site.look(0).bound.len(), 2);
            return;
        }
        site.undrain(0);
        site.wait_used(&[0, 1]);
    }
    panic!("it was never met in its second stage");
}

#[test]
fn a_drain_goes_on_over_a_killed_agent_and_a_reboot() {
    let site = Site::new("drain-interrupted", TorKind::Bird, false, 2);
    site.keep_sessions();
    let _clients = Clients::start(&site.fabric.client, &site.vips(), STAY);
    site.drain(0, 100, 0);
    site.wait_used(&[1]);
    let (first, less) = (site.drains(0), site.attributes(0));
    for reboot in [false, true] {
        if reboot {
            site.reboot(0);
        } else {
            site.amphora(0).kill_agent().unwrap();
            site.amphora(0).start_agent(&[]).unwrap();
            site.amphora(0).wait_api(crate::support::PATIENCE).unwrap();
        }
        let drain =
            site.api(0).get(&format!("/1.0/distributor/why/{}", site.vip.v4)).unwrap().json()["gates"][0].clone();
        assert_eq!(drain["gate"], "drain", "{drain}");
        if !reboot {
            assert_eq!(site.attributes(0), less, "the wire has not been touched");
            let now = site.drains(0);
            assert!(now.iter().zip(&first).all(|(now, first)| now["deadline"] == first["deadline"]), "{now:?}");
        }
    }
    // haproxy is not back after the reboot, so nobody is served and nobody comes.
    site.wait_stage(0, "drained");
    site.wait_nowhere(0);
    site.reboot(0);
    thread::sleep(Duration::from_secs(3)); // longer than the agent holds announcements back after its start
    site.wait_nowhere(0);
    assert!(site.drains(0).iter().all(|drain| drain["stage"] == "drained"));
    // haproxy binds an address that is not there (ip_nonlocal_bind), and serves when the drain is over.
    site.amphora(0).start_haproxy(&site.vips(), PORT).unwrap();
    site.undrain(0);
    site.wait_used(&[0, 1]);
}

#[test]
fn calls_that_cannot_be_are_refused_and_say_why() {
    let site = Site::new("drain-refused", TorKind::Bird, false, 1);
    let (own, mut api) = (site.amphora(0).id().to_owned(), site.api(0));
    let fine = json!({"timeout_s": 60, "max_connections": 0});
    let with = |key: &str, value: serde_json::Value| {
        let mut body = fine.clone();
        body[key] = value;
        body
    };
    for (amphora, action, body, status, names) in [
        ("nobody", "drain", fine.clone(), 404, "amphora_id nobody"),
        ("nobody", "undrain", json!({}), 404, "amphora_id nobody"),
        (&own, "drain", with("vip_ip", json!("203.0.113.99")), 404, "vip_ip 203.0.113.99"),
        (&own, "drain", with("vip_ip", json!("x")), 400, "vip_ip"),
        (&own, "drain", with("timeout_s", json!(-1)), 400, "timeout_s"),
        (&own, "drain", with("timeout_s", json!(604_801)), 400, "timeout_s"),
        (&own, "drain", with("max_connections", json!("1")), 400, "max_connections"),
        (&own, "drain", with("force", json!(true)), 400, "force"),
        (&own, "drain", json!({"timeout_s": 60}), 400, "max_connections"),
        (&own, "undrain", json!({"timeout_s": 60}), 400, "timeout_s"),
    ] {
        let reply = call(&mut api, amphora, action, &body);
        assert_eq!((reply.status, reply.text().contains(names)), (status, true), "{body}: {}", reply.text());
    }
    assert!(site.drains(0).iter().all(serde_json::Value::is_null));

    // One VIP of two; its numbers may change, and what is not asked for stays.
    let one = with("vip_ip", json!(site.vip.v4));
    call(&mut api, &own, "drain", &one).success().unwrap();
    let drains = |api: &mut lab::Api| {
        let said = call(api, &own, "undrain", &json!({"vip_ip": site.vip.v6})).success().unwrap().json();
        assert_eq!(said["vips"], json!([{"vip_ip": site.vip.v6, "drain": null}]), "{said}");
        site.drains(0).iter().filter(|drain| !drain.is_null()).cloned().collect::<Vec<_>>()
    };
    let first = drains(&mut api);
    assert_eq!((first.len(), &first[0]["stage"]), (1, &json!("deprefer")), "{first:?}");
    let mut other = one.clone();
    other["timeout_s"] = json!(900);
    call(&mut api, &own, "drain", &other).success().unwrap();
    let second = drains(&mut api);
    assert_eq!((&second[0]["timeout_s"], &second[0]["since"]), (&json!(900), &first[0]["since"]), "{second:?}");
    assert!(second[0]["deadline"].as_str() > first[0]["deadline"].as_str(), "{first:?} {second:?}");

    // What is unplugged is being drained no more.
    api.unplug_vip(site.vip.v4.into()).unwrap().success().unwrap();
    assert_eq!(call(&mut api, &own, "drain", &fine).status, 404, "it has no VIP");
    api.plug_vip(site.vip.v4.into(), &site.amphora(0).plug_body(site.vip)).unwrap().success().unwrap();
    site.wait_used(&[0]);
    assert!(drains(&mut api).is_empty());

    // Nor does a registration, which outlives the plug, have the next one drained.
    for family in BOTH {
        api.register(&own, site.vip.of(family), site.amphora(0).frontend(family), None).unwrap().success().unwrap();
    }
    site.drain(0, 0, 0);
    site.wait_stage(0, "drained");
    api.unplug_vip(site.vip.v4.into()).unwrap().success().unwrap();
    api.plug_vip(site.vip.v4.into(), &site.amphora(0).plug_body(site.vip)).unwrap().success().unwrap();
    site.wait_used(&[0]);
    assert!(site.drains(0).iter().all(serde_json::Value::is_null));
}
