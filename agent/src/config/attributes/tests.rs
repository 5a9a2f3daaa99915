use std::path::Path;

use crate::config::{Bgp, Config, LastResort};

const BASE: &str = "[distributor]
vip_mode = anycast
allowed_prefixes = 203.0.113.0/24, 2001:db8:100::/48
[bgp]
local_as = 64512
[bgp_peer:tor-a]
peer_ip = 192.0.2.1
remote_as = 64500
";

fn load(more: &str) -> Result<Config, Vec<String>> {
    let found = Config::from_text(Path::new("a.conf"), &format!("{BASE}{more}\n"));
    found.map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

fn bgp(more: &str) -> Bgp {
    load(more).unwrap().bgp.unwrap()
}

#[test]
fn a_peer_and_prefixes_of_vips_have_attributes_that_read_back() {
    let peer =
        "communities = no-export, 64512:1\nmed = 0\nprepend = 2\nbfd = on\nbfd_interval = 50\nbfd_multiplier = 5\n";
    let vips = "[bgp_vip:203.0.113.7/32]\nlocal_pref = 0\n[bgp_vip:2001:db8:100::/64]\nmed = 4294967295\n";
    let bgp = self::bgp(&format!("{peer}{vips}"));
    let said = &bgp.peers[0].peer;
    let communities: Vec<_> = said.attributes.communities.iter().map(ToString::to_string).collect();
    assert_eq!(communities, ["64512:1", "65535:65281"]);
    assert_eq!((said.attributes.med, said.attributes.local_pref, said.attributes.prepend), (Some(0), None, 2));
    let bfd = said.bfd.unwrap();
    assert_eq!((bfd.interval.as_millis(), bfd.multiplier.get()), (50, 5));
    let vips: Vec<_> = bgp.vips.iter().map(|v| (v.prefix.to_string(), v.attributes.clone())).collect();
    assert_eq!(vips[0].0, "2001:db8:100::/64");
    assert_eq!((vips[0].1.med, vips[1].1.local_pref, vips[1].1.med), (Some(u32::MAX), Some(0), None));

    let config =
        load(&format!("{peer}[bgp_vip:203.0.113.0/25]\ncommunities = graceful-shutdown\nprepend = 8")).unwrap();
    let printed = config.to_string();
    let again = Config::from_text(Path::new("b.conf"), &printed).unwrap();
    assert_eq!((again.to_string(), again.bgp), (printed, config.bgp));
    let plain = self::bgp("");
    assert!(plain.peers[0].peer.attributes.is_empty() && plain.peers[0].peer.bfd.is_none() && plain.vips.is_empty());
}

#[test]
fn every_wrong_value_names_its_place_and_the_fix() {
    for (lines, expected) in [
        ("med = -1", "a.conf:9: [bgp_peer:tor-a] med: not a whole number from 0 to 4294967295"),
        ("med = 4294967296", "not a whole number from 0 to 4294967295"),
        ("prepend = 9", "prepend: not a whole number from 0 to 8"),
        ("local_pref = 0", "local_pref: not a whole number from 1 to 4294967295"),
        (
            "communities = no-exports",
            "`no-exports` is not a community: two numbers from 0 to 65535, as in 64512:100, or",
        ),
        ("communities = blackhole", "`blackhole` asks routers to discard what clients send to the VIP; remove it"),
        ("communities = 65535:666", "`65535:666` asks routers to discard"),
        ("bfd = maybe", "bfd: neither true nor false"),
        ("bfd = true\nebgp_multihop = 2", "a.conf:9: [bgp_peer:tor-a] bfd: excludes ebgp_multihop"),
        ("bfd = true\nttl_hops = 2", "[bgp_peer:tor-a] bfd: excludes ttl_hops above 1"),
        ("bfd = true\nbfd_interval = 49", "bfd_interval: not a whole number from 50 to 60000"),
        ("bfd = true\nbfd_multiplier = 0", "bfd_multiplier: not a whole number from 1 to 255"),
        ("bfd_interval = 300", "bfd_interval: does nothing without bfd; set bfd = true, or remove it"),
        ("[bgp_vip:203.0.113.7]\nmed = 1", "a.conf:9: [bgp_vip:203.0.113.7] 203.0.113.7 has no prefix length"),
        ("[bgp_vip:203.0.113.7/24]", "203.0.113.7/24 has host bits; write 203.0.113.0/24"),
        ("[bgp_vip:web]", "`web` is not a prefix"),
        ("[bgp_vip]\nmed = 1", "no such section; ours are [distributor], [bgp], [bgp_peer:NAME] and [bgp_vip:PREFIX]"),
        (
            "[bgp_vip:203.0.113.0/24]\npeer_ip = 192.0.2.1",
            "no such option; this section has communities, med, local_pref",
        ),
        (
            "[bgp_vip:2001:db8:100::/64]\n[bgp_vip:2001:DB8:100:0::/64]",
            "there is another section for 2001:db8:100::/64; write one of them",
        ),
        ("[distributor]\nlast_resort = worse", "last_resort: `worse` does nothing without members_low; set that too"),
    ] {
        let found = load(lines).unwrap_err();
        assert!(found.iter().any(|problem| problem.contains(expected)), "{lines}\n{found:#?}");
    }
    let without = Config::from_text(Path::new("a.conf"), "[bgp_vip:203.0.113.0/24]\nmed = 1\n").unwrap_err();
    assert_eq!(
        without.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["a.conf:1: [bgp_vip:203.0.113.0/24] a VIP's attributes need a [bgp] section; add one, or remove this"]
    );
}

#[test]
fn what_has_no_effect_is_warned_of() {
    for (lines, expected) in [
        ("local_pref = 200", &["local_pref: has no effect: it is sent inside one AS only"][..]),
        ("prepend = 1\n[bgp]\nlocal_as = 64500", &["prepend: has no effect: an internal peer"]),
        ("[bgp_vip:198.51.100.0/24]\nmed = 1", &["outside [distributor] allowed_prefixes"]),
        ("bfd = true", &["bfd: may outweigh graceful restart"]),
        ("bfd = true\n[bgp]\ngraceful_restart_time = 0", &[]),
        ("bfd = true\nttl_hops = 1\n[bgp]\ngraceful_restart_time = 0", &[]),
        ("prepend = 1\n[bgp_vip:0.0.0.0/0]\nmed = 1\n[bgp_vip:203.0.113.7/32]\nmed = 2", &[]),
    ] {
        let mut warnings: Vec<_> = load(lines).unwrap().warnings.iter().map(ToString::to_string).collect();
        warnings.retain(|warning| !warning.contains("amphora_id"));
        assert_eq!(warnings.len(), expected.len(), "{lines}\n{warnings:#?}");
        let told = |expected: &&str| warnings.iter().any(|warning| warning.contains(*expected));
        assert!(expected.iter().all(told), "{lines}\n{warnings:#?}");
    }
    let worse = load("[distributor]\nlast_resort = worse\nmembers_low = 50").unwrap();
    assert_eq!(worse.distributor.gates.last_resort, LastResort::Worse);
}
