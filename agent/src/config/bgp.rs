//! `[bgp]` and `[bgp_peer:NAME]`, as the speaker's own types.

use std::{
    net::{IpAddr, Ipv4Addr},
    num::NonZeroU8,
    path::PathBuf,
    time::Duration,
};

use ::bgp::{Asn, Bfd, Distance, Family, HoldTime, Peer, PeerId};

use super::{Bgp, PeerConfig, VipConfig, attributes::attributes, password::password, reader::Reader};

const SECTION: &str = "bgp";

/// Every `[bgp_peer:NAME]`; `None` for one with a problem, now noted.
pub(super) fn peers(reader: &mut Reader<'_>) -> Vec<Option<PeerConfig>> {
    let document = reader.document;
    let sections: Vec<_> = document.sections.keys().filter(|name| name.starts_with("bgp_peer:")).collect();
    let peers: Vec<_> = sections.iter().map(|section| peer(reader, section)).collect();
    distinct(reader, &sections, &peers);
    match sections.first() {
        Some(first) if !document.sections.contains_key(SECTION) => {
            reader.section_problem(first, "a peer needs a [bgp] section with local_as; add one".to_owned());
        }
        None if document.sections.contains_key(SECTION) => {
            let text = "no [bgp_peer:NAME]: nothing is announced to anybody".to_owned();
            let warning = reader.at_section(SECTION, text);
            reader.warnings.push(warning);
        }
        _ => {}
    }
    peers
}

/// `[bgp]`, which exists.
pub(super) fn bgp(
    reader: &mut Reader<'_>,
    peers: Vec<Option<PeerConfig>>,
    vips: Vec<Option<VipConfig>>,
) -> Option<Bgp> {
    reader.require(SECTION, "local_as", "; write this amphora's AS number");
    let local_as = reader.read(SECTION, "local_as", str::parse::<Asn>);
    let router_id = reader.read(SECTION, "router_id", router_id);
    let speaker = reader.read(SECTION, "speaker", socket);
    let restart = reader.number(SECTION, "graceful_restart_time", 0, 4095_u16); // 12 bits, RFC 4724 section 3
    if let Some(local_as) = local_as {
        peers.iter().flatten().for_each(|peer| vain(reader, local_as, &peer.peer));
    }
    if restart.is_some_and(|time| time > 0) {
        for peer in peers.iter().flatten().map(|peer| &peer.peer).filter(|peer| peer.bfd.is_some()) {
            let text = "may outweigh graceful restart: gobgpd speaks BFD itself, so the peer may drop the routes when \
                gobgpd is restarted; leave bfd out where they are to stay, or set [bgp] graceful_restart_time = 0";
            reader.warn(&format!("bgp_peer:{}", peer.id), "bfd", text.to_owned());
        }
    }
    Some(Bgp {
        local_as: local_as?,
        router_id,
        speaker: speaker?,
        graceful_restart: Duration::from_secs(restart?.into()),
        peers: peers.into_iter().collect::<Option<_>>()?,
        vips: vips.into_iter().collect::<Option<_>>()?,
    })
}

/// What is said of this peer and has no effect there.
fn vain(reader: &mut Reader<'_>, local_as: Asn, peer: &Peer) {
    let section = format!("bgp_peer:{}", peer.id);
    let said = &peer.attributes;
    if said.local_pref.is_some() && peer.remote_as != local_as {
        let text = "has no effect: it is sent inside one AS only, and remote_as is not local_as";
        reader.warn(&section, "local_pref", text.to_owned());
    }
    if said.prepend > 0 && peer.remote_as == local_as {
        let text =
            "has no effect: an internal peer takes its own AS for a loop (remote_as is local_as); use local_pref";
        reader.warn(&section, "prepend", text.to_owned());
    }
}

