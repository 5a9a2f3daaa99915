//! Each thing that can be wrong is named, and nothing else is.

use super::*;
use crate::{
    api::distributor::status::{
        Certificates, Configuration, Heartbeats, Operating, Speaker,
        vips::{VipState, VipView},
    },
    state::VipMode,
};

const NOW: u64 = 1_800_000_000;

fn well() -> AmphoraStatus {
    let certificate = || Certificate { path: "/certs/c.pem".into(), not_after: Some(NOW + EXPIRING) };
    AmphoraStatus {
        amphora_id: None,
        version: "0",
        started: 0,
        operating_status: Operating::Online,
        problems: Vec::new(),
        warnings: Vec::new(),
        configuration: Configuration {
            role: "amphora",
            vip_mode: VipMode::Anycast,
            announce: "listener",
            loadbalancer_topology: "SINGLE",
            stale: Vec::new(),
            taken: 0,
        },
        certificates: Certificates { server: certificate(), client_ca: certificate() },
        speaker: Some(Speaker { up: true, version: None, local_as: 64_512 }),
        peers: Vec::new(),
        vips: Vec::new(),
        network: Vec::new(),
        heartbeats: Heartbeats {
            expected: true,
            silent: None,
            size: 0,
            members_left_out: 0,
            targets: vec![HealthManager { target: "192.0.2.9:5555".into(), sent: 1, failed: 1, last_error: None }],
        },
    }
}

/// What is wrong with a status that was well before `change`.
fn wrong(change: impl FnOnce(&mut AmphoraStatus)) -> Vec<String> {
    let mut status = well();
    change(&mut status);
    let problems = problems(&status, NOW);
    assert!(problems.iter().all(|problem| !problem.fix.is_empty()));
    problems.into_iter().map(|problem| problem.problem).collect()
}

fn vip(degraded: bool) -> VipView {
    let state = if degraded { VipState::Pending } else { VipState::Idle };
    let (vip_mode, interface, announced, nexthop_ip, advertised_to) = Default::default();
    let (vip_ip, reason) = ([203, 0, 113, 7].into(), Some("carrier: gone".to_owned()));
    let (cause, notice) = (Cause::Closed(Gate::Carrier), None);
    VipView {
        vip_ip,
        vip_mode,
        interface,
        state,
        announced,
        degraded,
        nexthop_ip,
        advertised_to,
        reason,
        cause,
        notice,
    }
}

#[test]
fn the_fix_of_a_vip_fits_its_cause() {
    let of = |cause| {
        let mut status = well();
        status.vips = vec![VipView { cause, ..vip(true) }];
        let Problem { problem, fix } = problems(&status, NOW).remove(0);
        (problem, fix)
    };
    let (problem, fix) = of(Cause::Unheard);
    assert!(
        problem.starts_with("VIP 203.0.113.7 is announced to nobody: ") && fix.contains("amphoractl peers"),
        "{fix}"
    );
    assert!(of(Cause::Closed(Gate::Carrier)).1.contains("has to be up with a carrier"));
    assert!(of(Cause::Damped).1.contains("all its gates are open"));
    for cause in [Cause::Unheard, Cause::Damped, Cause::Undecided, Cause::Other] {
        assert!(!of(cause).1.contains("the gate that is closed"), "{cause:?}");
    }
    let mut status = well();
    status.vips = vec![VipView { notice: Some("it is drained".into()), ..vip(false) }];
    assert!(problems(&status, NOW).is_empty());
    assert_eq!(warnings(&status), ["it is drained"]);
}

#[test]
fn an_amphora_that_is_well_has_no_problem() {
    assert_eq!(wrong(|_| {}), Vec::<String>::new());
    assert_eq!(wrong(|s| s.vips = vec![vip(false)]), Vec::<String>::new());
    // Plain Linux, without Octavia and without BGP.
    let alone =
        wrong(|s| (s.speaker, s.heartbeats.silent, s.heartbeats.expected) = (None, Some("no key".into()), false));
    assert_eq!(alone, Vec::<String>::new());
}

#[test]
fn a_certificate_is_named_from_seven_days_before_its_end() {
    assert_eq!(wrong(|s| s.certificates.server.not_after = None), Vec::<String>::new());
    let soon = wrong(|s| s.certificates.server.not_after = Some(NOW + EXPIRING - 1));
    assert_eq!(soon, ["the server certificate /certs/c.pem expires in 6 days"]);
    let over = wrong(|s| s.certificates.client_ca.not_after = Some(NOW - 1));
    assert_eq!(over, ["the client CA /certs/c.pem has expired"]);
}

#[test]
fn each_other_thing_is_named_once() {
    let stale =
        wrong(|s| s.configuration.stale = vec!["[bgp] local_as: takes effect when the agent is restarted".into()]);
    assert!(stale[0].contains("local_as"), "{stale:?}");
    assert!(wrong(|s| s.speaker.as_mut().unwrap().up = false)[0].contains("speaker does not answer"));
    assert_eq!(
        wrong(|s| s.vips = vec![vip(true), vip(false)]),
        ["VIP 203.0.113.7 should be announced and is not: carrier: gone"]
    );
    assert!(wrong(|s| s.network = vec!["NIC a: b".into()])[0] == "NIC a: b");
    assert_eq!(wrong(|s| s.heartbeats.silent = Some("no key".into())), ["there are no heartbeats: no key"]);
    let failing = wrong(|s| s.heartbeats.targets[0].last_error = Some("refused".into()));
    assert_eq!(failing, ["heartbeats cannot be sent to 192.0.2.9:5555: refused"]);
    assert_eq!(wrong(|s| s.heartbeats.members_left_out = 3).len(), 1);
}
