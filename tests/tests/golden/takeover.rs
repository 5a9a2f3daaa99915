//! The Python agent is stopped and this one started in its place, with all it had done standing: the way of an upgrade.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lab::addresses::{CONTROLLER_HOST, FRONTEND, MANAGEMENT, amphora_host};
use lab::heartbeats::{self, KEY, Receiver};
use lab::octavia::environment;
use lab::{Fabric, Options, Peer, Place, TorKind, command, picture, wait_for};
use serde_json::Value;

use crate::case::{Case, ask, json, upload};
use crate::corpus::haproxy::CONFIGURATION;
use crate::pair::{PATIENCE, prepare, server, words};

/// Seconds: Octavia's default.
const INTERVAL: u32 = 10;

/// What the Python agent is asked to do before it goes.
fn before() -> Vec<Case> {
    let vip = r#"{"subnet_cidr":"192.0.2.0/25","gateway":"{gateway4}","mac_address":"{nic}","vrrp_ip":"{front4}","mtu":1500,
        "host_routes":[{"destination":"203.0.113.0/24","nexthop":"{gateway4}"}],"additional_vips":[{"ip_address":"{vip6}",
        "subnet_cidr":"2001:db8:2::/64","gateway":"{gateway6}","host_routes":[]}]}"#;
    let member = r#"{"mac_address":"{member nic}","mtu":1400,"fixed_ips":[{"ip_address":"{member4}",
        "subnet_cidr":"192.0.2.0/25","host_routes":[]}]}"#;
    vec![
        json("plug VIP", "POST", "/1.0/plug/vip/{vip4}", vip),
        json("plug network", "POST", "/1.0/plug/network", member),
        upload("certificate", "/1.0/loadbalancer/lb-1/certificates/a.pem", "kept"),
        upload("haproxy", "/1.0/loadbalancer/{amphora}/lb-1/haproxy", answering()),
        ask("start", "PUT", "/1.0/loadbalancer/lb-1/start"),
    ]
}

/// What both agents must answer alike.
fn same() -> Vec<Case> {
    let details: &[&str] = &["cpu", "memory", "disk", "load", "networks"];
    vec![
        ask("info", "GET", "/1.0/info"),
        ask("details", "GET", "/1.0/details").shapes(details),
        ask("listeners", "GET", "/1.0/listeners"),
        ask("configuration", "GET", "/1.0/loadbalancer/lb-1/haproxy"),
        ask("certificate", "GET", "/1.0/loadbalancer/lb-1/certificates/a.pem"),
        ask("VIP", "GET", "/1.0/interface/{vip4}"),
        ask("additional VIP", "GET", "/1.0/interface/{vip6}"),
        ask("front-end IP", "GET", "/1.0/interface/{front4}"),
        ask("member address", "GET", "/1.0/interface/{member4}"),
    ]
}

fn answering() -> String {
    CONFIGURATION.replace(
        "    default_backend pool-1:listener-1\n",
        "    http-request return status 200 content-type text/plain string here\n",
    )
}

/// What the kernel has told of links, addresses, routes and rules.
struct Monitor {
    place: Place,
    process: lab::Proc,
}

impl Monitor {
    fn start(place: &Place) -> Self {
        let mut ip = command(["ip", "-o", "monitor", "link", "address", "route", "rule"]);
        let process = place.spawn("monitor", &mut ip).unwrap();
        Self { place: place.clone(), process }
    }

    fn said(&self) -> String {
        self.place.within(|| std::fs::read_to_string(self.process.log())).unwrap().unwrap()
    }
}

