//! Each command on an amphora that is well, on one that is degraded, and without an agent.

use ipnet::IpNet;
use lab::addresses::{FRONTEND, vip};
use lab::wait_for;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::said::{announced, ctl, run_by};
use crate::site::{PATIENCE, act};

/// Waits until the status has as many problems as that, and returns them.
#[track_caller]
fn problems(amphora: &lab::Amphora, many: bool) -> Value {
    let look = || {
        let said = run_by(amphora.node(), "", "status -o json").json();
        let all = said["problems"].as_array().cloned().unwrap_or_default();
        if all.is_empty() == many { Err(said) } else { Ok(said["problems"].clone()) }
    };
    wait_for(&format!("problems: {many}"), PATIENCE, look).unwrap().0
}

#[test]
fn an_amphora_that_is_well_says_so_and_what_is_asked_for_is_done() {
    let (site, mut api) = announced("ctl-well", 64_500);
    let (amphora, vip7) = (site.amphora(), site.vip.v4);
    assert_eq!(problems(amphora, false), serde_json::json!([]));

    let status = ctl(amphora, "status", 0);
    for words in [
        amphora.id(),
        "role amphora, vip_mode anycast, announce listener",
        "gobgpd ",
        "1 of 1 established",
        "2 of 2 announced",
    ] {
        assert!(status.out.contains(words), "{words}: {}", status.out);
    }
    assert!(!status.out.contains('\u{1b}') && !status.out.contains("DEGRADED"), "{}", status.out);
    let json = ctl(amphora, "status -o json", 0).json();
    assert_eq!((&json["operating_status"], &json["amphora_id"]), (&"ONLINE".into(), &amphora.id().into()));
    assert!(json["certificates"]["server"]["not_after"].is_u64() && json["speaker"]["version"].is_string(), "{json}");

    let peers = ctl(amphora, "peers", 0).out;
    let row = peers.lines().nth(1).unwrap();
    assert!(row.starts_with("tor-0 ") && row.contains(" Established "), "{peers}");
    // Aligned: each column begins where its heading does.
    let at = peers.lines().next().unwrap().find("STATE").unwrap();
    assert!(row[at..].starts_with("Established"), "{peers}");
    let vips = ctl(amphora, "vips", 0).out;
    assert!(vips.contains(&format!("{vip7} ")) && vips.contains(" announced "), "{vips}");
    let routes = ctl(amphora, "amphorae -o json", 0).json();
    assert_eq!(routes, api.amphorae().unwrap().json());
    assert_eq!(ctl(amphora, &format!("amphorae --vip-ip {vip7}"), 0).out.lines().count(), 2);

    let why = ctl(amphora, &format!("why {vip7}"), 0).out;
    assert!(why.starts_with(&format!("{vip7} is announced to tor-0\n")), "{why}");
    for gate in ["process", "listener", "socket", "bound", "carrier", "gateway"] {
        let row = why.lines().find(|line| line.starts_with(gate)).unwrap_or_else(|| panic!("{gate}: {why}"));
        assert!(row.contains(" open ") && row.contains("Z ("), "{row}");
    }
    assert_eq!(ctl(amphora, &format!("why {vip7} -o json"), 0).json()["route"]["vip_ip"], vip7.to_string());

    // Another amphora's, registered and gone again.
    let (other, hop) = (vip(9).v4, FRONTEND.host(99).v4);
    let line = format!("register --amphora-id other --vip-ip {other} --nexthop-ip {hop}");
    assert!(ctl(amphora, &line, 0).out.contains("other "));
    site.tor().wait_next_hops(IpNet::from(std::net::IpAddr::from(other)), &[hop.into()], PATIENCE).unwrap();
    let gone = ctl(amphora, "unregister --amphora-id other", 0).out;
    assert_eq!(gone, "routes: 1\n");
    site.tor().wait_next_hops(IpNet::from(std::net::IpAddr::from(other)), &[], PATIENCE).unwrap();
    let line = format!("register --end-point --vip-ip {other} --nexthop-ip {hop} --peer-id tor-0 -o json");
    assert_eq!(ctl(amphora, &line, 0).json()["peer_id"], "tor-0");
    assert_eq!(ctl(amphora, &format!("unregister --end-point --vip-ip {other} -o json"), 0).json()["routes"], 1);

    // A refusal is in the agent's words, and names the field.
    let refused = ctl(amphora, &format!("register --vip-ip 198.18.0.1 --nexthop-ip {hop}"), 2);
    assert!(
        refused.out.is_empty() && refused.err.contains("allowed_prefixes") && refused.err.contains("400"),
        "{refused:?}"
    );
    assert!(ctl(amphora, "why 198.18.0.1", 2).err.contains("neither plugged nor registered"));
    assert_eq!(ctl(amphora, "status --no-such", 2).out, "");
    assert!(ctl(amphora, "help register", 0).out.contains("--nexthop-ip"));

    // What nobody wants announced is no fault, for any of the commands.
    act(&mut api, "stop");
    let idle = || {
        let said = run_by(amphora.node(), "", "vips -o json").json();
        let states: Vec<_> = said.as_array().unwrap().iter().map(|vip| vip["state"].clone()).collect();
        if states == ["idle", "idle"] { Ok(()) } else { Err(said) }
    };
    wait_for("both VIPs are idle", PATIENCE, idle).unwrap();
    for line in ["status", "vips", "amphorae", &format!("why {vip7}")] {
        assert!(!ctl(amphora, line, 0).out.is_empty());
    }
    act(&mut api, "start");
    site.wait_announced();

    let watched = run_by(amphora.node(), "timeout 4", "status --watch 1");
    assert_eq!(watched.code, 124, "{watched:?}"); // timeout's own: it went on until it was interrupted
    assert!(watched.out.matches("1 of 1 established").count() >= 2 && !watched.out.contains('\u{1b}'), "{watched:?}");
}

