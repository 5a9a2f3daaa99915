//! `lvs-masquerade add|delete ipv4|ipv6 INTERFACE [sriov]`: what LVS forwards leaves with the interface's own address, and
//! TCP, which haproxy ends, is not tracked (`elements/amphora-agent/static/usr/local/bin/lvs-masquerade.sh`).
//!
//! Tables and chains are Octavia's. Unlike its script's rules, ours stand for all interfaces at once and look the
//! interface up in a set: adding one twice is once, taking one away leaves the others theirs, and each call is one
//! transaction.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    process::{Command, ExitCode},
    time::Duration,
};

use netns::{IfName, Namespace};

use crate::child;

/// How long `nft` may take.
const PATIENCE: Duration = Duration::from_secs(10);
const USAGE: &str = "Usage: lvs-masquerade [add|delete] [ipv4|ipv6] <interface> [sriov]";

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl Family {
    /// `ipv4` or `ipv6`, as on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        }
    }

    /// nftables' family, the table in it, and the start of its chains' names.
    fn table(self) -> (&'static str, &'static str) {
        match self {
            Self::Ipv4 => ("ip octavia-ipv4", "ip"),
            Self::Ipv6 => ("ip6 octavia-ipv6", "ip6"),
        }
    }
}

/// An interface that is to masquerade in one family.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Masquerade {
    /// Of which addresses.
    pub family: Family,
    /// Its name inside the namespace.
    pub interface: IfName,
    /// Its TCP stays tracked: it is a virtual function, or beside one.
    pub sriov: bool,
}

/// The nftables script after which these interfaces masquerade, and no other: also what an earlier agent left goes.
#[must_use]
pub fn exactly(wanted: &BTreeSet<Masquerade>) -> String {
    let mut script = String::new();
    for family in [Family::Ipv4, Family::Ipv6] {
        let (table, _) = family.table();
        let these = wanted.iter().filter(|m| m.family == family && is_plain(m.interface.as_str())).collect::<Vec<_>>();
        if these.is_empty() {
            // Made first, so that the deletion has something to delete.
            script.extend(["add", "delete"].map(|verb| format!("{verb} table {table}\n")));
            continue;
        }
        script += &sets(table);
        script.extend(["masqueraded", "untracked"].map(|set| format!("flush set {table} {set}\n")));
        script.extend(these.iter().map(|m| add(family, &m.interface, m.sriov)));
    }
    script
}

/// The nftables script that has an interface masquerade; for `nft -f` in its namespace. With `sriov` its TCP stays tracked:
/// the rules of a SR-IOV VIP look at connections.
#[must_use]
pub fn add(family: Family, interface: &IfName, sriov: bool) -> String {
    let (table, ip) = family.table();
    // Flushed first: an interface that was added twice would have each rule twice, and so would one of Octavia's script.
    let chain = |name: &str, hook: &str, rule: &str| {
        format!(
            "add chain {table} {name} {{ type {hook}; }}\nflush chain {table} {name}\nadd rule {table} {name} {rule}\n"
        )
    };
    let mut script = sets(table);
    script += &element("add", table, "masqueraded", interface);
    for protocol in ["udp", "sctp"] {
        let rule = format!("oifname @masqueraded meta l4proto {protocol} masquerade");
        script += &chain(&format!("{ip}-{protocol}-masq"), "nat hook postrouting priority 100", &rule);
    }
    if !sriov {
        script += &element("add", table, "untracked", interface);
        for (name, direction) in [("prerouting", "iifname"), ("output", "oifname")] {
            let rule = format!("{direction} @untracked meta l4proto tcp notrack");
            script += &chain(name, &format!("filter hook {name} priority -300"), &rule);
        }
    }
    script
}

/// The nftables script that ends it; also where it was never begun.
#[must_use]
pub fn delete(family: Family, interface: &IfName) -> String {
    let (table, _) = family.table();
    let end = |set| element("add", table, set, interface) + &element("delete", table, set, interface);
    sets(table) + &end("masqueraded") + &end("untracked")
}