#[test]
fn an_amphora_of_the_python_agent_is_taken_over_without_a_flap() {
    const NAME: &str = "an_amphora_of_the_python_agent_is_taken_over_without_a_flap";
    if let Err(error) = environment() {
        lab::skipped(NAME, &error.to_string());
        return;
    }
    let mut options = Options::new(TorKind::Bird);
    options.amphorae = 1;
    let fabric = Fabric::new("takeover", &options).unwrap();
    let amphora = &fabric.amphorae[0];
    prepare(&fabric, amphora, 0, "SINGLE");
    let manager = Receiver::new(&fabric.controller, "0.0.0.0:0".parse().unwrap()).unwrap();
    let target = format!("{}:{}", MANAGEMENT.host(CONTROLLER_HOST).v4, manager.address().unwrap().port());
    heartbeats::configure(amphora, &[target], INTERVAL, KEY).unwrap();

    let peer = Peer::start(amphora).unwrap();
    amphora.wait_api(PATIENCE).unwrap();
    let (server, words) = (server(&fabric, 0), words(&fabric, 0));
    for case in before() {
        let answer = crate::pair::answer(&server, &words, &case);
        assert!(answer.starts_with("20"), "{}: {answer}", case.name);
    }
    let answers = || same().iter().map(|case| crate::pair::answer(&server, &words, case)).collect::<Vec<_>>();
    let inside = amphora.haproxy_netns().unwrap();
    let vip = (FRONTEND.host(60 + amphora_host(0)).v4, 80).into();
    let tor = &**fabric.tors[0].node();
    wait_for("haproxy answers at the VIP", PATIENCE, || tor.connect(vip, Duration::from_secs(1))).unwrap();

    let listeners =
        |heartbeat: &Value| heartbeat["listeners"].as_object().map(|l| l.keys().cloned().collect::<Vec<_>>());
    manager.drain().unwrap();
    let known = manager.next(KEY, PATIENCE).unwrap();
    let (old, seen, haproxies) = (answers(), picture::look(&inside).unwrap(), amphora.pids("haproxy").unwrap());
    let monitor = Monitor::start(&inside);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            let (mut asked, mut failed) = (0, Vec::new());
            while !done.load(Ordering::Relaxed) {
                let split = lab::traffic::connect(tor, vip, 10).unwrap();
                asked += 10;
                if split.failed() > 0 {
                    failed.push(split.to_string());
                }
            }
            (asked, failed)
        });
        manager.drain().unwrap();
        let last = manager.next(KEY, PATIENCE).unwrap().at;
        let stopped = Instant::now();
        amphora.stop_agent().unwrap();
        drop(peer);
        amphora.start_agent(&[]).unwrap();
        amphora.wait_api(PATIENCE).unwrap();
        let took = stopped.elapsed();
        let next = manager.next(KEY, PATIENCE).unwrap();
        let gap = next.at - last;
        eprintln!("taken over in {took:.1?}; between two heartbeats {gap:.1?}, of {INTERVAL} s");
        assert!(gap <= Duration::from_secs(u64::from(INTERVAL)), "no heartbeat for {gap:?}");
        assert_eq!(listeners(&next.message), listeners(&known.message));

        assert_eq!(answers(), old);
        std::thread::sleep(Duration::from_secs(2)); // what would be done late
        done.store(true, Ordering::Relaxed);
        let (asked, failed) = client.join().unwrap();
        eprintln!("{asked} requests through haproxy meanwhile");
        assert!(failed.is_empty(), "{failed:?}");
    });
    let now = picture::look(&inside).unwrap();
    assert_eq!(picture::difference(&picture::unmarked(&seen), &picture::unmarked(&now)), Vec::<String>::new());
    assert_eq!(amphora.pids("haproxy").unwrap(), haproxies);
    let said = monitor.said();
    // What is there gets this agent's mark in its place; of a rule a second one, before the first goes. No link is touched.
    let gone = |line: &&str| line.starts_with("Deleted") && !line.contains(" lookup ");
    let changes: Vec<&str> = said.lines().filter(|line| gone(line) || line.contains(": <")).collect();
    assert_eq!(changes, Vec::<&str>::new(), "the kernel was changed");
}
