//! The firewall of a SR-IOV VIP: from what was asked for to the text that `nft -f` applies at once.
//!
//! A virtual function's packets pass by Neutron's security groups, so Octavia has the amphora filter them itself
//! (`nftable_utils.py`): nothing comes in but what keeps the network going (path MTU, neighbours, leases), replies, and
//! the ports the controller names. The text is one transaction: the table is never half there, and never missing.

use std::fmt::Write as _;

use ipnet::IpNet;

use crate::state::{Desired, Firewall, FirewallRule, Protocol};

/// Octavia's table, of family `inet`.
pub const TABLE: &str = "amphora_table";

/// How the comment of a table of ours starts.
const MARK: &str = "amphora-agent";

/// A whole table as `nft -f` takes it, replacing the one that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruleset {
    text: String,
    mark: String,
}

impl Ruleset {
    /// The transaction. An older Octavia can load it too (`/var/lib/octavia/nftables-vip.rules`).
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What tells this table from another: a checksum of its rules, and the table's comment.
    #[must_use]
    pub fn mark(&self) -> &str {
        &self.mark
    }
}

/// The transaction that takes the table away.
pub const REMOVAL: &str = "table inet amphora_table {}\ndelete table inet amphora_table\n";

/// The mark of a table as `nft list table` prints it; empty for one without.
#[must_use]
pub fn mark_of(listing: &str) -> String {
    let comment = listing.lines().find_map(|line| line.trim().strip_prefix("comment \"")?.strip_suffix('"'));
    comment.unwrap_or_default().to_owned()
}

/// Whether a file of rules was written by this agent.
#[must_use]
pub fn is_ours(text: &[u8]) -> bool {
    String::from_utf8_lossy(text).lines().any(|line| line.trim().starts_with(&format!("comment \"{MARK} ")))
}

/// Whether there is to be a firewall: not while no NIC is a virtual function and the controller named no rules.
#[must_use]
pub fn is_wanted(desired: &Desired) -> bool {
    let sriov = desired.plugs.values().any(|p| p.is_sriov) || desired.networks.values().any(|n| n.is_sriov);
    sriov || desired.firewall.is_some()
}

/// The firewall wanted.
#[must_use]
pub fn ruleset(desired: &Desired) -> Option<Ruleset> {
    if !is_wanted(desired) {
        return None;
    }
    let mut chains = "  chain amphora_chain {
    type filter hook input priority filter; policy drop;
    ct state vmap { established : accept, related : accept, invalid : drop }
    iif lo accept
    ip saddr 127.0.0.0/8 drop
    ip6 saddr ::1 drop
    icmp type destination-unreachable accept
    icmpv6 type { nd-neighbor-solicit, nd-router-advert, nd-neighbor-advert, packet-too-big, destination-unreachable } accept
    udp sport 67 udp dport 68 accept
    udp sport 547 udp dport 546 accept
"
    .to_owned();
    let rules = desired.firewall.as_ref();
    // A VIP that is no virtual function, beside a member port that is one, has its security group.
    for plug in desired.plugs.values().filter(|p| !p.is_sriov && rules.is_none_or(|r| r.interface != p.interface)) {
        let _ = writeln!(chains, "    iifname \"{}\" accept", plug.interface); // into a String
    }
    if let Some(Firewall { interface, .. }) = rules {
        let _ = writeln!(chains, "    iifname \"{interface}\" goto amphora_vip_chain");
    }
    chains.push_str("  }\n  chain amphora_vip_chain {\n");
    for rule in rules.into_iter().flat_map(|f| &f.rules) {
        let _ = writeln!(chains, "    {} accept", matcher(rule));
    }
    chains.push_str("  }\n");
    let mark = format!("{MARK} {:08x}", crc32fast::hash(chains.as_bytes()));
    // Made first, so that the deletion has something to delete.
    let text = format!("{REMOVAL}table inet {TABLE} {{\n  comment \"{mark}\"\n{chains}}}\n");
    Some(Ruleset { text, mark })
}

fn matcher(rule: &FirewallRule) -> String {
    let source = match rule.cidr {
        // As upstream has it, the whole of IPv4 is everybody.
        None => String::new(),
        Some(IpNet::V4(cidr)) if cidr.prefix_len() == 0 => String::new(),
        Some(IpNet::V4(cidr)) => format!("ip saddr {cidr} "),
        Some(IpNet::V6(cidr)) if cidr.prefix_len() == 0 => "meta nfproto ipv6 ".to_owned(),
        Some(IpNet::V6(cidr)) => format!("ip6 saddr {cidr} "),
    };
    match rule.protocol {
        Protocol::Tcp => format!("{source}tcp dport {}", rule.port),
        Protocol::Udp => format!("{source}udp dport {}", rule.port),
        Protocol::Sctp => format!("{source}sctp dport {}", rule.port),
        Protocol::Vrrp => format!("{source}meta l4proto 112"),
    }
}

/// Reads the rules out of a file that Octavia's Python agent wrote: the chain of the VIP. Lines it could not have
/// written are passed over.
#[must_use]
pub fn read(text: &str) -> Vec<FirewallRule> {
    let mut lines = text.lines().map(str::trim).skip_while(|line| *line != "chain amphora_vip_chain {").skip(1);
    let chain = lines.by_ref().take_while(|line| *line != "}");
    chain.filter_map(parse).collect()
}

fn parse(line: &str) -> Option<FirewallRule> {
    let mut words: Vec<_> = line.strip_suffix(" accept")?.split_whitespace().collect();
    let cidr = match words[..] {
        ["ip" | "ip6", "saddr", cidr, ..] => {
            words.drain(..3);
            Some(cidr.parse().ok()?)
        }
        _ => None,
    };
    let (protocol, port) = match words[..] {
        ["tcp", "dport", port] => (Protocol::Tcp, port.parse().ok()?),
        ["udp", "dport", port] => (Protocol::Udp, port.parse().ok()?),
        ["sctp", "dport", port] => (Protocol::Sctp, port.parse().ok()?),
        ["ip", "protocol", "112"] | ["meta", "l4proto", "112"] => (Protocol::Vrrp, 112), // VRRP has no port
        _ => return None,
    };
    Some(FirewallRule { protocol, cidr, port })
}
