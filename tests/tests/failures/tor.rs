//! The ToR's routing daemon hangs or dies, and the management network goes, over which its sessions are.

use std::thread;
use std::time::Duration;

use lab::routes::RouteWatch;
use lab::{Family, TorKind, wait_for};
use nix::sys::signal::Signal;

use crate::support::{PATIENCE, Site, with_each_tor};

/// In seconds: a short one, for what is shown follows from it. The restart time stays the default's 30 s.
const HOLD: u64 = 3;

fn site(test: &str, kind: TorKind) -> Site {
    Site::new(test, kind, 2, |_, text| format!("{text}hold_time = {HOLD}\n"))
}

/// Waits until the amphora knows that its session is lost.
fn wait_lost(site: &Site, index: usize) {
    let mut api = site.amphora(index).api().unwrap();
    let lost = || match api.peers().unwrap().json()[0]["state"].clone() {
        state if state == "Established" => Err("Established"),
        _ => Ok(()),
    };
    wait_for("the session is lost", PATIENCE, lost).unwrap();
}

/// What the ToR's kernel has done to the VIP's routes, in short.
fn changes(site: &Site, watch: &RouteWatch) -> String {
    let all = site.heard(watch);
    let deleted = all.iter().filter(|line| line.starts_with("Deleted")).count();
    format!("{} changes of its kernel's routes, of which {deleted} deletions", all.len())
}

#[test]
fn a_tors_daemon_that_hangs_or_dies_costs_nobody_a_request_and_one_that_goes_on_after_its_sessions_ended_costs_seconds()
{
    with_each_tor(|kind| {
        let mut site = site("failures-tor", kind);
        let daemon = |site: &Site| site.tor().daemons().last().unwrap().clone();
        let watch = site.tor().watch_routes().unwrap();

        let fault = site.fault("the ToR's daemon hangs");
        daemon(&site).kill(Signal::SIGSTOP).unwrap();
        wait_lost(&site, 0);
        let lost = fault.began.elapsed();
        let seen = fault.end(&format!("the amphora takes the session for lost after {lost:.1?}"));
        assert_eq!((seen.failed(), site.heard(&watch)), (0, vec![]), "{seen}");
        assert!(lost < Duration::from_secs(3 * HOLD), "{lost:?}");
        let fault = site.fault("the ToR's daemon goes on");
        daemon(&site).kill(Signal::SIGCONT).unwrap();
        thread::sleep(Duration::from_millis(500)); // it has the lost connections to find first
        (0..2).for_each(|index| site.wait_session(index));
        site.wait_hops(&[0, 1]);
        let back = fault.began.elapsed();
        let seen = fault.end(&format!("sessions again after {back:.1?}, {}", changes(&site, &watch)));
        // It reads what ended its sessions (a NOTIFICATION: no graceful restart), and has no route until there are new ones.
        assert!(seen.lasted() < back, "{seen}");

        let fault = site.fault("the ToR's daemons die");
        for one in site.tor().daemons() {
            one.kill_and_wait().unwrap();
        }
        thread::sleep(Duration::from_secs(1));
        let heard = site.heard(&watch);
        let seen = fault.end("its kernel's routes stay");
        assert_eq!((seen.failed(), heard), (0, vec![]), "{seen}");
        let asn = site.amphora(0).asn();
        site.fabric.tors[0].start(asn, 2).unwrap();
        let fault = site.fault("the ToR's daemons are started again");
        (0..2).for_each(|index| site.wait_session(index));
        // zebra that was killed may have left a route of IPv6 behind, with the same next hops.
        site.wait_hops_besides(&[0, 1]);
        let back = fault.began.elapsed();
        fault.end(&format!("sessions again after {back:.1?}, {}", changes(&site, &watch)));
    });
}

#[test]
fn an_amphora_cut_off_from_the_management_network_serves_until_its_hold_time_ends() {
    with_each_tor(|kind| {
        let site = site("failures-management", kind);
        let (segment, port) = (&site.fabric.management, site.amphora(1).management_port());

        let fault = site.fault("management network silent");
        segment.isolate_port(port).unwrap();
        let gone = fault.gone(&[0]);
        let seen = fault.end(&format!("route gone after {gone:.1?}, with a hold time of {HOLD} s"));
        seen.assert_only_moved();
        // From the last keepalive, up to a third of it ago; both daemons say so with a NOTIFICATION, to themselves a plain end.
        assert!(
            gone > Duration::from_secs(HOLD - HOLD / 3).mul_f64(0.9) && gone < Duration::from_secs(3 * HOLD),
            "{gone:?}"
        );
        let fault = site.fault("management network mended");
        segment.join_port(port).unwrap();
        site.wait_hops(&[0, 1]);
        let back = fault.began.elapsed();
        let seen = fault.mended(&format!("route back after {back:.1?}"));
        seen.assert_only_moved();
        assert!(site.amphora(1).api().unwrap().get("/").is_ok());
        site.tor().wait_established(site.amphora(1).management(Family::V4), PATIENCE).unwrap();
    });
}
