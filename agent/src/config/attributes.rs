//! BGP attributes: of all that a peer is sent (`[bgp_peer:NAME]`), and of a few VIPs (`[bgp_vip:PREFIX]`).
//!
//! VIPs are known when they are plugged and not before, so their sections name prefixes, and the longest one that
//! contains a VIP decides alone, as in a routing table.

use ::bgp::{Attributes, Community};
use ipnet::IpNet;

use super::{VipConfig, distributor, reader::Reader};

/// What the name of a VIP's section begins with.
pub(super) const VIP: &str = "bgp_vip:";
/// Far more than what tells two ways apart; a route is prepended for its peer, its VIP and a drain, and all add up.
const MOST_PREPENDS: u8 = 8;
/// RFC 7999: routers are to discard what is sent there.
const BLACKHOLE: Community = Community(0xffff_029a);

/// What a section says; gobgpd cannot be told a peer's `LOCAL_PREF` of 0.
pub(super) fn attributes(reader: &mut Reader<'_>, section: &str) -> Option<Attributes> {
    let before = reader.problems.len();
    let communities = reader.list(section, "communities", community);
    let med = reader.number(section, "med", 0_u32, u32::MAX);
    let least = u32::from(!section.starts_with(VIP));
    let local_pref = reader.number(section, "local_pref", least, u32::MAX);
    let prepend = reader.number(section, "prepend", 0_u8, MOST_PREPENDS);
    let attributes = Attributes { communities: communities?.into_iter().collect(), med, local_pref, prepend: prepend? };
    (reader.problems.len() == before).then_some(attributes)
}

fn community(text: &str) -> Result<Community, String> {
    match text.parse::<Community>() {
        Ok(BLACKHOLE) => Err(format!("`{text}` asks routers to discard what clients send to the VIP; remove it")),
        other => other.map_err(|error| format!("`{text}` is {error}")),
    }
}

/// Every `[bgp_vip:PREFIX]`; `None` for one with a problem, now noted. `allowed` is `allowed_prefixes`.
pub(super) fn vips(reader: &mut Reader<'_>, allowed: &[IpNet]) -> Vec<Option<VipConfig>> {
    let document = reader.document;
    let sections: Vec<_> = document.sections.keys().filter(|name| name.starts_with(VIP)).collect();
    let mut vips: Vec<Option<VipConfig>> = Vec::new();
    for section in sections {
        let prefix = distributor::prefix(&section[VIP.len()..]);
        if let Err(error) = &prefix {
            reader.section_problem(section, error.clone());
        }
        if !document.sections.contains_key("bgp") {
            reader.section_problem(
                section,
                "a VIP's attributes need a [bgp] section; add one, or remove this".to_owned(),
            );
        }
        let attributes = attributes(reader, section);
        let (Ok(prefix), Some(attributes)) = (prefix, attributes) else {
            vips.push(None);
            continue;
        };
        if vips.iter().flatten().any(|other| other.prefix == prefix) {
            reader.section_problem(section, format!("there is another section for {prefix}; write one of them"));
        }
        let meets = |net: &IpNet| net.contains(&prefix) || prefix.contains(net);
        if !allowed.is_empty() && !allowed.iter().any(meets) {
            let text = "no VIP in it is announced: it is outside [distributor] allowed_prefixes".to_owned();
            let warning = reader.at_section(section, text);
            reader.warnings.push(warning);
        }
        vips.push(Some(VipConfig { prefix, attributes }));
    }
    vips
}

#[cfg(test)]
mod tests;
