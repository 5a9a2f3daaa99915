//! What is left of a registration when a listener announces the VIP anyway.

use lab::{Family, wait_for};
use serde_json::Value;

use crate::said::{announced, ctl, run_by};
use crate::site::{PATIENCE, Site};

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
