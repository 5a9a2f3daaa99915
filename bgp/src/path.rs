//! Announcements as gobgp's paths, and back.
//!
//! ORIGIN is always IGP, and nothing is sent that is not said here: a router spreads clients over
//! amphorae only while all their attributes are the same, across releases too.

use std::{collections::BTreeMap, net::IpAddr};

use gobgp_proto::v4::{
    self, Attribute, CommunitiesAttribute, IpAddressPrefix, LargeCommunitiesAttribute, LocalPrefAttribute,
    MpReachNlriAttribute, MultiExitDiscAttribute, NextHopAttribute, OriginAttribute, attribute::Attr,
};

use crate::{Advertised, Announcement, Attributes, Community, Family, NextHop, PeerId, Prefix, tag};

const ORIGIN_IGP: u32 = 0;

pub(crate) fn family(family: Family) -> v4::Family {
    let afi = match family {
        Family::Ipv4 => v4::family::Afi::Ip,
        Family::Ipv6 => v4::family::Afi::Ip6,
    };
    v4::Family { afi: afi.into(), safi: v4::family::Safi::Unicast.into() }
}

/// `None` for anything but unicast routes of IP.
pub(crate) fn parse_family(said: v4::Family) -> Option<Family> {
    [Family::Ipv4, Family::Ipv6].into_iter().find(|f| family(*f) == said)
}

fn nlri(prefix: Prefix) -> v4::Nlri {
    let prefix = IpAddressPrefix { prefix_len: prefix.length().into(), prefix: prefix.address().to_string() };
    v4::Nlri { nlri: Some(v4::nlri::Nlri::Prefix(prefix)) }
}

fn parse_nlri(nlri: Option<&v4::Nlri>) -> Option<Prefix> {
    let v4::nlri::Nlri::Prefix(said) = nlri?.nlri.as_ref()?;
    let prefix = Prefix::try_from(said.prefix.parse::<IpAddr>().ok()?).ok()?;
    (u32::from(prefix.length()) == said.prefix_len).then_some(prefix)
}

/// `NEXT_HOP` for IPv4 by IPv4, `MP_REACH_NLRI` (RFC 4760) for all else, RFC 5549's IPv4 by IPv6 too.
fn next_hop(prefix: Prefix, next_hop: IpAddr) -> Attr {
    match (prefix.address(), next_hop) {
        (IpAddr::V4(_), IpAddr::V4(_)) => Attr::NextHop(NextHopAttribute { next_hop: next_hop.to_string() }),
        _ => Attr::MpReach(MpReachNlriAttribute {
            family: Some(family(Family::of(prefix.address()))),
            next_hops: vec![next_hop.to_string()],
            nlris: vec![nlri(prefix)],
        }),
    }
}

pub(crate) fn announce(what: &Announcement) -> v4::Path {
    let said = &what.attributes;
    let communities: Vec<u32> = said.communities.iter().map(|c| c.0).collect();
    let marks = [tag::write(&what.audience), tag::write_attributes(said)].concat();
    let mut attributes =
        vec![Attr::Origin(OriginAttribute { origin: ORIGIN_IGP }), next_hop(what.prefix, what.next_hop.address())];
    attributes.extend(said.med.map(|med| Attr::MultiExitDisc(MultiExitDiscAttribute { med })));
    attributes.extend(said.local_pref.map(|local_pref| Attr::LocalPref(LocalPrefAttribute { local_pref })));
    if !communities.is_empty() {
        attributes.push(Attr::Communities(CommunitiesAttribute { communities }));
    }
    if !marks.is_empty() {
        attributes.push(Attr::LargeCommunities(LargeCommunitiesAttribute { communities: marks }));
    }
    path(what.prefix, attributes, false)
}

/// gobgpd wants some next hop even here; it is not looked at.
pub(crate) fn withdraw(prefix: Prefix) -> v4::Path {
    let origin = Attr::Origin(OriginAttribute { origin: ORIGIN_IGP });
    path(prefix, vec![origin, next_hop(prefix, prefix.address())], true)
}

fn path(prefix: Prefix, attributes: Vec<Attr>, is_withdraw: bool) -> v4::Path {
    v4::Path {
        nlri: Some(nlri(prefix)),
        pattrs: attributes.into_iter().map(|attr| Attribute { attr: Some(attr) }).collect(),
        is_withdraw,
        family: Some(family(Family::of(prefix.address()))),
    }
}

/// What is common to every path, ours or not.
#[derive(Default)]
struct Parts {
    origin: Option<u32>,
    next_hop: Option<NextHop>,
    /// With `prepend` still 0: [`Parts::as_path`] or the marks have it.
    attributes: Attributes,
    /// The ASes of `AS_PATH`, if there is one.
    as_path: Option<usize>,
    marks: Vec<v4::LargeCommunity>,
    unknown: bool,
}

