//! Two amphorae of an `ACTIVE_STANDBY` load balancer, as the stock controller sets them up.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use lab::{Amphora, Fabric, traffic, wait_for};

use crate::support::{PATIENCE, holds_vip, plug, put, start, stock, vip, vrrp_configs};

const LB: &str = "6f4b2f0e-4a4e-4c1b-9f0a-0d3b7a1c2d3e";
const PORT: u16 = 80;

/// A haproxy that answers with its amphora's name, with what of Octavia's configuration the agent looks at.
fn haproxy(amphora: &Amphora) -> String {
    format!(
        "global\n    daemon\n    user nobody\n    log /run/rsyslog/octavia/log local0\n    \
         stats socket /var/lib/octavia/{LB}.sock mode 0666 level user\n    maxconn 2000\n\ndefaults\n    mode http\n    \
         timeout connect 5s\n    timeout client 10s\n    timeout server 10s\n\nfrontend one\n    bind {}:{PORT}\n    \
         mode http\n    http-request return status 200 content-type text/plain string {}\n",
        vip().v4,
        amphora.name()
    )
}

/// Who has the VIP; not both, and not nobody for long.
fn master(fabric: &Fabric) -> usize {
    let look = || match fabric.amphorae.iter().map(holds_vip).collect::<Vec<_>>()[..] {
        [true, false] => Ok(0),
        [false, true] => Ok(1),
        ref other => Err(format!("{other:?}")),
    };
    wait_for("one of them has the VIP", PATIENCE, look).unwrap().0
}

/// Whether a client is answered by this amphora.
fn answers(fabric: &Fabric, amphora: &Amphora) -> Result<(), String> {
    let to = SocketAddr::new(IpAddr::V4(vip().v4), PORT);
    let split = traffic::connect(&fabric.client, to, 1).map_err(|error| error.to_string())?;
    if split.answers.contains_key(amphora.name()) { Ok(()) } else { Err(split.to_string()) }
}

#[test]
fn the_vip_moves_when_the_masters_haproxy_dies_and_stays_when_it_is_back() {
    let test = "the_vip_moves_when_the_masters_haproxy_dies_and_stays_when_it_is_back";
    let fabric = stock("pair", 2);
    let Some(configs) = vrrp_configs(test, &fabric) else { return };
    let mut apis: Vec<_> = fabric.amphorae.iter().map(start).collect();
    for ((amphora, api), config) in fabric.amphorae.iter().zip(&mut apis).zip(configs) {
        plug(amphora, api);
        put(api, "/1.0/vrrp/upload", config).unwrap().success().unwrap();
        put(api, "/1.0/vrrp/start", "").unwrap().success().unwrap();
    }
    assert!(!fabric.amphorae.iter().any(holds_vip), "nothing to serve");
    for (amphora, api) in fabric.amphorae.iter().zip(&mut apis) {
        let upload = format!("/1.0/loadbalancer/{}/{LB}/haproxy", amphora.id());
        put(api, &upload, haproxy(amphora)).unwrap().success().unwrap();
        put(api, &format!("/1.0/loadbalancer/{LB}/reload"), "").unwrap().success().unwrap();
    }
    let first = master(&fabric);
    let (old, new) = (&fabric.amphorae[first], &fabric.amphorae[1 - first]);
    wait_for("clients are answered by the master", PATIENCE, || answers(&fabric, old)).unwrap();

    // Another reload and start, as of a failover of the other: nothing moves.
    let mut api = old.api().unwrap(); // the agent has closed an idle one meanwhile
    put(&mut api, "/1.0/vrrp/start", "").unwrap().success().unwrap();
    put(&mut api, &format!("/1.0/loadbalancer/{LB}/reload"), "").unwrap().success().unwrap();
    let steady = Instant::now();
    while steady.elapsed() < Duration::from_secs(7) {
        assert!(holds_vip(old) && !holds_vip(new), "the check has been run at least once since");
        std::thread::sleep(Duration::from_millis(250));
    }

    // For good: it cannot be started again with this.
    old.node().write_file(&format!("/var/lib/octavia/{LB}/haproxy.cfg"), "gibberish\n", 0o600).unwrap();
    let begin = Instant::now();
    // The master alone: its workers end with it, so that killing them by number would be a race.
    let pid = old.node().read_file(&format!("/var/lib/octavia/{LB}/{LB}.pid")).unwrap();
    old.node().run(["sh", "-c", &format!("kill -9 {}", pid.trim())]).unwrap();
    let moved = || if holds_vip(new) && !holds_vip(old) { Ok(()) } else { Err("not yet") };
    wait_for("the VIP moves", PATIENCE, moved).unwrap();
    let vip_moved = begin.elapsed();
    wait_for("clients are answered by the other", PATIENCE, || answers(&fabric, new)).unwrap();
    // keepalived looks every 5 s and gives up after two failures (Octavia's defaults).
    println!("{test}: the VIP moved after {vip_moved:.1?}, clients were answered after {:.1?}", begin.elapsed());

    old.node().write_file(&format!("/var/lib/octavia/{LB}/haproxy.cfg"), haproxy(old), 0o600).unwrap();
    put(&mut old.api().unwrap(), &format!("/1.0/loadbalancer/{LB}/start"), "").unwrap().success().unwrap();
    let steady = Instant::now();
    while steady.elapsed() < Duration::from_secs(15) {
        assert!(holds_vip(new) && !holds_vip(old), "nopreempt");
        std::thread::sleep(Duration::from_millis(500));
    }
    // What the controller says to silence an amphora gives the VIP away at once.
    let begin = Instant::now();
    put(&mut new.api().unwrap(), "/1.0/vrrp/stop", "").unwrap().success().unwrap();
    let back = || if holds_vip(old) && !holds_vip(new) { Ok(()) } else { Err("not yet") };
    wait_for("the VIP moves back", PATIENCE, back).unwrap();
    println!("{test}: after vrrp/stop the VIP moved in {:.1?}", begin.elapsed());
}
