//! What clients notice of reloads: nothing.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::{LB, Lab, act, answer, configuration, done, started};

const RELOADS: usize = 20;

#[test]
fn no_request_fails_over_twenty_reloads() {
    let (lab, mut api) = Lab::new("haproxy-load");
    assert_eq!(answer(lab.upload(&mut api, LB, configuration(LB, "served"))).0, 202);
    assert_eq!(answer(act(&mut api, LB, "start")), started(LB));
    let over = AtomicBool::new(false);
    let (answered, failed) = std::thread::scope(|scope| {
        let clients = scope.spawn(|| {
            let (mut answered, mut failed) = (0, Vec::new());
            while !over.load(Ordering::Relaxed) {
                let split = lab.ask(80, 200);
                answered += split.answered();
                failed.extend(split.failures);
            }
            (answered, failed)
        });
        for round in 0..RELOADS {
            let text = configuration(LB, "served").replace("maxconn 2000", &format!("maxconn {}", 2000 + round));
            assert_eq!(answer(lab.upload(&mut api, LB, text)).0, 202);
            assert_eq!(answer(act(&mut api, LB, "reload")), done(&format!("Listener {LB} reloaded")));
        }
        over.store(true, Ordering::Relaxed);
        clients.join().unwrap()
    });
    println!("{answered} requests over {RELOADS} reloads, failed: {failed:?}");
    assert!(answered > 10 * RELOADS, "too few to tell: {answered}");
    assert!(failed.is_empty(), "{failed:?}");
}
