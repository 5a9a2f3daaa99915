//! Configurations the agent refuses to start with, and a second agent.

use std::time::Duration;

use lab::Amphora;

use crate::support::{PATIENCE, fabric, running};

/// Starts the agent, waits for its end, and returns its exit code with what it said.
fn end_of_start(amphora: &Amphora) -> (Option<i32>, String) {
    let log = amphora.node().log_path("agent");
    let before = std::fs::read_to_string(&log).unwrap_or_default().len();
    let agent = amphora.start_agent(&[]).unwrap();
    let status = agent.wait(PATIENCE).unwrap();
    (status.code(), std::fs::read_to_string(log).unwrap()[before..].to_owned())
}

/// `EX_CONFIG`, at which systemd does not try again.
#[test]
fn a_bad_bgp_configuration_is_exit_78_with_every_problem_named_and_nothing_touched() {
    let fabric = fabric("refused", 1);
    let amphora = &fabric.amphorae[0];
    let (long, tor) = ("p".repeat(81), "remote_as = 64500\npeer_ip = 198.51.100");
    amphora
        .write_config(&format!(
            "[distributor]\nvip_mode = anycast\n[bgp]\nlocal_as = 64512\n\
             [bgp_peer:long]\n{tor}.1\nauth_type = md5\nauth_password = {long}\n\
             [bgp_peer:one]\n{tor}.2\nhold_time = 1\n\
             [bgp_peer:two]\n{tor}.3\nhold_time = 2\n\
             [bgp_peer:far]\n{tor}.4\nttl_hops = 1\nebgp_multihop = 4\n\
             [bgp_peer:lost]\n{tor}.5\nauth_type = md5\nauth_password_file = /etc/octavia/certs/none.md5\n\
             [bgp_peer:bare]\n{tor}.6\nauth_type = md5\n"
        ))
        .unwrap();
    let (code, said) = end_of_start(amphora);
    assert_eq!(code, Some(78), "{said}");
    for problem in [
        "[distributor] allowed_prefixes: is required with [bgp]",
        "[bgp_peer:long] auth_password",
        "[bgp_peer:one] hold_time",
        "[bgp_peer:two] hold_time",
        "[bgp_peer:far] ebgp_multihop: excludes ttl_hops",
        "[bgp_peer:lost] auth_password_file",
        "none.md5",
        "[bgp_peer:bare] auth_type: needs a password",
    ] {
        assert!(said.contains(problem), "{problem:?} is not in\n{said}");
    }
    assert_eq!(said.lines().count(), 7, "one line a problem:\n{said}");
    assert!(!said.contains("ppp"), "a password is shown:\n{said}");
    amphora.haproxy_netns().unwrap_err();
    assert!(!amphora.node().within(|| std::fs::exists("/var/lib/octavia/amphora-agent")).unwrap().unwrap());
    assert_eq!(amphora.pids("gobgpd").unwrap(), [0_u32; 0]);
}

#[test]
fn a_last_resort_without_a_watermark_and_a_distributor_without_next_hops_are_refused_too() {
    let fabric = fabric("refused-more", 1);
    let amphora = &fabric.amphorae[0];
    let good = amphora.distributor_sections() + &fabric.tors[0].peer_section(lab::Family::V4);
    for (was, is, problem) in [
        (
            "announce = api",
            "last_resort = worse",
            "[distributor] last_resort: `worse` does nothing without members_low",
        ),
        ("vip_mode = anycast", "vip_mode = anycast\nvip_mod = x", "[distributor] vip_mod: no such option"),
        (
            "allowed_nexthops",
            "role = distributor\n#",
            "[distributor] allowed_nexthops: is required with role = distributor",
        ),
        ("allowed_prefixes = 203.0.113.0/24", "allowed_prefixes = 203.0.113.7/24", "has host bits"),
        ("local_as = 64512", "local_as = 0", "[bgp] local_as"),
        ("unix:///run/", "tcp://127.0.0.1:50051", "[bgp] speaker"),
    ] {
        assert!(good.contains(was), "{was:?} is not in {good}");
        amphora.write_config(&good.replacen(was, is, 1)).unwrap();
        let (code, said) = end_of_start(amphora);
        assert_eq!(code, Some(78), "{is}: {said}");
        assert!(said.contains(problem), "{problem:?} is not in {said}");
    }
}

#[test]
fn a_second_agent_says_who_has_the_lock_and_the_first_serves_on() {
    let (fabric, mut api) = running("second", 1);
    let amphora = &fabric.amphorae[0];
    let first = amphora.agent().unwrap();
    let (code, said) = end_of_start(amphora);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("another amphora-agent is running") && said.contains("agent.lock"), "{said}");
    assert!(first.is_running());
    assert_eq!(api.get("/").unwrap().status, 200);

    // A successor that is there a moment too early waits for its predecessor's end.
    let successor = amphora.start_agent(&[]).unwrap();
    first.kill(nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(first.wait(Duration::from_secs(20)).unwrap().success());
    let (_, took) = amphora.wait_api(PATIENCE).unwrap();
    assert!(successor.is_running(), "{took:?}");
}
