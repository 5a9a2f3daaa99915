//! What the keepalived configuration of an LVS listener says, as the controller renders it.
//!
//! The ids stand in comments (`octavia/common/jinja/lvs/templates/`): `# Configuration for Member ID` before its
//! `real_server`, `# Member ID is disabled` in the place of one.

use std::net::{IpAddr, SocketAddr};

use super::table::Service;

/// A transport protocol of LVS's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// By its name in any case.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [("udp", Self::Udp), ("sctp", Self::Sctp)]
            .into_iter()
            .find(|(n, _)| name.eq_ignore_ascii_case(n))
            .map(|(_, p)| p)
    }
}

/// A member of the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: String,
    /// Where it is; absent while it is disabled.
    pub address: Option<SocketAddr>,
}

/// A listener's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// The listener is administratively down.
    pub disabled: bool,
    /// The VIPs with the listener's port; none where it has no pool.
    pub addresses: Vec<SocketAddr>,
    /// What it carries; absent where it has no pool.
    pub protocol: Option<Protocol>,
    /// The id of the pool, unless it is disabled.
    pub pool: Option<String>,
    /// The pool's members.
    pub members: Vec<Member>,
    /// A health monitor watches them.
    pub monitored: bool,
}

impl Configuration {
    /// The virtual services it asks the kernel for.
    #[must_use]
    pub fn services(&self) -> Vec<Service> {
        self.protocol.iter().flat_map(|protocol| self.addresses.iter().map(|at| (*protocol, *at))).collect()
    }
}

/// Reads a configuration. What it does not know it passes over: keepalived judges the file.
#[must_use]
pub fn parse(text: &str) -> Configuration {
    let mut found = Configuration::default();
    let mut in_group = false;
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            // In the pools of a dual-stack listener both families name the same pool.
            ["#", "Configuration", "for", "Pool", id] => found.pool = Some(id.to_owned()),
            ["#", "Configuration", "for", "Member", id] => {
                found.members.push(Member { id: id.to_owned(), address: None });
            }
            ["#", "Member", id, "is", "disabled"] => found.members.push(Member { id: id.to_owned(), address: None }),
            ["#", "Listener", _, "is", "disabled"] => found.disabled = true,
            ["virtual_server_group", ..] => in_group = true,
            ["}", ..] => in_group = false,
            ["real_server", ip, port, ..] => {
                if let Some(member) = found.members.last_mut() {
                    member.address = address(ip, port);
                }
            }
            ["protocol", name] => found.protocol = Protocol::named(name),
            ["MISC_CHECK" | "HTTP_GET" | "TCP_CHECK", ..] => found.monitored = true,
            [ip, port] if in_group => found.addresses.extend(address(ip, port)),
            _ => {}
        }
    }
    found
}

fn address(ip: &str, port: &str) -> Option<SocketAddr> {
    Some(SocketAddr::new(ip.parse::<IpAddr>().ok()?, port.parse().ok()?))
}
