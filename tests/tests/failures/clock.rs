//! The wall clock jumps by a day: libfaketime in the agent's process alone, without its monotonic clock, as when somebody
//! sets the time (clock_settime(2)).

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lab::fabric::TOR_PEERING_NIC;
use lab::heartbeats::{self, KEY};
use lab::routes::RouteWatch;
use lab::{Api, Family, TorKind, wait_for};
use rcgen::{CertificateParams, date_time_ymd};

use crate::support::{LB, PATIENCE, Site, longest_gap};

const OFFSET: &str = "/run/offset";
/// Of heartbeats, in seconds.
const INTERVAL: u32 = 1;

/// Debian's libfaketime, in the directory of whatever architecture this is.
fn libfaketime() -> PathBuf {
    let all = std::fs::read_dir("/usr/lib").unwrap().flatten();
    let mut found = all.map(|dir| dir.path().join("faketime/libfaketime.so.1")).filter(|path| path.exists());
    found.next().expect("Debian's package libfaketime is installed: make deps")
}

/// Starts another agent, whose clock [`jump`] moves from now on.
fn start(site: &Site) -> Api {
    let amphora = site.amphora(0);
    amphora.kill_agent().unwrap();
    jump(site, "+0");
    let library = libfaketime();
    let env = [
        ("LD_PRELOAD", library.to_str().unwrap()),
        ("FAKETIME_TIMESTAMP_FILE", OFFSET),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("FAKETIME_ONLY_CMDS", "amphora-agent"),
        ("NO_FAKE_STAT", "1"),
    ];
    amphora.start_agent(&env).unwrap();
    amphora.wait_api(PATIENCE).unwrap().0
}

fn jump(site: &Site, offset: &str) {
    // In one step: the agent reads it all the time.
    let new = format!("{OFFSET}.new");
    site.amphora(0).node().write_file(&new, offset, 0o644).unwrap();
    site.amphora(0).node().run(["mv", &new, OFFSET]).unwrap();
}

/// A certificate of the controller's CA that is valid from an hour ago for two.
fn for_two_hours(site: &Site) -> Arc<rustls::ClientConfig> {
    const HOUR: Duration = Duration::from_hours(1);
    let now = date_time_ymd(1970, 1, 1) + SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let adjust = |params: &mut CertificateParams| (params.not_before, params.not_after) = (now - HOUR, now + HOUR);
    let identity = site.fabric.pki.client_identity(adjust).unwrap();
    site.fabric.pki.client(Some(&identity)).unwrap()
}

#[test]
fn a_clock_that_jumps_by_a_day_moves_no_route_no_deadline_and_no_heartbeat() {
    let site = Site::new("failures-clock", TorKind::Bird, 1, |_, text| text);
    let (manager, address) = site.manager(0);
    heartbeats::configure(site.amphora(0), &[address], INTERVAL, KEY).unwrap();
    let watch = site.tor().watch_routes().unwrap();
    let mut api = start(&site);
    let certificate = for_two_hours(&site);
    let is_taken = || site.amphora(0).api_as(certificate.clone()).unwrap().get("/").is_ok();
    assert!(is_taken());
    for (offset, what) in [("+1d", "the clock jumps a day ahead"), ("-1d", "two days back"), ("+0", "and to the truth")]
    {
        let fault = site.fault(what);
        jump(&site, offset);
        // Certificates go by the clock, which also shows that it has jumped.
        let jumped = || if is_taken() == (offset == "+0") { Ok(()) } else { Err("not yet") };
        wait_for("the agent's clock has jumped", PATIENCE, jumped).unwrap();
        manager.drain().unwrap();
        let gap = longest_gap(&manager, 3);
        // A stop withdraws and waits for it, a start goes through the gates: all their times at work.
        let stop = std::time::Instant::now();
        api.act(LB, "stop").unwrap().success().unwrap();
        site.wait_hops(&[]);
        api.act(LB, "start").unwrap().success().unwrap();
        site.wait_hops(&[0]);
        let round = stop.elapsed();
        drop(site.heard(&watch));
        thread::sleep(Duration::from_secs(1));
        let heard = site.heard(&watch);
        fault.end(&format!("longest gap {gap:.1?}, a stop and a start {round:.1?}"));
        assert!(gap < 2 * Duration::from_secs(INTERVAL.into()), "{gap:?}");
        assert!(heard.is_empty(), "{what}: {heard:?}");
        assert_eq!(site.tor().established().unwrap().len(), 1, "{what}: the session is up");
    }
}

/// What a router was promised is counted in seconds that passed, not in those the clock shows.
#[test]
fn a_clock_that_jumps_while_a_session_is_lost_unbinds_no_vip_that_the_router_still_holds() {
    let site = Site::new("failures-clock-lost", TorKind::Bird, 1, |_, text| {
        format!("{}hold_time = 3\n", text.replace("[bgp]\n", "[bgp]\ngraceful_restart_time = 3\n"))
    });
    let (amphora, tor) = (site.amphora(0), site.tor());
    let mut api = start(&site);
    let routes = tor.watch_routes().unwrap();
    let bound = RouteWatch::start(&amphora.haproxy_netns().unwrap()).unwrap();
    // Longer than routers keep anything of before this agent: hold time, restart time and 3 s.
    thread::sleep(Duration::from_secs(3 + 3 + 3 + 1));
    // Both kernels end the connection, so nobody gets to say anything: the router keeps the routes (RFC 4724).
    let reset = "reject with tcp reset";
    let hook = |hook: &str, nic: &str| {
        let nic = format!("{nic} {TOR_PEERING_NIC} tcp");
        format!(
            "chain {hook} {{ type filter hook {hook} priority 0; tcp flags & rst != 0 accept; {nic} dport 179 {reset}; \
             {nic} sport 179 {reset}; }};"
        )
    };
    let rules = format!("table inet cut {{ {} {} }}", hook("input", "iifname"), hook("output", "oifname"));
    tor.node().run(["nft", &rules]).unwrap();
    let lost = || match api.peers().unwrap().json()[0]["state"].clone() {
        state if state == "Established" => Err("Established"),
        _ => Ok(()),
    };
    wait_for("the session is lost", PATIENCE, lost).unwrap();
    jump(&site, "+1d");
    let reply = api.unplug_vip(site.vip.v4.into()).unwrap();
    assert!(reply.status == 500 && reply.text().contains("still bound"), "{} {}", reply.status, reply.text());
    let unplugged = || match api.unplug_vip(site.vip.v4.into()).unwrap() {
        reply if reply.status == 200 => Ok(()),
        reply => Err(reply.text()),
    };
    let ((), took) = wait_for("it is unplugged", PATIENCE, unplugged).unwrap();
    let deleted = |line: &str| line.starts_with("Deleted") && line.contains(&site.vip.of(Family::V4).to_string());
    let gone = routes.wait("the route goes", PATIENCE, deleted).unwrap().at;
    let unbound = bound.wait("the VIP goes", PATIENCE, |line| deleted(line) && line.contains("local")).unwrap().at;
    println!("unplugged after {took:.1?}, {:?} after its route went", unbound.checked_duration_since(gone));
    assert!(gone < unbound, "unbound while the router held it");
}
