//! The paths a ToR has to a prefix, with the attributes it chooses by.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bgp::Community;
use serde_json::Value;

use crate::error::{Error, Result};

/// What one neighbour announced a prefix with, as the ToR has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path {
    /// `AS_PATH`.
    pub as_path: Vec<u32>,
    /// `MULTI_EXIT_DISC`.
    pub med: Option<u32>,
    /// `LOCAL_PREF`. BIRD gives a route of an external neighbour the default, 100.
    pub local_pref: Option<u32>,
    /// COMMUNITIES.
    pub communities: BTreeSet<Community>,
}

fn parse(text: &str) -> Error {
    Error::Parse { what: "a ToR's paths".into(), text: text.to_owned() }
}

/// Reads `show bgp FAMILY unicast PREFIX json`: by next hop.
pub(super) fn of_frr(answer: &str) -> Result<BTreeMap<IpAddr, Path>> {
    let said: Value = serde_json::from_str(answer).map_err(|_| parse(answer))?;
    let path = |said: &Value| {
        let hops = said["nexthops"].as_array()?;
        let next_hop = hops.iter().find(|hop| hop["scope"] != "link-local")?["ip"].as_str()?.parse().ok()?;
        let number = |key: &str| said[key].as_u64().and_then(|number| u32::try_from(number).ok());
        let words = |key: &str| said[key]["string"].as_str().unwrap_or_default().split_whitespace();
        let path = Path {
            as_path: words("aspath").filter_map(|word| word.parse().ok()).collect(),
            med: number("metric"),
            local_pref: number("locPrf"),
            communities: words("community").map(str::parse).collect::<Result<_, _>>().ok()?,
        };
        Some((next_hop, path))
    };
    let paths = said["paths"].as_array().into_iter().flatten();
    paths.map(|said| path(said).ok_or_else(|| parse(answer))).collect()
}

/// Reads `show route PREFIX all`: each route's attributes begin with its `Type:`.
pub(super) fn of_bird(answer: &str) -> Result<BTreeMap<IpAddr, Path>> {
    let mut paths = BTreeMap::new();
    for route in answer.split("Type: BGP").skip(1) {
        let value = |key: &str| {
            let line = route.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(':'));
            line.unwrap_or_default().trim()
        };
        let next_hop = value("BGP.next_hop").split_whitespace().next().and_then(|text| text.parse().ok());
        let pairs = value("BGP.community").split(['(', ')']).map(str::trim).filter(|pair| !pair.is_empty());
        let path = Path {
            as_path: value("BGP.as_path").split_whitespace().filter_map(|word| word.parse().ok()).collect(),
            med: value("BGP.med").parse().ok(),
            local_pref: value("BGP.local_pref").parse().ok(),
            communities: pairs.filter_map(|pair| pair.replace(',', ":").parse().ok()).collect(),
        };
        paths.insert(next_hop.ok_or_else(|| parse(answer))?, path);
    }
    Ok(paths)
}
