//! What must not be heard: reloads, and the agent's own end and return.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use lab::traffic;
use lab::{Family, TorKind};

use crate::support::{PORT, Site, UPDATES, act};

const RELOADS: usize = 20;
/// FRR takes its route-maps into use 5 s after its start and then asks for all routes again (ROUTE-REFRESH).
const FRR_ASKS: Duration = Duration::from_secs(7);

#[test]
fn reloads_under_load_fail_no_request_and_send_no_update() {
    let (site, mut api) = Site::announced("lifecycle-reload", TorKind::Bird, "");
    let capture = site.capture();
    let over = AtomicBool::new(false);
    let (answered, failed) = thread::scope(|scope| {
        let clients = scope.spawn(|| {
            let (mut answered, mut failed) = (0, Vec::new());
            while !over.load(Ordering::Relaxed) {
                let split = traffic::connect(&site.fabric.client, (site.vip.of(Family::V4), PORT).into(), 100).unwrap();
                answered += split.answered();
                failed.extend(split.failures);
            }
            (answered, failed)
        });
        for round in 0..RELOADS {
            site.upload(&mut api, &format!("backend b{round}\n    mode http\n"));
            act(&mut api, "reload");
        }
        over.store(true, Ordering::Relaxed);
        clients.join().unwrap()
    });
    let updates = capture.stop().unwrap().matching(UPDATES).unwrap();
    println!(
        "{answered} requests over {RELOADS} reloads, failed: {failed:?}, BGP messages but keepalives: {updates:?}"
    );
    assert!(answered > 10 * RELOADS, "too few to tell: {answered}");
    assert!(failed.is_empty() && updates.is_empty());
}

#[test]
fn an_agent_that_is_killed_or_stopped_and_comes_back_sends_nothing() {
    for kind in [TorKind::Bird, TorKind::Frr] {
        let (site, _) = Site::announced(&format!("lifecycle-agent-{kind:?}"), kind, "");
        if kind == TorKind::Frr {
            thread::sleep(FRR_ASKS);
        }
        let capture = site.capture();
        for gentle in [false, true] {
            if gentle {
                site.amphora().stop_agent().unwrap();
            } else {
                site.amphora().kill_agent().unwrap();
            }
            let mut api = site.start_agent();
            site.wait_gate(&mut api, "socket", true);
            // Through the hold-down, to a verdict of its own.
            let announces = || match site.why(&mut api, Family::V4) {
                said if said["verdict"] == "announce" && said["announced"] == true => Ok(()),
                said => Err(said),
            };
            lab::wait_for("the new agent announces", crate::support::PATIENCE, announces).unwrap();
        }
        thread::sleep(Duration::from_millis(500));
        let packets = capture.stop().unwrap();
        let (updates, all) = (packets.matching(UPDATES).unwrap(), packets.count("tcp port 179").unwrap());
        println!("{kind:?}: {all} packets of BGP, of which {} are no keepalives: {updates:?}", updates.len());
        assert!(
            updates.is_empty()
                && packets.count("tcp port 179 and tcp[tcpflags] & (tcp-fin|tcp-rst) != 0").unwrap() == 0
        );
        site.wait_announced();
    }
}

#[test]
fn a_haproxy_that_died_with_its_agent_is_withdrawn_when_the_agent_is_back() {
    let (site, _) = Site::announced("lifecycle-both", TorKind::Bird, "");
    site.amphora().kill_agent().unwrap();
    let watch = site.tor().watch_routes().unwrap();
    site.kill(site.haproxies()[0]);
    assert!(site.is_announced(), "nobody judges");
    // The new agent starts haproxy again: whichever it is first, what is announced is served in the end.
    let mut api = site.start_agent();
    site.wait_gate(&mut api, "socket", true);
    site.wait_announced();
    let split = traffic::connect(&site.fabric.client, (site.vip.of(Family::V4), PORT).into(), 50).unwrap();
    assert_eq!((split.answered(), split.failed()), (50, 0), "{split}; routes: {:?}", watch.so_far());
}