#[test]
fn what_is_degraded_is_named_with_the_fix_and_an_agent_that_is_gone_is_an_error() {
    let (site, _) = announced("ctl-degraded", 64_512);
    let amphora = site.amphora();
    problems(amphora, false);
    assert_eq!(ctl(amphora, "check-config", 0).out, "OK\n");
    // What works and is worth a word: this ToR is of the amphora's own AS, as a route reflector would be.
    let why = format!("why {}", site.vip.v4);
    for (line, word) in [("status", "warning"), ("peers", "warning"), (&why, "note   ")] {
        let said = ctl(amphora, line, 0).out;
        assert!(
            said.contains(&format!("\n{word}      peer tor-0 is of our AS and offers to send no ADD-PATH")),
            "{line}: {said}"
        );
    }

    // A configuration that cannot be taken.
    let path = "/etc/octavia/amphora-agent.conf.d/90-wrong.conf";
    amphora.node().write_file(path, "[distributor]\nvip_mode = sideways\n", 0o600).unwrap();
    let wrong = ctl(amphora, "check-config", 2);
    assert!(wrong.err.contains("vip_mode") && wrong.err.contains("90-wrong.conf"), "{wrong:?}");
    amphora.agent().unwrap().kill(Signal::SIGHUP).unwrap();
    let said = problems(amphora, true);
    assert!(said[0]["problem"].as_str().unwrap().contains("vip_mode"), "{said}");
    let status = ctl(amphora, "status", 1).out;
    assert!(status.contains("\nDEGRADED     the configuration on disk is not in effect: "), "{status}");
    assert!(status.contains("\n  fix        amphoractl check-config "), "{status}");
    amphora.node().run(["rm", path]).unwrap();
    amphora.agent().unwrap().kill(Signal::SIGHUP).unwrap();
    problems(amphora, false);

    // A ToR that is gone.
    for daemon in site.tor().daemons() {
        daemon.kill_and_wait().unwrap();
    }
    let said = problems(amphora, true);
    assert!(said[0]["problem"].as_str().unwrap().starts_with("peer tor-0 ("), "{said}");
    assert_eq!(ctl(amphora, "status -o json", 1).json()["operating_status"], "DEGRADED");
    for line in ["status", "peers", "amphorae", &format!("why {}", site.vip.v4)] {
        ctl(amphora, line, 1);
    }

    let why = ctl(amphora, &why, 1).out;
    assert!(why.contains(" is announced to nobody: not sent to tor-0: amphoractl peers shows "), "{why}");
    let status = ctl(amphora, "status", 1).out;
    assert!(status.contains("\n  fix        amphoractl peers shows the sessions; "), "{status}");

    amphora.kill_agent().unwrap();
    for line in ["status", "peers", "undrain", "why 203.0.113.7 -o json"] {
        let gone = ctl(amphora, line, 2);
        assert!(gone.out.is_empty() && gone.err.starts_with("amphoractl: the agent does not run"), "{gone:?}");
        assert_eq!(gone.err.lines().count(), 1, "{gone:?}");
    }
    let watched = run_by(amphora.node(), "timeout 3", "peers --watch 1 -o json");
    assert!(watched.out.is_empty() && watched.err.contains("the agent does not run"), "{watched:?}");
    let watched = run_by(amphora.node(), "timeout 3", "peers --watch 1");
    assert!(watched.out.contains("the agent does not run"), "{watched:?}");
}

#[test]
fn a_drain_is_begun_watched_and_ended() {
    let (site, _) = announced("ctl-drain", 64_500);
    let (amphora, vip) = (site.amphora(), site.vip.v4);
    assert!(ctl(amphora, "drain nobody", 2).err.contains("404"));
    assert!(ctl(amphora, "drain --timeout 9999999", 2).err.contains("timeout_s"));
    let begun = ctl(amphora, &format!("drain --timeout 600 --vip {vip}"), 0).out;
    assert!(begun.contains(&format!("{vip} ")) && begun.contains("draining, deprefer since "), "{begun}");
    assert!(!begun.contains(&site.vip.v6.to_string()), "{begun}");
    // It is no fault of the amphora's.
    let said = || run_by(amphora.node(), "", "vips -o json").json();
    let state = || said().as_array().unwrap().iter().find(|v| v["vip_ip"] == vip.to_string()).unwrap()["state"].clone();
    assert_eq!(state(), "draining");
    assert_eq!(problems(amphora, false), serde_json::json!([]));
    assert!(ctl(amphora, "amphorae", 0).out.contains("draining, "));
    let why = run_by(amphora.node(), "", &format!("why {vip}"));
    assert!(why.code == 0 && why.out.contains("\ndrain        draining, "), "{why:?}");
    // Nobody is connected: it goes on by itself, to the end.
    site.tor().wait_next_hops(site.prefix(lab::Family::V4), &[], PATIENCE).unwrap();
    let status = ctl(amphora, "status", 0).out;
    assert!(status.contains(&format!("\nwarning      VIP {vip} is ")), "{status}");
    let why = ctl(amphora, &format!("why {vip}"), 0).out;
    assert!(
        why.contains(&format!("amphoractl undrain {} ends it", amphora.id())) && !why.contains("PUT /1.0"),
        "{why}"
    );
    ctl(amphora, "undrain", 0);
    wait_for("announced again", PATIENCE, || if state() == "announced" { Ok(()) } else { Err(said()) }).unwrap();
    site.wait_announced();
}
