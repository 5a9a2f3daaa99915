//! One of two amphorae loses its agent, its speaker, its haproxy; its front-end network goes.

use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::{Site, signal, with_each_tor};

/// How long the agent is away, and about what the slowest gate, the gateway's, needs for a verdict.
const LONG: Duration = Duration::from_secs(3);

#[test]
fn one_of_two_loses_its_agent_its_speaker_or_its_haproxy() {
    with_each_tor(|kind| {
        let site = Site::new("failures-amphora", kind, 2, |_, text| text);
        let watch = site.tor().watch_routes().unwrap();

        let fault = site.fault("agent killed");
        site.amphora(1).kill_agent().unwrap();
        thread::sleep(LONG);
        drop(site.restart_agent(1));
        let seen = fault.end("back after 3 s");
        assert_eq!((seen.failed(), site.heard(&watch)), (0, vec![]), "{seen}");

        let fault = site.fault("speaker killed");
        assert_eq!(site.amphora(1).kill_program("gobgpd", Signal::SIGKILL).unwrap(), 1);
        // Its end has to be noticed before a session can be another one.
        thread::sleep(Duration::from_millis(500));
        site.wait_session(1);
        let back = fault.began.elapsed();
        let seen = fault.end(&format!("a session with both routes again after {back:.1?}"));
        assert_eq!(seen.failed(), 0, "{seen}: {:?}", site.heard(&watch));

        let fault = site.fault("haproxy killed");
        let all = site.amphora(1).pids("haproxy").unwrap();
        signal(site.amphora(1), &all, Signal::SIGKILL);
        let gone = fault.gone(&[0]);
        site.wait_hops(&[0, 1]);
        let back = fault.began.elapsed();
        let seen = fault.end(&format!("route gone after {gone:.2?}, back after {back:.1?}"));
        assert!(seen.lasted() < back, "{seen}");

        let fault = site.fault("haproxy hung");
        let all = site.amphora(1).pids("haproxy").unwrap();
        signal(site.amphora(1), &all, Signal::SIGSTOP);
        let gone = fault.gone(&[0]);
        // Out of the way: whoever comes now gets an answer.
        thread::sleep(Duration::from_millis(100));
        let later = fault.began.elapsed();
        let seen = fault.end(&format!("route gone after {gone:.2?}"));
        assert!(seen.failed() > 0 && seen.lasted() < later, "{seen}");
        let fault = site.fault("haproxy goes on");
        signal(site.amphora(1), &all, Signal::SIGCONT);
        site.wait_hops(&[0, 1]);
        let back = fault.began.elapsed();
        let seen = fault.mended(&format!("route back after {back:.1?}"));
        seen.assert_only_moved();
    });
}

#[test]
fn one_of_two_loses_its_front_end_network_loudly_or_silently() {
    with_each_tor(|kind| {
        let site = Site::new("failures-front-end", kind, 2, |_, text| text);
        let (segment, port) = (&site.fabric.frontend, site.amphora(1).frontend_port());

        let fault = site.fault("front-end carrier lost");
        segment.set_port(port, false).unwrap();
        let gone = fault.gone(&[0]);
        thread::sleep(Duration::from_millis(100));
        let later = fault.began.elapsed();
        let seen = fault.end(&format!("route gone after {gone:.2?}"));
        assert!(seen.lasted() < later, "{seen}");
        let fault = site.fault("front-end carrier back");
        segment.set_port(port, true).unwrap();
        site.wait_hops(&[0, 1]);
        let back = fault.began.elapsed();
        let seen = fault.mended(&format!("route back after {back:.2?}"));
        seen.assert_only_moved();

        let fault = site.fault("front-end network silent");
        segment.isolate_port(port).unwrap();
        let gone = fault.gone(&[0]);
        thread::sleep(Duration::from_millis(100));
        let later = fault.began.elapsed();
        let seen = fault.end(&format!("route gone after {gone:.2?}"));
        assert!(seen.failed() > 0 && seen.lasted() < later, "{seen}");
        assert!(gone < 5 * LONG, "{gone:?}");
        let fault = site.fault("front-end network mended");
        segment.join_port(port).unwrap();
        site.wait_hops(&[0, 1]);
        let back = fault.began.elapsed();
        let seen = fault.mended(&format!("route back after {back:.2?}"));
        seen.assert_only_moved();
    });
}
