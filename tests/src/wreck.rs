//! What an amphora holds at this moment, asked without its agent: what is bound, what is announced. With the agent dead
//! nothing of it moves, so a look tells in which order things were done.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use crate::amphora::{Amphora, HAPROXY_NETNS};
use crate::error::{Error, Result};
use crate::speaker::gobgp;

/// One look at an amphora.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wreck {
    /// The VIPs on `lo` of `amphora-haproxy`: its global addresses.
    pub bound: BTreeSet<IpAddr>,
    /// The addresses of its other interfaces, link-local ones aside.
    pub on_nics: BTreeSet<IpAddr>,
    /// The sources whose packets look into table 1.
    pub rules: BTreeSet<IpAddr>,
    /// The destinations in table 1.
    pub table_1: BTreeSet<String>,
    /// `arp_ignore` is 1 and `arp_announce` 2 for all interfaces.
    pub silent: bool,
    /// What the speaker announces; nothing where there is none.
    pub announced: BTreeSet<IpAddr>,
}

impl Wreck {
    /// Looks.
    pub fn of(amphora: &Amphora) -> Result<Self> {
        let mut wreck = Self::default();
        // The speaker first: a VIP that is unbound between two looks was withdrawn before.
        if !amphora.pids("gobgpd")?.is_empty() {
            wreck.announced = match announced(amphora) {
                Ok(announced) => announced,
                // One that runs and has not been told its AS.
                Err(error) if error.to_string().contains("bgp server hasn't started yet") => BTreeSet::new(),
                Err(error) => return Err(error),
            };
        }
        if amphora.node().run(["test", "-e", &format!("/run/netns/{HAPROXY_NETNS}")]).is_err() {
            return Ok(wreck);
        }
        let inside = amphora.haproxy_netns()?;
        for link in json(&inside.run(["ip", "-j", "address", "show"])?)?.as_array().into_iter().flatten() {
            for address in link["addr_info"].as_array().into_iter().flatten() {
                if address["scope"] != "global" && link["ifname"] != "lo" {
                    continue;
                }
                let ip: IpAddr = text(&address["local"])?;
                match link["ifname"].as_str() {
                    Some("lo") if !ip.is_loopback() => drop(wreck.bound.insert(ip)),
                    Some("lo") => {}
                    _ => drop(wreck.on_nics.insert(ip)),
                }
            }
        }
        for family in ["-4", "-6"] {
            for rule in
                json(&inside.run(["ip", "-j", family, "rule", "show", "table", "1"])?)?.as_array().into_iter().flatten()
            {
                wreck.rules.insert(text(&rule["src"])?);
            }
            let routes = inside.run(["ip", "-j", family, "route", "show", "table", "1"]);
            // Before the first route the kernel knows of no such table.
            for route in json(&routes.unwrap_or_else(|_| "[]".into()))?.as_array().into_iter().flatten() {
                wreck.table_1.insert(format!("{family} {}", route["dst"].as_str().unwrap_or_default()));
            }
        }
        let is = |key: &str, value: &str| {
            inside.read_file(&format!("/proc/sys/net/ipv4/conf/all/{key}")).map(|text| text.trim() == value)
        };
        wreck.silent = is("arp_ignore", "1")? && is("arp_announce", "2")?;
        Ok(wreck)
    }

    /// What is announced although it is not bound, or answers ARP.
    #[must_use]
    pub fn unbacked(&self) -> Vec<IpAddr> {
        self.announced.iter().filter(|vip| !(self.silent && self.bound.contains(*vip))).copied().collect()
    }
}

/// What the speaker announces.
///
/// # Errors
/// Also when it does not answer.
pub fn announced(amphora: &Amphora) -> Result<BTreeSet<IpAddr>> {
    let mut all = BTreeSet::new();
    for family in ["ipv4", "ipv6"] {
        let rib = gobgp(amphora.node(), &["global", "rib", "-a", family, "-j"])?;
        for prefix in json(&rib)?.as_object().into_iter().flatten().map(|(prefix, _)| prefix) {
            let net: IpNet = prefix.parse().map_err(|_| parse(prefix))?;
            all.insert(net.addr());
        }
    }
    Ok(all)
}

fn json(text: &str) -> Result<Value> {
    // Nothing at all is how some versions of ip and gobgp write an empty list.
    if text.trim().is_empty() { Ok(Value::Null) } else { serde_json::from_str(text).map_err(|_| parse(text)) }
}

fn text(value: &Value) -> Result<IpAddr> {
    value.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| parse(&value.to_string()))
}

fn parse(text: &str) -> Error {
    Error::Parse { what: "an amphora's state".into(), text: text.into() }
}