fn peer(reader: &mut Reader<'_>, section: &str) -> Option<PeerConfig> {
    let id = section["bgp_peer:".len()..].parse::<PeerId>();
    if let Err(error) = &id {
        reader.section_problem(section, error.to_string());
    }
    reader.require(section, "peer_ip", "; write the neighbor's address");
    reader.require(section, "remote_as", "; write the neighbor's AS number");
    let address = reader.read(section, "peer_ip", neighbor);
    let remote_as = reader.read(section, "remote_as", str::parse::<Asn>);
    let password = password(reader, section);
    let distance = distance(reader, section);
    let timers = timers(reader, section);
    let passive = reader.boolean(section, "passive");
    let local_address = reader.read(section, "local_ip", neighbor);
    if let (Some(peer), Some(local)) = (address, local_address)
        && peer.is_ipv4() != local.is_ipv4()
    {
        reader.problem(
            section,
            "local_ip",
            format!("{local} is not of the family of peer_ip {peer}; write one that is"),
        );
    }
    let families = families(reader, section);
    let retry = reader.number(section, "connect_retry", 1_u16, u16::MAX);
    let bfd = bfd(reader, section, distance);
    let attributes = attributes(reader, section);
    let (password, password_file) = password?;
    let (hold_time, keepalive) = timers?;
    let peer = Peer {
        id: id.ok()?,
        address: address?,
        remote_as: remote_as?,
        password,
        distance: distance?,
        hold_time,
        keepalive,
        passive: passive?,
        local_address,
        families: families?,
        connect_retry: Duration::from_secs(retry?.into()),
        bfd: bfd?,
        attributes: attributes?,
    };
    Some(PeerConfig { peer, password_file })
}

fn neighbor(text: &str) -> Result<IpAddr, String> {
    let ip: IpAddr = text.parse().map_err(|_| format!("`{text}` is not an IP address"))?;
    let usable = match ip {
        IpAddr::V4(v4) => !v4.is_broadcast(),
        // A link-local neighbor needs an interface to be found by, which no key here can name.
        IpAddr::V6(v6) => v6.to_ipv4_mapped().is_none() && !v6.is_unicast_link_local(),
    };
    if ip.is_unspecified() || ip.is_multicast() || !usable {
        return Err(format!("{ip} is not the address of one host that can be reached by route"));
    }
    Ok(ip)
}

fn router_id(text: &str) -> Result<Ipv4Addr, String> {
    let id: Option<Ipv4Addr> = text.parse().ok();
    id.filter(|id| !id.is_unspecified()).ok_or_else(|| format!("`{text}` is not an IPv4 address other than 0.0.0.0"))
}

/// A UNIX socket's path has at most 107 bytes (`sun_path` in linux/un.h).
fn socket(text: &str) -> Result<PathBuf, String> {
    match text.strip_prefix("unix://") {
        Some(path) if path.starts_with('/') && path.len() <= 107 => Ok(PathBuf::from(path)),
        _ => Err(format!("`{text}` is not unix:///ABSOLUTE/PATH of at most 107 bytes")),
    }
}

fn distance(reader: &mut Reader<'_>, section: &str) -> Option<Distance> {
    let before = reader.problems.len();
    let hops = |n| NonZeroU8::new(n).expect("read as at least 1");
    let security = reader.number(section, "ttl_hops", 1_u8, 254).map(hops);
    let multihop = reader.number(section, "ebgp_multihop", 1_u8, 254).map(hops);
    if security.is_some() && multihop.is_some() {
        let text = "excludes ttl_hops (GTSM counts the hops itself); remove one of the two".to_owned();
        reader.problem(section, "ebgp_multihop", text);
    }
    let distance = match (security, multihop) {
        (Some(hops), _) => Distance::TtlSecurity(hops),
        (None, Some(hops)) => Distance::Multihop(hops),
        (None, None) => Distance::Default,
    };
    (reader.problems.len() == before).then_some(distance)
}

