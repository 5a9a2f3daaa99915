//! One of three is drained under load.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use lab::{TorKind, wait_for};

use crate::clients::Clients;
use crate::support::{PATIENCE, Site};

/// Clients that stay.
const LONG: usize = 200;
/// For packets that were on their way when the ToR moved its clients.
const ON_THE_WAY: Duration = Duration::from_millis(200);
/// How long it is made sure that nobody new comes: longer than a route without connections would stay.
const WATCHED: Duration = Duration::from_secs(6);

/// A drain from its call to its end, behind a ToR that keeps connections where they are. Whatever the ToR, and whether its
/// AS is the amphora's or not: one that is less preferred gets nobody new.
fn one_of_three(test: &str, kind: TorKind, internal: bool) {
    let site = Site::new(test, kind, internal, 3);
    site.keep_sessions();
    let clients = Clients::start(&site.fabric.client, &site.vips(), LONG);
    let before = clients.long();
    let here = before[site.amphora(0).name()];
    println!("{test}: {LONG} that stay: {before:?}");
    assert!(before.len() == 3 && here > LONG / 10);

    let called = Instant::now();
    site.drain(0, 100, 0);
    site.wait_used(&[1, 2]);
    let moved = called.elapsed();
    thread::sleep(ON_THE_WAY);
    let (accepted, answered) = (site.accepted(0), clients.answered());
    thread::sleep(WATCHED);
    let (new, elsewhere) = (site.accepted(0) - accepted, clients.answered() - answered);
    println!("{test}: the ToR moved {moved:?} after the call; {new} of {elsewhere} questions came by a new connection");
    assert!(new == 0 && elsewhere > 100);
    // The old ones are served, waited for and counted.
    let drains = site.drains(0);
    let left: u64 = drains.iter().map(|drain| drain["connections"].as_u64().unwrap()).sum();
    assert_eq!(left, here as u64, "{drains:?}");
    assert!(drains.iter().all(|drain| drain["stage"] == "deprefer" && drain["timeout_s"] == 100), "{drains:?}");
    assert_eq!(site.look(0).announced.len(), 2);
    assert_eq!(clients.long(), before);

    clients.end_long(site.amphora(0).name());
    let ended = Instant::now();
    site.wait_stage(0, "drained");
    let drained = ended.elapsed();
    site.wait_nowhere(0);
    let (failures, answered) = (clients.failures(), clients.answered());
    println!("{test}: drained {drained:?} after its last client ended; {answered} answers, failed: {failures:?}");
    assert!(failures.is_empty());

    site.undrain(0);
    site.wait_used(&[0, 1, 2]);
    let accepted = site.accepted(0);
    wait_for("clients come again", PATIENCE, || match site.accepted(0) - accepted {
        0 => Err("none yet"),
        _ => Ok(()),
    })
    .unwrap();
    let failures = clients.failures();
    assert!(failures.is_empty(), "{failures:?}");
}

/// Most of their time is waiting, so all four go at once.
#[test]
fn one_of_three_gets_nobody_new_and_loses_nobody_behind_frr_and_bird_external_and_internal() {
    thread::scope(|scope| {
        for (test, kind, internal) in [
            ("drain-frr-ebgp", TorKind::Frr, false),
            ("drain-frr-ibgp", TorKind::Frr, true),
            ("drain-bird-ebgp", TorKind::Bird, false),
            ("drain-bird-ibgp", TorKind::Bird, true),
        ] {
            scope.spawn(move || one_of_three(test, kind, internal));
        }
    });
}

/// What a drain cannot do: a ToR that chooses by a hash alone sends the packets of old connections to the others at once.
/// The figures are for the documents; what is asserted is that it costs nobody else more than the hash does, and that the
/// amphora is drained in time although its sockets never hear of an end.
#[test]
fn a_tor_without_sessions_breaks_connections_that_stay_when_it_moves() {
    let site = Site::new("drain-stateless", TorKind::Bird, false, 3);
    let clients = Clients::start(&site.fabric.client, &site.vips(), LONG);
    let before = clients.long();
    site.drain(0, 8, 0);
    site.wait_used(&[1, 2]);
    site.wait_stage(0, "drained");
    let (after, failures) = (clients.long(), clients.failures());
    println!("before {before:?}, after {after:?}; failed: {failures:?}");
    assert_eq!(after.get(site.amphora(0).name()), None);
    let others = |split: &BTreeMap<String, usize>| {
        split.iter().filter(|(name, _)| *name != site.amphora(0).name()).map(|(_, n)| n).sum::<usize>()
    };
    assert!(others(&after) * 2 > others(&before), "the hash moves a quarter of the others' connections");
}