fn sets(table: &str) -> String {
    format!(
        "add table {table}\nadd set {table} masqueraded {{ type ifname; }}\nadd set {table} untracked {{ type ifname; }}\n"
    )
}

fn element(verb: &str, table: &str, set: &str, interface: &IfName) -> String {
    format!("{verb} element {table} {set} {{ \"{interface}\" }}\n")
}

/// 0, or 1 with what is wrong.
pub(super) fn main(arguments: &[OsString]) -> ExitCode {
    match script(arguments).and_then(|script| apply(&script, None)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn script(arguments: &[OsString]) -> Result<String, String> {
    let words: Vec<_> = arguments.iter().map(|word| word.to_str().unwrap_or_default()).collect();
    let (verb, family, interface, sriov) = match words[..] {
        [verb, family, interface] => (verb, family, interface, false),
        [verb, family, interface, "sriov"] => (verb, family, interface, true),
        _ => return Err(USAGE.to_owned()),
    };
    let family = match family {
        "ipv4" => Family::Ipv4,
        "ipv6" => Family::Ipv6,
        _ => return Err(USAGE.to_owned()),
    };
    let parsed = interface.parse::<IfName>().ok().filter(|name| is_plain(name.as_str()));
    let interface = parsed.ok_or_else(|| format!("{interface}: not an interface's name\n{USAGE}"))?;
    match verb {
        "add" => Ok(add(family, &interface, sriov)),
        "delete" => Ok(delete(family, &interface)),
        _ => Err(USAGE.to_owned()),
    }
}

/// The kernel takes nearly any character in a name, a script of nftables does not.
fn is_plain(interface: &str) -> bool {
    interface.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.@:".contains(&c))
}

/// Applies a script of these, in the namespace or in the caller's own, in one transaction. Blocks.
///
/// # Errors
/// What `nft` says, or why it could not be asked.
pub fn apply(script: &str, inside: Option<&Namespace>) -> Result<(), String> {
    let ended = child::run(Command::new("nft").args(["-f", "-"]), inside, script.as_bytes(), PATIENCE);
    let ended = ended.map_err(|error| error.to_string())?;
    if ended.status.success() { Ok(()) } else { Err(format!("nft: {}: {}", ended.status, ended.text.trim())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script_of(line: &[&str]) -> Result<String, String> {
        script(&line.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn a_command_line_is_octavias_or_refused() {
        for good in [&["add", "ipv4", "eth1"][..], &["delete", "ipv6", "eth1"], &["add", "ipv6", "eth1", "sriov"]] {
            assert!(script_of(good).is_ok(), "{good:?}");
        }
        for bad in [
            &[][..],
            &["add"],
            &["add", "ipv4"],
            &["flush", "ipv4", "eth1"],
            &["add", "inet", "eth1"],
            &["add", "ipv4", "eth1", "srv"],
            &["add", "ipv4", ""],
            &["add", "ipv4", "eth1\" } \n flush ruleset"],
            &["add", "ipv4", "a\"b"],
            &["add", "ipv4", "a-name-that-is-too-long"],
        ] {
            assert!(script_of(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_not_wanted_goes_with_its_table() {
        let one = |family, interface: &str| Masquerade { family, interface: interface.parse().unwrap(), sriov: false };
        let script = exactly(&[one(Family::Ipv4, "eth1"), one(Family::Ipv6, "a\"b")].into());
        assert!(script.contains("add element ip octavia-ipv4 masqueraded { \"eth1\" }\n"), "{script}");
        assert!(!script.contains("delete table ip octavia-ipv4"), "{script}");
        assert!(script.ends_with("delete table ip6 octavia-ipv6\n"), "a name nft would not take is left out: {script}");
    }

    #[test]
    fn tcp_of_a_sriov_vip_stays_tracked() {
        assert!(script_of(&["add", "ipv4", "eth1"]).unwrap().contains("notrack"));
        assert!(!script_of(&["add", "ipv4", "eth1", "sriov"]).unwrap().contains("notrack"));
    }
}