/// The outer `None` is a problem, now noted; the inner one is no BFD.
#[expect(clippy::option_option, reason = "every reader's `None` is a problem")]
fn bfd(reader: &mut Reader<'_>, section: &str, distance: Option<Distance>) -> Option<Option<Bfd>> {
    let on = reader.boolean(section, "bfd");
    let interval = reader.number(section, "bfd_interval", 50_u64, 60_000);
    let multiplier = reader.number(section, "bfd_multiplier", 1_u8, u8::MAX);
    if on == Some(false) {
        for key in ["bfd_interval", "bfd_multiplier"] {
            if reader.written(section, key) {
                reader.problem(section, key, "does nothing without bfd; set bfd = true, or remove it".to_owned());
            }
        }
    }
    let far = match distance {
        Some(Distance::Multihop(_)) => Some("ebgp_multihop"),
        Some(Distance::TtlSecurity(hops)) if hops.get() > 1 => Some("ttl_hops above 1"),
        _ => None,
    };
    if let (Some(true), Some(far)) = (on, far) {
        let text = format!("excludes {far}: gobgpd speaks BFD over one hop only (RFC 5881); remove one of the two");
        reader.problem(section, "bfd", text);
        return None;
    }
    let multiplier = NonZeroU8::new(multiplier?).expect("read as at least 1");
    Some(on?.then_some(Bfd { interval: Duration::from_millis(interval?), multiplier }))
}

/// Hold time and keepalive interval. RFC 4271 section 10 suggests a third, which is the default here.
fn timers(reader: &mut Reader<'_>, section: &str) -> Option<(HoldTime, u16)> {
    // Of the numbers below 3 something else is to be said.
    let hold = reader.number_or(section, "hold_time", (0, i64::from(u16::MAX)), "not a whole number from 3 to 65535");
    let hold = hold.and_then(|seconds| {
        let hold = HoldTime::try_from(seconds.unsigned_abs());
        hold.map_err(|error| reader.problem(section, "hold_time", error.to_string())).ok()
    });
    let written = reader.written(section, "keepalive_interval");
    let keepalive = reader.number(section, "keepalive_interval", 0, u16::MAX);
    let hold = hold?;
    let keepalive = if written { keepalive? } else { hold.seconds() / 3 };
    let wrong = match hold.seconds() {
        seconds if keepalive == 0 => Some(format!("0 never keeps the session up; set {}", seconds / 3)),
        seconds if keepalive >= seconds => {
            Some(format!("{keepalive} is not below hold_time {seconds}; set {}", seconds / 3))
        }
        seconds => {
            if keepalive > seconds / 3 {
                let text = format!(
                    "{keepalive} is more than a third of hold_time {seconds}: few lost packets end the session"
                );
                reader.warn(section, "keepalive_interval", text);
            }
            None
        }
    };
    match wrong {
        Some(text) => {
            reader.problem(section, "keepalive_interval", text);
            None
        }
        None => Some((hold, keepalive)),
    }
}

fn families(reader: &mut Reader<'_>, section: &str) -> Option<Vec<Family>> {
    let mut families = reader.list(section, "families", |text| match text {
        "ipv4" => Ok(Family::Ipv4),
        "ipv6" => Ok(Family::Ipv6),
        _ => Err(format!("`{text}` is neither ipv4 nor ipv6")),
    })?;
    if families.is_empty() {
        reader.problem(section, "families", "is empty; write ipv4, ipv6 or both".to_owned());
    }
    families.sort();
    families.dedup();
    Some(families)
}

fn distinct(reader: &mut Reader<'_>, sections: &[&String], peers: &[Option<PeerConfig>]) {
    for (index, peer) in peers.iter().enumerate() {
        let Some(peer) = peer else { continue };
        let same = |other: &&Option<PeerConfig>| other.as_ref().is_some_and(|o| o.peer.address == peer.peer.address);
        if let Some(Some(first)) = peers[..index].iter().find(same) {
            let text =
                format!("{} is the address of peer {} too; one session per neighbor", peer.peer.address, first.peer.id);
            reader.problem(sections[index], "peer_ip", text);
        }
    }
}
