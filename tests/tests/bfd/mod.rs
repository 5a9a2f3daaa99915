//! BFD beside a session: how soon a ToR drops the routes of an amphora it hears no more.

use std::time::{Duration, Instant};

use lab::routes::RouteWatch;
use lab::{Fabric, Family, Gobgpd, Neighbours, Options, Tor, TorKind, TorOptions, addresses};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::active::{PATIENCE, boot, plug, register, wait_peer, wait_routes};

/// How long gobgpd stays away from a peer that it has reset, unless it is told otherwise.
const IDLE: Duration = Duration::from_secs(30);

/// How the kernel says that the route to the VIP is gone.
fn gone() -> String {
    format!("Deleted {} ", addresses::vip(7).v4)
}

/// When a ToR's kernel lost it.
fn lost(tor: &Tor, watch: &RouteWatch) -> Instant {
    let gone = gone();
    let what = format!("{} withdraws", tor.name());
    watch.wait(&what, PATIENCE, |line| line.starts_with(&gone)).unwrap().at
}

/// Two ToRs of a kind, one of which does BFD as the amphora does, are cut off without either side losing its carrier.
fn silent_cut(test: &str, kind: TorKind) {
    if let Err(error) = Gobgpd::V4.directory() {
        return lab::skipped(test, &error.to_string());
    }
    let mut options = Options::new(kind);
    (options.amphorae, options.gobgpd) = (1, Gobgpd::V4);
    options.tors = [(64500, true), (64501, false)]
        .map(|(asn, bfd)| TorOptions { asn, bfd, neighbours: Neighbours::Each(Family::V4), ..TorOptions::new(kind) })
        .into();
    let fabric = Fabric::new(test, &options).unwrap();
    let (amphora, [with, without]) = (&fabric.amphorae[0], &fabric.tors[..]) else {
        unreachable!("two were asked for")
    };
    let [of_with, of_without] = [with, without].map(|tor| tor.peer_section(Family::V4) + "bfd = true\n");
    amphora.write_config(&(amphora.distributor_sections() + &of_with + &of_without)).unwrap();
    let vip = addresses::vip(7);
    let mut api = boot(&fabric).remove(0);
    plug(amphora, &mut api, vip);
    register(amphora, &mut api, vip, None);
    fabric.tors.iter().for_each(|tor| wait_routes(tor, vip, &[amphora]));
    let is_up = |peer: &Value| peer["bfd"] == "up" && peer["state"] == "Established";
    let first = wait_peer(&mut api, with, "BFD is up", is_up)["since"].clone();
    // A ToR without is not missed.
    wait_peer(&mut api, without, "its session", |peer| peer["state"] == "Established" && peer["bfd"] == "down");
    let status = api.get("/1.0/distributor/status").unwrap().success().unwrap().json();
    let [warning] = &status["warnings"].as_array().unwrap()[..] else { panic!("{status}") };
    let words = [without.name(), "its session is up and its BFD is down"];
    assert!(words.iter().all(|word| warning.as_str().unwrap().contains(word)), "{warning}");

    // gobgpd speaks BFD itself: its restart is no graceful one for a BIRD that BFD tells of it before TCP does.
    let watch = without.watch_routes().unwrap();
    assert_eq!(amphora.kill_program("gobgpd", Signal::SIGKILL).unwrap(), 1);
    wait_peer(&mut api, with, "BFD is up again", |peer| is_up(peer) && peer["since"] != first);
    wait_peer(&mut api, without, "its session again", |peer| peer["state"] == "Established");
    fabric.tors.iter().for_each(|tor| wait_routes(tor, vip, &[amphora]));
    let kept = watch.so_far().into_iter().all(|event| !event.line.starts_with(&gone()));
    assert!(kept, "{} keeps its routes over a restart of gobgpd", without.name());

    // A second or so without packets costs no more than a new session takes.
    fabric.management.isolate_port(with.peering_port()).unwrap();
    wait_peer(&mut api, with, "BFD ends the session", |peer| peer["state"] != "Established");
    fabric.management.join_port(with.peering_port()).unwrap();
    let mended = Instant::now();
    let up = wait_peer(&mut api, with, "BFD is up once more", is_up);
    wait_routes(with, vip, &[amphora]);
    let back = mended.elapsed();
    println!("{test}: routes back {back:?} after a moment without packets");
    assert!(back < IDLE);

    std::thread::sleep(Duration::from_secs(1)); // `since` counts whole seconds
    let watches = [with, without].map(|tor| tor.watch_routes().unwrap());
    for tor in [with, without] {
        fabric.management.isolate_port(tor.peering_port()).unwrap();
    }
    let cut = Instant::now();
    let [by_bfd, by_hold_time] =
        [(with, &watches[0]), (without, &watches[1])].map(|(tor, watch)| lost(tor, watch).duration_since(cut));
    println!("{test}: routes gone after {by_bfd:?} with BFD, {by_hold_time:?} with a hold time of 9 s");
    assert!(by_bfd * 2 < by_hold_time);
    let down = wait_peer(&mut api, with, "BFD is down", |peer| peer["bfd"] == "down" && peer["state"] != "Established");
    assert_ne!(down["since"], up["since"]);
}

#[test]
fn a_silent_cut_is_noticed_by_bfd_with_frr() {
    silent_cut("bfd-frr", TorKind::Frr);
}

#[test]
fn a_silent_cut_is_noticed_by_bfd_with_bird() {
    silent_cut("bfd-bird", TorKind::Bird);
}

/// gobgpd 3.10 has no BFD: the session is there without, and it is said so.
#[test]
fn an_older_gobgpd_goes_without_bfd_and_it_is_said_so() {
    let mut options = Options::new(TorKind::Bird);
    options.amphorae = 1;
    options.tors[0].neighbours = Neighbours::Each(Family::V4);
    let fabric = Fabric::new("bfd-older", &options).unwrap();
    let (amphora, tor, vip) = (&fabric.amphorae[0], &fabric.tors[0], addresses::vip(7));
    let section = tor.peer_section(Family::V4) + "bfd = true\n";
    amphora.write_config(&(amphora.distributor_sections() + &section)).unwrap();
    let mut api = boot(&fabric).remove(0);
    plug(amphora, &mut api, vip);
    register(amphora, &mut api, vip, None);
    wait_routes(tor, vip, &[amphora]);
    let before = wait_peer(&mut api, tor, "it is up", |peer| peer["state"] == "Established");
    assert_eq!(before["bfd"], "unsupported");

    // Nor is the session reset again and again for a BFD it cannot have.
    amphora.stop_agent().unwrap();
    amphora.start_agent(&[]).unwrap();
    let mut api = amphora.wait_api(PATIENCE).unwrap().0;
    let after = wait_peer(&mut api, tor, "it is up", |peer| peer["state"] == "Established");
    assert_eq!((&after["since"], &after["bfd"]), (&before["since"], &before["bfd"]));
    let log = std::fs::read_to_string(amphora.node().log_path("agent")).unwrap();
    assert!(log.contains("gobgpd is older than 4.6"), "{log}");
}
