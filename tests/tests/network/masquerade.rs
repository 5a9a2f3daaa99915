//! What LVS forwards is masqueraded on the NICs of VIPs and members, without anybody running the image's scripts.

use lab::wait_for;
use serde_json::json;

use crate::support::{PATIENCE, Site, fixed, plug, plug_vip, plugged, port};

/// The elements of a set of Octavia's table, or why there are none.
fn elements(site: &Site, family: &str, set: &str) -> Vec<String> {
    let (table, name) = if family == "ipv4" { ("ip", "octavia-ipv4") } else { ("ip6", "octavia-ipv6") };
    let Ok(text) = site.inside().run(["nft", "list", "set", table, name, set]) else { return Vec::new() };
    text.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn vips_and_members_are_masqueraded_as_long_as_they_are_plugged() {
    let site = Site::new("network-masquerade");
    let mut api = site.start();
    let vip = plug_vip(&site, &mut api);
    assert_eq!(elements(&site, "ipv4", "masqueraded"), ["eth1"], "when the plug is answered");
    assert_eq!(elements(&site, "ipv4", "untracked"), ["eth1"], "no firewall asks whether TCP is tracked");
    assert_eq!(elements(&site, "ipv6", "masqueraded"), [] as [String; 0], "it has no IPv6");
    let mut body = port(&json!([fixed("10.1.0.5", "10.1.0.0/24"), fixed("2001:db8:a::5", "2001:db8:a::/64")]));
    body["is_sriov"] = true.into();
    plugged(&plug(&mut api, &body), "Plugged on interface eth2");
    let both = ["eth1".to_owned(), "eth2".to_owned()];
    assert_eq!(elements(&site, "ipv4", "masqueraded"), both);
    // The virtual function brings the firewall, which lets in what is tracked.
    assert_eq!(elements(&site, "ipv4", "untracked"), [] as [String; 0], "TCP stays tracked on both");
    assert_eq!(elements(&site, "ipv6", "masqueraded"), ["eth2"]);

    // A reboot leaves nothing of them; so does somebody's flush. The next agent also takes away what nobody wants.
    site.amphora().stop_agent().unwrap();
    site.inside().run(["nft", "flush", "ruleset"]).unwrap();
    let stale = "add table ip octavia-ipv4; add set ip octavia-ipv4 masqueraded { type ifname; };
                 add element ip octavia-ipv4 masqueraded { \"eth9\" }";
    site.inside().run(["nft", stale]).unwrap();
    let mut api = site.start();
    let back = || {
        let found = elements(&site, "ipv4", "masqueraded");
        if found == both { Ok(()) } else { Err(format!("{found:?}")) }
    };
    wait_for("they are masqueraded again", PATIENCE, back).unwrap();
    let rules = site.inside().run(["nft", "list", "table", "ip", "octavia-ipv4"]).unwrap();
    assert_eq!(rules.matches(" masquerade").count(), 2 + 1, "the set's name, and UDP and SCTP once each: {rules}");

    api.unplug_vip(vip.parse().unwrap()).unwrap().success().unwrap();
    assert_eq!(elements(&site, "ipv4", "masqueraded"), ["eth2"], "when the unplug is answered");
    assert_eq!(elements(&site, "ipv4", "untracked"), [] as [String; 0]);
}
