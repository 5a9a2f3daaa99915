//! What is around an amphora goes: the health managers, the room on its disk, the members.

use std::thread;
use std::time::Duration;

use lab::heartbeats::{self, KEY};
use lab::{Family, TorKind, balancers, wait_for};
use nix::sys::signal::Signal;

use crate::support::{LB, PATIENCE, Site, longest_gap};

/// Of heartbeats, in seconds.
const INTERVAL: u32 = 1;

#[test]
fn without_health_managers_everything_goes_on_and_the_next_heartbeat_comes_when_one_is_back() {
    let site = Site::new("failures-managers", TorKind::Bird, 1, |_, text| text);
    let (manager, address) = site.manager(0);
    let port = manager.address().unwrap().port();
    heartbeats::configure(site.amphora(0), &[address], INTERVAL, KEY).unwrap();
    site.amphora(0).agent().unwrap().kill(Signal::SIGHUP).unwrap();
    manager.next(KEY, PATIENCE).unwrap();
    let watch = site.tor().watch_routes().unwrap();

    let fault = site.fault("the only health manager gone");
    drop(manager);
    thread::sleep(Duration::from_secs(4));
    assert_eq!(site.amphora(0).api().unwrap().get("/1.0/info").unwrap().status, 200);
    let (manager, _) = site.manager(port);
    let listening = std::time::Instant::now();
    let back = manager.next(KEY, PATIENCE).unwrap().at.saturating_duration_since(listening);
    let seen = fault.end(&format!("its return hears a heartbeat after {back:.1?}"));
    assert_eq!((seen.failed(), site.heard(&watch)), (0, vec![]), "{seen}");
    assert!(back < 3 * Duration::from_secs(INTERVAL.into()), "{back:?}");
    let log = std::fs::read_to_string(site.amphora(0).agent().unwrap().log()).unwrap();
    assert_eq!(log.matches("a heartbeat cannot be sent").count(), 1, "said once:\n{log}");
}

#[test]
fn on_a_full_disk_clients_are_served_heartbeats_go_on_and_a_new_configuration_is_refused() {
    let site = Site::new("failures-disk", TorKind::Bird, 1, |amphora, text| {
        let mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", "/var/lib/octavia"];
        amphora.node().run(mount).unwrap();
        text
    });
    let (amphora, watch) = (site.amphora(0), site.tor().watch_routes().unwrap());
    let (manager, address) = site.manager(0);
    heartbeats::configure(amphora, &[address], INTERVAL, KEY).unwrap();
    amphora.agent().unwrap().kill(Signal::SIGHUP).unwrap();
    manager.next(KEY, PATIENCE).unwrap();
    let config = format!("/var/lib/octavia/{LB}/haproxy.cfg");
    let before = amphora.node().read_file(&config).unwrap();

    let fault = site.fault("disk full");
    let fill =
        "dd if=/dev/zero of=/var/lib/octavia/filler bs=4k 2>/dev/null; df --output=avail /var/lib/octavia | tail -1";
    assert_eq!(amphora.node().run(["sh", "-c", fill]).unwrap().trim(), "0");
    let mut api = amphora.api().unwrap();
    let upload = |api: &mut lab::Api| {
        let binds = [(site.vip.v4, 80).into(), (site.vip.v6, 80).into()];
        api.upload(amphora, LB, balancers::configuration(LB, &binds, amphora.name(), "backend more\n")).unwrap()
    };
    let refused = upload(&mut api);
    assert_eq!(refused.status, 500, "{}", refused.text());
    assert_eq!(amphora.node().read_file(&config).unwrap(), before);
    // Not the ones that had been sent before.
    manager.drain().unwrap();
    let gap = longest_gap(&manager, 5);
    let heard = site.heard(&watch);
    let seen = fault.end(&format!("an upload is {}: {}; longest gap {gap:.1?}", refused.status, refused.text().trim()));
    assert_eq!((seen.failed(), heard), (0, vec![]), "{seen}");
    assert!(gap < 2 * Duration::from_secs(INTERVAL.into()), "{gap:?}");

    amphora.node().run(["rm", "/var/lib/octavia/filler"]).unwrap();
    upload(&mut api).success().unwrap();
    api.act(LB, "reload").unwrap().success().unwrap();
}

#[test]
fn without_a_watermark_a_vip_whose_members_are_all_down_stays_and_clients_are_told_503() {
    let site = Site::new("failures-members", TorKind::Bird, 1, |_, text| text);
    let (amphora, watch) = (site.amphora(0), site.tor().watch_routes().unwrap());
    let binds = [(site.vip.v4, 80).into(), (site.vip.v6, 80).into()];
    let members = "backend members\n    mode http\n    server gone 127.0.0.2:8080 check inter 200ms fall 1\n";
    let text = balancers::configuration(LB, &binds, amphora.name(), members);
    let answer = format!("http-request return status 200 content-type text/plain string {}", amphora.name());
    let mut api = amphora.api().unwrap();
    api.upload(amphora, LB, text.replace(&answer, "default_backend members")).unwrap().success().unwrap();
    let fault = site.fault("all members down, no watermark");
    api.act(LB, "reload").unwrap().success().unwrap();
    let told = || match site.fabric.client.run([
        "curl",
        "-s",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        &format!("http://{}/", site.vip.v4),
    ]) {
        Ok(code) if code == "503" => Ok(()),
        other => Err(format!("{other:?}")),
    };
    wait_for("clients are told 503", PATIENCE, told).unwrap();
    thread::sleep(Duration::from_secs(2));
    let heard = site.heard(&watch);
    let seen = fault.end("every request is answered with 503");
    assert_eq!((seen.failed(), heard), (0, vec![]), "{seen}");
    let why = api.get(&format!("/1.0/distributor/why/{}", site.vip.of(Family::V4))).unwrap().json();
    assert_eq!(why["verdict"], "announce", "{why}");
}
