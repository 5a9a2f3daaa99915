//! What a network namespace holds, as `ip -j` tells it: one sorted line per link, address, route and rule, so that two
//! looks can be compared and a test can say exactly what there is to be.
//!
//! The kernel's own is left out: the routes it makes for addresses, its three rules, link-local addresses, `127.0.0.1`
//! and `::1`.

use std::collections::BTreeSet;
use std::fmt::Write;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::place::Place;

/// One look at a network namespace.
pub type Picture = BTreeSet<String>;

/// Looks at links, addresses, the routes of all tables and the rules of both families.
pub fn look(place: &Place) -> Result<Picture> {
    let mut picture = Picture::new();
    for link in array(place, &["addr"])? {
        let name = text(&link["ifname"]);
        let up = link["flags"].as_array().is_some_and(|flags| flags.iter().any(|flag| flag == "UP"));
        picture.insert(format!("link {name} mtu {} {}", link["mtu"], if up { "up" } else { "down" }));
        let addresses = link["addr_info"].as_array().cloned().unwrap_or_default();
        picture.extend(addresses.iter().filter_map(|address| address_line(&name, address)));
    }
    for family in ["-4", "-6"] {
        let routes = array(place, &[family, "route", "show", "table", "all"])?;
        picture.extend(routes.iter().filter_map(route_line));
        let rules = array(place, &[family, "rule"])?;
        picture.extend(rules.iter().filter_map(|rule| rule_line(family, rule)));
    }
    Ok(picture)
}

/// The sysctls of IP in a namespace, as `sysctl -a` prints them, but for those of single links.
pub fn ip_sysctls(place: &Place) -> Result<Picture> {
    let all = place.run(["sysctl", "-a", "-r", r"^net\.ipv[46]\."])?;
    let of_link = |line: &&str| {
        let mut words = line.split('.');
        let section = words.nth(2).unwrap_or_default();
        matches!(section, "conf" | "neigh") && !matches!(words.next(), Some("all" | "default" | "lo"))
    };
    Ok(all.lines().filter(|line| !of_link(line)).map(str::to_owned).collect())
}

/// The lines only `after` has, marked `+`, and those only `before` has, marked `-`.
#[must_use]
pub fn difference(before: &Picture, after: &Picture) -> Vec<String> {
    let gone = before.difference(after).map(|line| format!("- {line}"));
    gone.chain(after.difference(before).map(|line| format!("+ {line}"))).collect()
}

/// The same without whose its routes and rules are.
#[must_use]
pub fn unmarked(picture: &Picture) -> Picture {
    picture.iter().map(|line| line.split(" proto ").next().unwrap_or(line).to_owned()).collect()
}

fn address_line(nic: &str, address: &Value) -> Option<String> {
    let local = text(&address["local"]);
    // Scope 253 is the link's.
    if address["scope"] == "253" || local == "127.0.0.1" || local == "::1" {
        return None;
    }
    let mut line = format!("address {nic} {local}/{}", address["prefixlen"]);
    if address["scope"] == "254" {
        line += " host";
    }
    for flag in ["deprecated", "dynamic", "nodad", "secondary"] {
        if address[flag] == true {
            line += &format!(" {flag}");
        }
    }
    Some(line)
}

fn route_line(route: &Value) -> Option<String> {
    if route["protocol"] == "2" {
        return None; // RTPROT_KERNEL
    }
    let table = route["table"].as_str().unwrap_or("254");
    let mut line = format!("route table {table} {}", text(&route["dst"]));
    for (key, word) in [("gateway", "via"), ("dev", "dev"), ("prefsrc", "src"), ("protocol", "proto")] {
        if !route[key].is_null() {
            let _ = write!(line, " {word} {}", text(&route[key]));
        }
    }
    Some(line)
}

fn rule_line(family: &str, rule: &Value) -> Option<String> {
    let priority = rule["priority"].as_u64()?;
    if rule["protocol"].is_null() && [0, 32_766, 32_767].contains(&priority) {
        return None;
    }
    let (from, table) = (text(&rule["src"]), text(&rule["table"]));
    Some(format!("rule {family} {priority} from {from} table {table} proto {}", text(&rule["protocol"])))
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn array(place: &Place, arguments: &[&str]) -> Result<Vec<Value>> {
    // -N: numbers rather than this machine's names for protocols and tables.
    let said = place.run(["ip", "-j", "-N"].iter().chain(arguments))?;
    if said.trim().is_empty() {
        return Ok(Vec::new());
    }
    let parse = |error: serde_json::Error| Error::Parse { what: "ip -j".into(), text: format!("{error}: {said}") };
    serde_json::from_str(&said).map_err(parse)
}
