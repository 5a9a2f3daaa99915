//! One of the two is hurt, and the other carries on: beside the same pair under keepalived.

use std::thread;
use std::time::Duration;

use lab::Family;
use nix::sys::signal::Signal;

use crate::load::{Load, during};
use crate::site::{Case, Mode, PATIENCE, Site};

/// What is watched after haproxy or the agent has died.
const WATCHED: Duration = Duration::from_secs(4);
/// A ToR that hears nothing takes the route away after the hold time, by default 9 s.
const SILENCE: Duration = Duration::from_secs(13);

/// As short as BGP lets it be.
const QUICK: &str = "hold_time = 3\n";

/// A pair that serves; its clients are answered by whoever they shall be answered by.
fn serving(case: Case) -> Option<Site> {
    let site = Site::serving(case)?;
    if site.mode == Mode::Anycast {
        site.wait_announced(&[0, 1]);
        site.wait_served(&[0, 1]);
    } else {
        site.wait_served(&[site.victim()]);
    }
    Some(site)
}

fn haproxy_killed(site: &Site) -> Load {
    let victim = site.amphora(site.victim());
    let load = during(&site.fabric.client, site.to(), || {
        victim.kill_program("haproxy", Signal::SIGKILL).unwrap();
        thread::sleep(WATCHED);
    });
    if site.mode == Mode::Anycast {
        site.wait_announced(&[0, 1]);
    }
    load
}

fn agent_killed(site: &Site) -> Load {
    let victim = site.amphora(site.victim());
    let load = during(&site.fabric.client, site.to(), || {
        victim.kill_agent().unwrap();
        victim.kill_program("gobgpd", Signal::SIGKILL).unwrap();
        thread::sleep(WATCHED);
    });
    victim.start_agent(&[]).unwrap();
    victim.wait_api(PATIENCE).unwrap();
    if site.mode == Mode::Anycast {
        site.tor().wait_established(victim.management(Family::V4), PATIENCE).unwrap();
        site.wait_announced(&[0, 1]);
    }
    load
}

fn amphora_gone(site: &Site) -> Load {
    let index = site.victim();
    let victim = site.amphora(index);
    let load = during(&site.fabric.client, site.to(), || {
        site.fabric.management.set_port(victim.management_port(), false).unwrap();
        site.fabric.frontend.set_port(victim.frontend_port(), false).unwrap();
        thread::sleep(SILENCE);
    });
    site.wait_served(&[1 - index]);
    load
}

#[test]
fn when_one_is_hurt_the_other_carries_on() {
    let all = |site: Site| [haproxy_killed(&site), agent_killed(&site), amphora_gone(&site)];
    let anycast = Case::new("active-active-faults");
    let keepalived = Case { mode: Mode::Keepalived, ..Case::new("active-active-keepalived") };
    let quick = Case { peer: QUICK, ..Case::new("active-active-quick") };
    let (anycast, keepalived, quick) = thread::scope(|scope| {
        let pairs = [anycast, keepalived].map(|case| scope.spawn(move || serving(case).map(all)));
        let quick = scope.spawn(move || serving(quick).map(|site| amphora_gone(&site)));
        let [anycast, keepalived] = pairs.map(|pair| pair.join().unwrap());
        (anycast, keepalived, quick.join().unwrap())
    });
    let (Some(anycast), Some(keepalived), Some(quick)) = (anycast, keepalived, quick) else { return };
    let faults = ["haproxy killed", "agent and gobgpd killed", "amphora gone without a word"];
    for ((fault, anycast), keepalived) in faults.iter().zip(&anycast).zip(&keepalived) {
        println!("{fault}:\n  active-active: {anycast}\n  keepalived:    {keepalived}");
        assert!(anycast.answered > anycast.failures() / 2, "{fault}: the other does not carry on: {anycast}");
    }
    println!("  active-active with hold_time = 3: {quick}");
    // Routes stay in the ToR while a speaker is expected back (graceful restart), and haproxy needs no agent.
    assert_eq!(anycast[1].failures(), 0, "{}", anycast[1]);
    // A silent end is noticed by silence alone, and until then costs its share.
    assert!((1..anycast[2].failures()).contains(&quick.failures()), "{quick}; {}", anycast[2]);
}
