//! A scrape: what it costs, what it never says, and that nothing holds it up.

use std::time::{Duration, Instant};

use lab::{Family, TorKind, command, wait_for};
use nix::sys::signal::Signal;

use crate::prometheus::get;
use crate::support::{LB, PATIENCE, Site};
use crate::{configure_heartbeats, samples, text};

/// As Octavia renders a PROMETHEUS listener's way to `prometheus-proxy`, and haproxy's own metrics.
const TENANTS: &str = "frontend prometheus-exporter-internal-endpoint
    bind 127.0.0.1:9101
    mode http
    http-request use-service prometheus-exporter if { path /metrics }
    http-request reject
";

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[test]
fn a_scrape_is_well_formed_cheap_and_only_for_operators() {
    let (site, mut api) = Site::announced("metrics-scrape", TorKind::Bird, "");
    let amphora = site.amphora();
    let (receiver, _) = configure_heartbeats(amphora, &site.fabric.controller);
    receiver.next(lab::heartbeats::KEY, PATIENCE).unwrap();

    let controller = &site.fabric.controller;
    controller.write_file("/run/metrics.txt", text(&mut api), 0o600).unwrap();
    let mut check = command(["sh", "-c", "promtool check metrics </run/metrics.txt 2>&1"]);
    let said = controller.output(&mut check).unwrap();
    println!("promtool check metrics: {}", String::from_utf8_lossy(&said.stdout));
    assert!(said.stdout.is_empty(), "promtool has something to say");

    let mut time = |path: &str| {
        let took = |_| {
            let start = Instant::now();
            api.get(path).unwrap().success().unwrap();
            start.elapsed()
        };
        median((0..200).map(took).collect())
    };
    let (least, scrape) = (time("/"), time("/1.0/metrics"));
    let text = text(&mut api);
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    println!("a scrape: {scrape:.0?} beside {least:.0?} for GET /, {} bytes, {series} series", text.len());
    assert!(scrape < least * 100, "{scrape:?} beside {least:?}");
    let secrets = [lab::heartbeats::KEY, "PRIVATE", "BEGIN", "/etc/", "/var/"];
    assert!(secrets.iter().all(|secret| !text.contains(secret)), "{text}");

    // Tenants reach haproxy and prometheus-proxy in the namespace, and nothing of ours is with them.
    site.upload(&mut api, TENANTS);
    crate::support::act(&mut api, "reload");
    let inside = site.amphora().haproxy_netns().unwrap();
    let theirs = || match get(&inside, "127.0.0.1:9102", "/metrics") {
        Ok(said) if said.contains("octavia_") => Ok(said),
        said => Err(format!("{said:?}")),
    };
    let (theirs, _) = wait_for("a tenant's metrics", PATIENCE, theirs).unwrap();
    assert!(!theirs.contains("amphora_") && !theirs.contains("process_start_time"), "{theirs}");
    let listening = inside.run(["ss", "-Hltn"]).unwrap();
    assert!(!listening.contains(":9443"), "{listening}");
}

#[test]
fn a_hung_gobgpd_holds_no_scrape_up() {
    let (site, mut api) = Site::announced("metrics-hung", TorKind::Bird, "");
    let (peer, vip) = (site.tor().peering_address(Family::V4), site.vip.v4);
    let session = format!("amphora_bgp_session_up{{peer=\"{peer}\"}}");
    let before = samples(&mut api);
    assert_eq!((before["amphora_bgp_speaker_up"], before[&session]), (1.0, 1.0));
    site.amphora().kill_program("gobgpd", Signal::SIGSTOP).unwrap();
    let start = Instant::now();
    let hung = samples(&mut api);
    let took = start.elapsed();
    println!("a scrape beside a gobgpd that hangs: {took:.1?}");
    // 1.5 s of patience with gobgpd. A machine that is busy takes its share.
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!((hung["amphora_bgp_speaker_up"], hung[&session]), (0.0, 0.0));
    for other in
        [&format!("amphora_vip_desired{{vip=\"{vip}\"}}"), &format!("amphora_haproxy_workers{{lb_id=\"{LB}\"}}")]
    {
        assert_eq!(hung[other], 1.0, "{other}");
    }
    site.amphora().kill_program("gobgpd", Signal::SIGCONT).unwrap();
    let back = || match samples(&mut api)[&session] {
        up if up > 0.0 => Ok(()),
        up => Err(up),
    };
    wait_for("the session is up again", PATIENCE, back).unwrap();
}
