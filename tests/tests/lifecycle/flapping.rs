//! A listener that dies again and again costs the fabric a few routes, not hundreds.

use std::time::{Duration, Instant};

use lab::{Family, TorKind};

use crate::support::{Site, UPDATES};

const LASTS: Duration = Duration::from_mins(1);
/// The damping's promise (`agent/src/health/vip/tests.rs`).
const MOST: usize = 7;

#[test]
fn a_haproxy_that_dies_all_the_time_loses_its_route_seven_times_a_minute_at_most() {
    let (site, _) = Site::announced("lifecycle-flapping", TorKind::Bird, "");
    let watch = site.tor().watch_routes().unwrap();
    let capture = site.capture();
    let start = Instant::now();
    let mut deaths = 0;
    while start.elapsed() < LASTS {
        if let Some(pid) = site.haproxies().first() {
            // It may have ended by itself, with its worker.
            deaths += usize::from(site.amphora().node().run(["kill", "-9", &pid.to_string()]).is_ok());
        }
        // Slower than what makes the supervisor give up.
        std::thread::sleep(Duration::from_millis(2_500));
    }
    // The connection from the start has been idle for too long.
    let said = site.why(&mut site.amphora().api().unwrap(), Family::V4);
    let vip = format!("Deleted {} ", site.vip.v4);
    let losses = watch.so_far().iter().filter(|event| event.line.starts_with(&vip)).count();
    let updates = capture.stop().unwrap().count(UPDATES).unwrap();
    println!(
        "{deaths} deaths in {:?}: {losses} withdrawals, {updates} packets of UPDATEs; {}",
        start.elapsed(),
        said["reason"]
    );
    assert!(deaths > 2 * MOST, "too few to tell");
    assert!((1..=MOST).contains(&losses));
    // When it is over the VIP comes back by itself.
    site.wait_announced();
}
