//! The dead man's switch (invariant 3): an agent that is gone for 30 s takes its speaker along. These tests wait for
//! real seconds.

use std::thread::sleep;
use std::time::{Duration, Instant};

use lab::{TorKind, wait_for};
use nix::sys::signal::Signal;

use crate::{Lab, PATIENCE};

/// How long an agent may be gone before its speaker is stopped.
const GRACE: Duration = Duration::from_secs(30);

#[test]
fn a_speaker_without_an_agent_is_stopped_after_the_grace_and_not_before() {
    let mut lab = Lab::new("deadman", TorKind::Frr, true);
    let first = lab.watchers();
    assert_eq!(first.len(), 1, "one switch");
    lab.amphora().kill_agent().unwrap();
    lab.restart();
    lab.amphora().stop_agent().unwrap();
    lab.restart();
    assert_eq!(lab.watchers(), first, "it outlives agents, and there is never a second");
    lab.amphora().node().run(["kill", "-9", &first[0].to_string()]).unwrap();
    lab.amphora().kill_agent().unwrap();
    lab.restart();
    let again = || match lab.watchers()[..] {
        [one] if one != first[0] => Ok(()),
        ref other => Err(format!("{other:?}")),
    };
    wait_for("a new switch in place of a killed one", PATIENCE, again).unwrap();

    let speaker = lab.speaker();
    let watch = lab.tor().watch_routes().unwrap();
    let start = Instant::now();
    lab.amphora().kill_agent().unwrap();
    let gone = watch.wait("a route goes", GRACE + PATIENCE, |line| line.starts_with("Deleted")).unwrap().at - start;
    println!("deadman: the ToR's first route went {gone:.1?} after the agent's death");
    assert!(gone >= GRACE && gone < GRACE + Duration::from_secs(6), "{gone:?}");
    lab.wait_withdrawn();
    let ended = || if lab.amphora().pids("gobgpd").unwrap().is_empty() { Ok(()) } else { Err("it runs") };
    wait_for("gobgpd has ended", PATIENCE, ended).unwrap();
    wait_for("the switch has ended", PATIENCE, || if lab.watchers().is_empty() { Ok(()) } else { Err("it runs") })
        .unwrap();

    // And an agent that comes back all the same finds its work.
    lab.restart();
    lab.wait_announced();
    assert_ne!(lab.speaker(), speaker);
    assert_eq!(lab.watchers().len(), 1);
}

#[test]
fn an_agent_that_is_back_within_the_grace_finds_its_speaker_untouched() {
    let mut lab = Lab::new("deadman-back", TorKind::Bird, true);
    let speaker = lab.speaker();
    let watch = lab.tor().watch_routes().unwrap();
    lab.amphora().kill_agent().unwrap();
    sleep(Duration::from_secs(20)); // the absence itself
    lab.restart();
    sleep(Duration::from_secs(20)); // past the moment at which an absence counted on would end
    assert_eq!((lab.speaker(), lab.watchers().len()), (speaker, 1));
    let events = lab.of_vip(watch.so_far());
    assert!(events.is_empty(), "{events:?}");
    lab.wait_announced();
}

#[test]
fn a_hung_speaker_without_an_agent_is_killed() {
    let lab = Lab::new("deadman-hung", TorKind::Bird, true);
    lab.amphora().kill_program("gobgpd", Signal::SIGSTOP).unwrap();
    let start = Instant::now();
    lab.amphora().kill_agent().unwrap();
    let ended = || if lab.amphora().pids("gobgpd").unwrap().is_empty() { Ok(()) } else { Err("it is there") };
    let ((), took) = wait_for("gobgpd is killed", GRACE + PATIENCE, ended).unwrap();
    println!("deadman-hung: killed {:.1?} after the agent's death", start.elapsed());
    assert!(took >= GRACE && took < GRACE + Duration::from_secs(15), "{took:?}");
    lab.wait_withdrawn();
}

#[test]
fn an_agent_that_cannot_serve_announces_nothing() {
    let lab = Lab::new("deadman-taken", TorKind::Bird, true);
    let amphora = lab.amphora();
    amphora.kill_agent().unwrap();
    assert_eq!(amphora.kill_program("gobgpd", Signal::SIGTERM).unwrap(), 1);
    lab.wait_withdrawn();
    // As a Python agent that was left running has it.
    let taken = amphora.node().within(|| std::net::TcpListener::bind("[::]:9443")).unwrap().unwrap();
    let agent = amphora.start_agent(&[]).unwrap();
    let log = || std::fs::read_to_string(agent.log()).unwrap();
    wait_for("the agent's end", PATIENCE, || if agent.is_running() { Err("it runs") } else { Ok(()) }).unwrap();
    assert!(log().contains("the API cannot listen on"), "{}", log());
    assert_eq!(amphora.pids("gobgpd").unwrap(), [0; 0]);
    drop(taken);
}
