//! All of them at once.

use std::thread;
use std::time::Duration;

use lab::TorKind;

use crate::clients::Clients;
use crate::support::{PATIENCE, Site};

/// Longer than a less preferred route without clients would stay.
const WATCHED: Duration = Duration::from_secs(8);

/// New clients come all the time; where none comes for 5 s a drained amphora is withdrawn, the last one too.
#[test]
fn a_vip_of_which_every_amphora_is_drained_answers_while_new_clients_come_until_the_time_is_over() {
    let site = Site::new("drain-all", TorKind::Frr, false, 3);
    site.keep_sessions();
    let clients = Clients::start(&site.fabric.client, &site.vips(), 0);
    // With so many allowed, only that new ones come keeps a route.
    for index in 0..3 {
        site.drain(index, 300, 1_000);
    }
    thread::sleep(WATCHED);
    site.wait_used(&[0, 1, 2]);
    for index in 0..3 {
        let drains = site.drains(index);
        assert!(drains.iter().all(|drain| drain["stage"] == "deprefer"), "{drains:?}");
    }
    let why = site.api(0).get(&format!("/1.0/distributor/why/{}", site.vip.v4)).unwrap().success().unwrap().json();
    let gate = &why["gates"][0];
    assert_eq!((&gate["gate"], &gate["open"], &why["announced"]), (&"drain".into(), &true.into(), &true.into()));
    assert!(gate["evidence"].as_str().unwrap().contains("new clients still come"), "{why}");
    let (answered, failures) = (clients.answered(), clients.failures());
    println!("all three drained at once: {answered} answers in {WATCHED:?}, failed: {failures:?}");
    assert!(answered > 100 && failures.is_empty());

    // As soon as one is back the others are left alone, and go.
    site.undrain(1);
    site.wait_used(&[1]);
    for index in [0, 2] {
        site.wait_stage(index, "drained");
    }
    let failures = clients.failures();
    println!("with one back the other two are drained; failed: {failures:?}");
    // The time of a drain is kept whatever comes.
    drop(clients);
    site.drain(1, 0, 0);
    let took = site.wait_stage(1, "drained");
    assert!(took < PATIENCE, "{took:?}");
    site.wait_used(&[]);
}
