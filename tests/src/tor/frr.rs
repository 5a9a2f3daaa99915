//! FRR as a ToR: zebra and bgpd started directly, asked with vtysh.

use std::fmt::Write;
use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;

use super::Config;
use crate::addresses::{ANYCAST, MANAGEMENT};
use crate::error::{Error, Result};
use crate::node::Node;
use crate::place::command;
use crate::process::Proc;
use crate::wait::wait_for;

const PROGRAMS: &str = "/usr/lib/frr";

pub(super) fn start(node: &Node, config: &Config) -> Result<Vec<Proc>> {
    node.write_file("/etc/frr/zebra.conf", "log stdout informational\n", 0o644)?;
    node.write_file("/etc/frr/bgpd.conf", bgpd_conf(config), 0o644)?;
    node.write_file("/etc/frr/vtysh.conf", "no service integrated-vtysh-config\n", 0o644)?;
    // The daemons drop to the user frr, and neither makes its directory.
    node.run(["install", "-d", "-o", "frr", "-g", "frr", "/run/frr", "/var/tmp/frr"])?;
    let zebra = daemon(node, "zebra", "/run/frr/zserv.api")?;
    let bgpd = daemon(node, "bgpd", "/run/frr/bgpd.vty")?;
    wait_for("bgpd reads its configuration", Duration::from_secs(10), || {
        let text = node
            .run(["env", "HOME=/run", "vtysh", "-c", "show bgp summary json"])
            .map_err(|error| error.to_string())?;
        if node.run(["ss", "-Hltn", "sport = :179"]).is_ok_and(|sockets| !sockets.is_empty()) {
            Ok(())
        } else {
            Err(text)
        }
    })?;
    let mut daemons = vec![zebra, bgpd];
    if config.options.bfd {
        daemons.push(daemon(node, "bfdd", "/run/frr/bfdd.vty")?);
    }
    Ok(daemons)
}

fn daemon(node: &Node, name: &str, socket: &str) -> Result<Proc> {
    let config = format!("/etc/frr/{name}.conf");
    // No TCP port for its command line: vtysh uses the UNIX socket.
    let proc = node.spawn(name, &mut command([&format!("{PROGRAMS}/{name}"), "-f", &config, "-P", "0"]))?;
    wait_for(&format!("{name} is up"), Duration::from_secs(10), || {
        if !proc.is_running() {
            return Err("it ended");
        }
        if node.run(["test", "-S", socket]).is_ok() { Ok(()) } else { Err("no socket yet") }
    })?;
    Ok(proc)
}

fn bgpd_conf(config: &Config) -> String {
    let options = config.options;
    let mut text = format!(
        "log stdout informational
ip prefix-list anycast4 permit {} ge 32
ipv6 prefix-list anycast6 permit {} ge 128
route-map in4 permit 10
 match ip address prefix-list anycast4
route-map in6 permit 10
 match ipv6 address prefix-list anycast6
route-map nothing deny 10
router bgp {}
 bgp router-id {}
 no bgp default ipv4-unicast
 no bgp ebgp-requires-policy
 bgp bestpath as-path multipath-relax
 neighbor AMPHORAE peer-group
 neighbor AMPHORAE remote-as {}
 neighbor AMPHORAE timers connect 1
",
        ANYCAST.v4, ANYCAST.v6, options.asn, config.router_id, config.amphora_as
    );
    if options.bfd {
        text += " neighbor AMPHORAE bfd 3 300 300\n";
    }
    if let Some(password) = &options.password {
        let _ = writeln!(text, " neighbor AMPHORAE password {password}");
    }
    match options.ttl_hops {
        Some(hops) => text += &format!(" neighbor AMPHORAE ttl-security hops {hops}\n"),
        None if config.multihop && config.is_external() => text += " neighbor AMPHORAE ebgp-multihop 4\n",
        None => {}
    }
    if config.neighbours.is_empty() {
        text += &format!(" bgp listen range {} peer-group AMPHORAE\n", MANAGEMENT.v4);
        text += &format!(" bgp listen range {} peer-group AMPHORAE\n", MANAGEMENT.v6);
    }
    for neighbour in &config.neighbours {
        text += &format!(" neighbor {neighbour} peer-group AMPHORAE\n");
    }
    for (family, filter) in [("ipv4", "in4"), ("ipv6", "in6")] {
        text += &format!(" address-family {family} unicast\n  neighbor AMPHORAE activate\n");
        if options.filters {
            text += &format!("  neighbor AMPHORAE route-map {filter} in\n  neighbor AMPHORAE route-map nothing out\n");
        } else {
            text += "  redistribute connected\n";
        }
        text += " exit-address-family\n";
    }
    text
}

fn parse(text: String) -> Error {
    Error::Parse { what: "vtysh's answer".into(), text }
}

fn json(text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|error| parse(format!("{error} in {text}")))
}

/// Reads `show bgp FAMILY unicast PREFIX json`: a path of a neighbour's has an AS path or is internal, one of our own is
/// sourced.
pub(super) fn has_learned(paths: &str) -> Result<bool> {
    let answer = json(paths)?;
    let mut paths = answer["paths"].as_array().into_iter().flatten();
    Ok(paths.any(|path| path["sourced"] != true))
}

/// Reads `show bgp summary json`.
pub(super) fn established(summary: &str) -> Result<Vec<IpAddr>> {
    let summary = json(summary)?;
    let mut peers = Vec::new();
    for family in ["ipv4Unicast", "ipv6Unicast"] {
        for (peer, facts) in summary[family]["peers"].as_object().into_iter().flatten() {
            if facts["state"] == "Established" {
                peers.push(peer.parse().map_err(|_| parse(peer.clone()))?);
            }
        }
    }
    peers.sort();
    peers.dedup();
    Ok(peers)
}
