//! A session that is lost without a word, as when a link flaps: the router keeps the routes (RFC 4724), and gobgpd, which
//! ran all the time, has nobody to withdraw them from.

use lab::error::chain;
use lab::fabric::TOR_PEERING_NIC;
use lab::routes::RouteWatch;
use lab::{Family, Tor, TorKind, wait_for};
use nix::sys::signal::Signal;

use crate::{Lab, PATIENCE, gone_before_unbound};

/// Has both kernels end every BGP connection of the ToR, and refuse new ones; neither side gets to say anything.
fn cut(tor: &Tor) {
    block(tor, "reject with tcp reset");
}

/// Does that to every BGP packet of the ToR, either way.
fn block(tor: &Tor, how: &str) {
    let hook = |hook: &str, nic: &str| {
        format!(
            "chain {hook} {{ type filter hook {hook} priority 0; tcp flags & rst != 0 accept; \
             {nic} {TOR_PEERING_NIC} tcp sport 179 {how}; \
             {nic} {TOR_PEERING_NIC} tcp dport 179 {how}; }};"
        )
    };
    let rules = format!("table inet cut {{ {} {} }}", hook("input", "iifname"), hook("output", "oifname"));
    tor.node().run(["nft", &rules]).unwrap();
}

fn mend(tor: &Tor) {
    tor.node().run(["nft", "delete table inet cut"]).unwrap();
}

/// Waits until both sides know that the session is gone. The ToR has the routes as before.
fn wait_lost(lab: &mut Lab) {
    let mut states = || {
        let ours = lab.api.peers().map_err(|error| chain(&error))?.json()[0]["state"].clone();
        let theirs = lab.fabric.tors[0].established().map_err(|error| chain(&error))?;
        if ours != "Established" && theirs.is_empty() { Ok(()) } else { Err(format!("{ours}, {theirs:?}")) }
    };
    wait_for("the session is lost", PATIENCE, &mut states).unwrap();
    lab.wait_announced();
}

/// Unplugs again and again until that succeeds; what the other answers were.
fn unplug(lab: &mut Lab) -> Vec<String> {
    let (vip, mut refused) = (lab.vip.v4.into(), Vec::new());
    let ((), took) = wait_for("it is unplugged", PATIENCE, || match lab.api.unplug_vip(vip) {
        Ok(reply) if reply.status == 200 => Ok(()),
        Ok(reply) => {
            assert_eq!(reply.status, 500, "{}", reply.text());
            refused.push(reply.text());
            Err(reply.text())
        }
        Err(error) => Err(chain(&error)),
    })
    .unwrap();
    println!("unplugged after {took:.1?}; before that: {refused:?}");
    refused
}

fn watches(lab: &Lab) -> [RouteWatch; 2] {
    [lab.tor().watch_routes().unwrap(), RouteWatch::start(&lab.amphora().haproxy_netns().unwrap()).unwrap()]
}

#[test]
fn a_vip_unplugged_while_a_session_is_lost_is_unbound_only_when_the_router_has_been_told() {
    for kind in [TorKind::Frr, TorKind::Bird] {
        let mut lab = Lab::new(&format!("lost-{kind:?}").to_lowercase(), kind, true);
        let speaker = lab.speaker();
        let [routes, bound] = watches(&lab);
        cut(lab.tor());
        wait_lost(&mut lab);
        let reply = lab.api.unplug_vip(lab.vip.v4.into()).unwrap();
        assert_eq!(reply.status, 500, "{}", reply.text());
        assert!(["still bound", "tor-0", "no session"].iter().all(|w| reply.text().contains(w)), "{}", reply.text());
        lab.wait_announced();
        mend(lab.tor());
        unplug(&mut lab);
        gone_before_unbound(&lab, &routes, &bound);
        assert_eq!(lab.speaker(), speaker, "gobgpd ran all the time");
    }
}

/// gobgpd takes the session for up until the hold time is over, and the withdrawal as sent.
#[test]
fn a_vip_unplugged_before_the_loss_of_a_session_is_noticed_is_unbound_only_when_the_router_has_been_told() {
    for kind in [TorKind::Frr, TorKind::Bird] {
        let mut lab = Lab::new(&format!("silent-{kind:?}").to_lowercase(), kind, true);
        let [routes, bound] = watches(&lab);
        block(lab.tor(), "drop");
        let reply = lab.api.unplug_vip(lab.vip.v4.into()).unwrap();
        assert_eq!(reply.status, 500, "{}", reply.text());
        assert!(reply.text().contains("still bound"), "{}", reply.text());
        mend(lab.tor());
        unplug(&mut lab);
        gone_before_unbound(&lab, &routes, &bound);
    }
}

/// Also when the configuration promises less by then than what the ToR was told.
#[test]
fn a_vip_unplugged_while_a_router_is_dead_is_unbound_when_no_promise_to_it_holds_any_more() {
    for kind in [TorKind::Frr, TorKind::Bird] {
        let mut lab = Lab::new(&format!("dead-{kind:?}").to_lowercase(), kind, true);
        let [routes, bound] = watches(&lab);
        cut(lab.tor());
        wait_lost(&mut lab);
        let sections = lab.amphora().distributor_sections() + &lab.tor().peer_section(Family::V4);
        let sections = sections.replace("[bgp]\n", "[bgp]\ngraceful_restart_time = 0\n");
        lab.amphora().write_config(&sections).unwrap();
        lab.amphora().agent().unwrap().kill(Signal::SIGHUP).unwrap();
        let taken = || if lab.agents_log().matches("sessions set up").count() > 1 { Ok(()) } else { Err("not yet") };
        wait_for("the reload", PATIENCE, taken).unwrap();
        let refused = unplug(&mut lab);
        assert!(!refused.is_empty() && refused.iter().all(|why| why.contains("still bound")), "{refused:?}");
        gone_before_unbound(&lab, &routes, &bound);
    }
}

/// As when the agent is killed between two of them; the ToRs wait for gobgpd all the same.
#[test]
fn a_router_that_is_set_up_by_the_next_agent_after_a_restart_of_gobgpd_keeps_the_routes() {
    for kind in [TorKind::Frr, TorKind::Bird] {
        let mut lab = Lab::with_tors(&format!("late-{kind:?}").to_lowercase(), kind, 2, true);
        let watch = lab.fabric.tors[1].watch_routes().unwrap();
        let sections = lab.amphora().distributor_sections();
        let [first, second] = [0, 1].map(|tor: usize| lab.fabric.tors[tor].peer_section(Family::V4));
        lab.amphora().kill_agent().unwrap();
        lab.amphora().kill_program("gobgpd", Signal::SIGKILL).unwrap();
        lab.amphora().write_config(&format!("{sections}{first}")).unwrap();
        lab.restart();
        lab.tor().wait_established(lab.amphora().management(Family::V4), PATIENCE).unwrap();
        lab.amphora().kill_agent().unwrap();
        lab.amphora().write_config(&format!("{sections}{first}{second}")).unwrap();
        lab.restart();
        let tor = &lab.fabric.tors[1];
        tor.wait_established(lab.amphora().management(Family::V4), PATIENCE).unwrap();
        wait_for("it has been told all", PATIENCE, || match &lab.api.peers().unwrap().json()[1]["advertised"] {
            told if told == 2 => Ok(()),
            told => Err(told.to_string()),
        })
        .unwrap();
        lab.wait_announced();
        let gone = lab.of_vip(watch.so_far());
        let gone: Vec<_> = gone.iter().filter(|event| event.line.starts_with("Deleted")).collect();
        assert!(gone.is_empty(), "{kind:?}: {gone:?}");
    }
}
