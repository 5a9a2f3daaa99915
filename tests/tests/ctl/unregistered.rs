//! What is left of a registration when a listener announces the VIP anyway.

use std::time::Duration;

use lab::{Family, wait_for};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::said::{announced, ctl, run_by};
use crate::site::{BOTH, PATIENCE, Site, act};

/// The rows of this amphora's routes to one VIP: origin and provisioning status.
fn rows(site: &Site, vip: std::net::IpAddr) -> Vec<[String; 2]> {
    let said = run_by(site.amphora().node(), "", &format!("amphorae --vip-ip {vip} -o json")).json();
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    said.as_array().unwrap().iter().map(|row| [text(row, "origin"), text(row, "provisioning_status")]).collect()
}

#[track_caller]
fn wait_rows(site: &Site, vip: std::net::IpAddr, wanted: [&str; 2]) {
    let look = || {
        let rows = rows(site, vip);
        if rows == [wanted.map(str::to_owned)] { Ok(()) } else { Err(format!("{rows:?}")) }
    };
    wait_for(&format!("{vip} is {wanted:?}"), PATIENCE, look).unwrap();
}

#[test]
fn a_listener_takes_over_what_is_unregistered() {
    let (site, _) = announced("ctl-unregistered", 64_500);
    let amphora = site.amphora();
    for peer in ["", " --peer-id tor-0"] {
        let (vip, hop) = (site.vip.of(Family::V4), amphora.frontend(Family::V4));
        ctl(amphora, &format!("register --vip-ip {vip} --nexthop-ip {hop}{peer}"), 0);
        wait_rows(&site, vip, ["api", "ACTIVE"]);
        ctl(amphora, &format!("unregister --vip-ip {vip}{peer}"), 0);
        // A pass over everything would mend it too, half a minute later.
        let vips = ctl(amphora, "vips -o json", 0).json();
        assert!(vips.as_array().unwrap().iter().all(|vip| vip["nexthop_ip"].is_string()), "{vips}");
        wait_rows(&site, vip, ["listener", "ACTIVE"]);
        let said = ctl(amphora, &format!("why {vip}"), 0).out;
        assert!(said.starts_with(&format!("{vip} is announced to tor-0\n")), "{said}");
    }
    let none = ctl(amphora, "unregister --vip-ip 203.0.113.250", 0).out;
    assert_eq!(none, "routes: 0 (nothing matched)\n");
    // A path of the listener's, not a remnant of the registration's, which was for one peer.
    site.wait_announced();
}

#[test]
fn registrations_of_another_configuration_leave_nothing_that_is_degraded() {
    let (site, mut api) = announced("ctl-was-api", 64_500);
    let amphora = site.amphora();
    let listener = amphora.distributor_sections().replace("announce = api", "announce = listener")
        + &site.tor().peer_section(Family::V4);
    let reload = |sections: &str| {
        amphora.write_config(sections).unwrap();
        amphora.agent().unwrap().kill(Signal::SIGHUP).unwrap();
        let announce = if sections.contains("announce = api") { "api" } else { "listener" };
        let taken = || {
            let said = run_by(amphora.node(), "", "status -o json").json();
            if said["configuration"]["announce"] == announce { Ok(()) } else { Err(said) }
        };
        wait_for(&format!("announce = {announce}"), PATIENCE, taken).unwrap();
    };
    reload(&listener.replace("announce = listener", "announce = api"));
    for family in BOTH {
        let (vip, hop) = (site.vip.of(family), amphora.frontend(family));
        ctl(amphora, &format!("register --vip-ip {vip} --nexthop-ip {hop}"), 0);
    }
    reload(&listener);
    ctl(amphora, "unregister", 0);
    act(&mut api, "stop");
    let idle = || {
        let vips = run_by(amphora.node(), "", "vips -o json").json();
        let all = |vip: &Value| vip["state"] == "idle" && vip["nexthop_ip"].is_string();
        if vips.as_array().unwrap().iter().all(all) { Ok(()) } else { Err(vips) }
    };
    wait_for("both VIPs are idle, each with its next hop", Duration::from_secs(10), idle).unwrap();
    let why = ctl(amphora, &format!("why {}", site.vip.v4), 0).out;
    assert!(why.contains(" is not announced: process: ") && !why.contains("no address"), "{why}");
}