fn parts(path: &v4::Path) -> Parts {
    let mut parts = Parts::default();
    let host = |text: &str| text.parse::<IpAddr>().ok().and_then(|ip| NextHop::try_from(ip).ok());
    for attribute in &path.pattrs {
        match &attribute.attr {
            Some(Attr::Origin(a)) => parts.origin = Some(a.origin),
            Some(Attr::NextHop(a)) => parts.next_hop = host(&a.next_hop),
            Some(Attr::MpReach(a)) => parts.next_hop = a.next_hops.first().and_then(|text| host(text)),
            Some(Attr::AsPath(a)) => parts.as_path = Some(a.segments.iter().map(|s| s.numbers.len()).sum()),
            Some(Attr::MultiExitDisc(a)) => parts.attributes.med = Some(a.med),
            Some(Attr::LocalPref(a)) => parts.attributes.local_pref = Some(a.local_pref),
            Some(Attr::Communities(a)) => {
                parts.attributes.communities = a.communities.iter().copied().map(Community).collect();
            }
            Some(Attr::LargeCommunities(a)) => parts.marks.clone_from(&a.communities),
            None => parts.unknown = true,
        }
    }
    parts
}

/// The prefix of a path, if it is one we could have announced.
pub(crate) fn prefix(path: &v4::Path) -> Option<Prefix> {
    parse_nlri(path.nlri.as_ref())
}

/// Whether it takes the peers' names to read this path.
pub(crate) fn names_peers(path: &v4::Path) -> bool {
    tag::read(&tag::split(&parts(path).marks).0, &BTreeMap::new()).is_err()
}

/// A path of the speaker's own table, or why it is not one of ours.
pub(crate) fn read(path: &v4::Path, names: &BTreeMap<u32, PeerId>) -> Result<Announcement, String> {
    let parts = parts(path);
    let prefix = prefix(path).ok_or("not a host route")?;
    if parts.unknown || parts.origin != Some(ORIGIN_IGP) || parts.as_path.is_some() {
        return Err("has attributes we never set".to_owned());
    }
    let (audience, of_attributes) = tag::split(&parts.marks);
    let attributes = Attributes { prepend: tag::read_prepend(&of_attributes), ..parts.attributes };
    if tag::write_attributes(&attributes) != of_attributes {
        return Err("has marks that contradict its attributes".to_owned());
    }
    Ok(Announcement {
        prefix,
        next_hop: parts.next_hop.ok_or("has no next hop of its own")?,
        audience: tag::read(&audience, names)?,
        attributes,
    })
}

/// A path as a peer is sent it.
pub(crate) fn read_advertised(path: &v4::Path) -> Option<Advertised> {
    let parts = parts(path);
    // Our AS is there once for every external peer, and not at all for an internal one.
    let prepend = u8::try_from(parts.as_path.unwrap_or_default().saturating_sub(1)).unwrap_or(u8::MAX);
    let attributes = Attributes { prepend, ..parts.attributes };
    Some(Advertised { prefix: prefix(path)?, next_hop: parts.next_hop?, attributes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Audience;

    fn announcement(prefix: &str, next_hop: &str) -> Announcement {
        Announcement {
            prefix: Prefix::try_from(prefix.parse::<IpAddr>().unwrap()).unwrap(),
            next_hop: NextHop::try_from(next_hop.parse::<IpAddr>().unwrap()).unwrap(),
            audience: Audience::All,
            attributes: Attributes {
                communities: ["64512:1", "65535:0"].map(|c| c.parse().unwrap()).into(),
                med: Some(0),
                local_pref: Some(0),
                prepend: 11,
            },
        }
    }

    #[test]
    fn an_announcement_reads_back_as_written_through_either_api() {
        for (prefix, next_hop) in
            [("203.0.113.7", "192.0.2.9"), ("2001:db8::7", "2001:db8:1::9"), ("203.0.113.7", "2001:db8:1::9")]
        {
            let said = announcement(prefix, next_hop);
            let plain = Announcement { attributes: Attributes::default(), ..said.clone() };
            assert_eq!(read(&announce(&plain), &BTreeMap::new()), Ok(plain));
            let path = announce(&said);
            assert_eq!(read(&path, &BTreeMap::new()).as_ref(), Ok(&said));
            let v3 = gobgp_proto::v3::Destination { prefix: String::new(), paths: vec![crate::v3::path_to_v3(&path)] };
            assert_eq!(crate::v3::destination_from_v3(v3).paths, [path]);
        }
    }

    #[test]
    fn a_path_that_is_not_ours_is_told_apart() {
        let ours = announce(&announcement("203.0.113.7", "192.0.2.9"));
        let names = BTreeMap::new();
        let wider = v4::Nlri {
            nlri: Some(v4::nlri::Nlri::Prefix(IpAddressPrefix { prefix_len: 24, prefix: "203.0.113.0".into() })),
        };
        assert!(read(&v4::Path { nlri: Some(wider), ..ours.clone() }, &names).is_err());
        let mut attributes = ours.pattrs.clone();
        attributes.push(Attribute { attr: None });
        assert!(read(&v4::Path { pattrs: attributes, ..ours.clone() }, &names).is_err());
        let mut incomplete = ours.clone();
        incomplete.pattrs[0] = Attribute { attr: Some(Attr::Origin(OriginAttribute { origin: 2 })) };
        assert!(read(&incomplete, &names).is_err());
        let mut without_med = ours.clone();
        without_med.pattrs.retain(|a| !matches!(a.attr, Some(Attr::MultiExitDisc(_))));
        assert!(read(&without_med, &names).is_err(), "the marks say it has one");
    }
}
