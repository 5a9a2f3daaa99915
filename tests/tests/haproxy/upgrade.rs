//! The agent is replaced by another program while its load balancer works: neither a request nor a heartbeat is missed.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lab::heartbeats::{self, Heartbeat, KEY, Receiver};
use lab::{addresses, wait_for};

use crate::support::{LB, Lab, PATIENCE, act, answer, configuration, started};

const INTERVAL: Duration = Duration::from_secs(2);
/// How far into an interval it is replaced.
const MOMENTS: [f64; 6] = [0.05, 0.25, 0.45, 0.65, 0.8, 0.88];

#[test]
fn an_agent_that_is_replaced_under_load_misses_no_request_and_no_heartbeat() {
    let (lab, mut api) = Lab::new("haproxy-upgrade");
    let amphora = lab.amphora();
    assert_eq!(answer(lab.upload(&mut api, LB, configuration(LB, "served"))).0, 202);
    assert_eq!(answer(act(&mut api, LB, "start")), started(LB));
    lab.wait_answer(80, "served");
    let masters = lab.masters();
    let manager = Receiver::new(&lab.fabric.controller, "0.0.0.0:0".parse().unwrap()).unwrap();
    let host = addresses::MANAGEMENT.host(addresses::CONTROLLER_HOST).v4;
    let target = format!("{host}:{}", manager.address().unwrap().port());
    heartbeats::configure(amphora, &[target], u32::try_from(INTERVAL.as_secs()).unwrap(), KEY).unwrap();
    amphora.stop_agent().unwrap();
    lab.start(&[]);
    let built = lab::workdir::built_program("amphora-agent").unwrap();

    let (over, arrived) = (AtomicBool::new(false), Mutex::new(Vec::<Heartbeat>::new()));
    let seen = || arrived.lock().unwrap().len();
    let wait_another = || {
        let before = seen();
        wait_for("a heartbeat", PATIENCE, || if seen() > before { Ok(()) } else { Err(seen()) }).unwrap();
    };
    let (answered, failed) = std::thread::scope(|scope| {
        let clients = scope.spawn(|| {
            let (mut answered, mut failed) = (0, Vec::new());
            while !over.load(Ordering::Relaxed) {
                let split = lab.ask(80, 50);
                answered += split.answered();
                failed.extend(split.failures);
            }
            (answered, failed)
        });
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                if let Ok(heartbeat) = manager.next(KEY, INTERVAL) {
                    arrived.lock().unwrap().push(heartbeat);
                }
            }
        });
        for (round, moment) in MOMENTS.into_iter().enumerate() {
            wait_another();
            std::thread::sleep(INTERVAL.mul_f64(moment));
            let new = format!("/run/amphora-agent-{round}");
            amphora.node().run(["cp".as_ref(), built.as_os_str(), new.as_ref()]).unwrap();
            amphora.stop_agent().unwrap();
            let agent = amphora.start_program(new.as_ref(), &[]).unwrap();
            let (mut api, took) = amphora.wait_api(PATIENCE).unwrap();
            println!("replaced {moment} intervals after a heartbeat; {took:.1?} from its start to its API");
            assert!(std::fs::read_link(format!("/proc/{}/exe", agent.pid())).unwrap().ends_with(&new[1..]));
            let listeners = api.get("/1.0/details").unwrap().json()["listeners"].clone();
            assert_eq!(listeners, serde_json::json!(["listener"]), "it found what the old one left");
        }
        wait_another();
        over.store(true, Ordering::Relaxed);
        clients.join().unwrap()
    });
    let all = arrived.into_inner().unwrap();
    let seqs: Vec<_> = all.iter().map(|heartbeat| heartbeat.message["seq"].as_u64().unwrap()).collect();
    let longest = all.windows(2).map(|pair| pair[1].at - pair[0].at).max().unwrap();
    println!(
        "{} agents: {answered} requests, failed: {failed:?}; {} heartbeats, the longest gap {longest:.2?} of {INTERVAL:?}: {seqs:?}",
        MOMENTS.len() + 1,
        all.len()
    );
    assert!(answered > 100 * MOMENTS.len(), "too few to tell: {answered}");
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(lab.masters(), masters);
    assert!(all.iter().all(|heartbeat| heartbeat.message["listeners"].get("listener").is_some()), "{all:?}");
    // Each begins with its first; the one before has parted with one more than the one that was waited for.
    assert_eq!(seqs.iter().filter(|seq| **seq == 0).count(), MOMENTS.len() + 1, "{seqs:?}");
    for (at, _) in seqs.iter().enumerate().skip(1).filter(|(_, seq)| **seq == 0) {
        assert!(seqs[at - 1] >= 1, "{seqs:?}");
        assert!(all[at].at - all[at - 1].at < INTERVAL.mul_f64(0.75), "as long as a restart takes, no more");
    }
    // Its beginnings are at most an interval apart; a quarter for a machine that is busy.
    assert!(longest < INTERVAL.mul_f64(1.25), "{longest:?}");
}
