//! How a path says who may hear of it: large communities (RFC 8092) that never reach the wire.
//!
//! gobgp has no policy per neighbor, so each path carries marks and the export policy of
//! [`crate::policy`] lets a peer have those paths alone that carry its mark, and takes the marks
//! off. The global administrator is 0, which RFC 7607 reserves: no operator's own community can be
//! taken for a mark, and a mark that ever leaked would be nobody's.
//!
//! What a path cannot say itself is said by marks as well: its prepends, which are for external
//! peers alone, and that it has a MED or `LOCAL_PREF` of its own, which policies cannot see.

use std::collections::{BTreeMap, BTreeSet};

use gobgp_proto::v4::LargeCommunity;

use crate::{Attributes, Audience, Distance, Invalid, Peer, PeerId};

const ADMINISTRATOR: u32 = 0;
/// Marks of an audience.
const FUNCTION: u32 = 179;
/// Marks of attributes: each is one bit of a number.
const ATTRIBUTES: u32 = 180;
/// The prepends a mark stands for; they add up.
pub(crate) const PREPENDS: [u8; 4] = [1, 2, 4, 8];
const OWN_MED: u8 = 16;
const OWN_LOCAL_PREF: u8 = 32;
/// The mark every peer listens to.
const ALL: u32 = 0;

/// A peer's own mark: FNV-1a of its name, so that it outlives reordering and restarts.
fn mark(peer: &PeerId) -> u32 {
    let hash =
        peer.as_str().bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    if hash == ALL { 1 } else { hash }
}

fn of_attributes(bit: u8) -> LargeCommunity {
    LargeCommunity { global_admin: ADMINISTRATOR, local_data1: ATTRIBUTES, local_data2: bit.into() }
}

/// The marks that stand beside a path's attributes.
pub(crate) fn write_attributes(attributes: &Attributes) -> Vec<LargeCommunity> {
    let own = |has: bool, bit| has.then_some(bit);
    let own = [own(attributes.med.is_some(), OWN_MED), own(attributes.local_pref.is_some(), OWN_LOCAL_PREF)];
    let prepends = PREPENDS.into_iter().filter(|bit| attributes.prepend & bit != 0);
    prepends.chain(own.into_iter().flatten()).map(of_attributes).collect()
}

/// A path's marks: those of its audience, or nobody's, and those of its attributes.
pub(crate) fn split(marks: &[LargeCommunity]) -> (Vec<LargeCommunity>, Vec<LargeCommunity>) {
    marks.iter().partition(|c| c.global_admin != ADMINISTRATOR || c.local_data1 != ATTRIBUTES)
}

/// The prepends that marks of attributes stand for.
pub(crate) fn read_prepend(marks: &[LargeCommunity]) -> u8 {
    PREPENDS.into_iter().filter(|bit| marks.contains(&of_attributes(*bit))).sum()
}

fn community(mark: u32) -> LargeCommunity {
    LargeCommunity { global_admin: ADMINISTRATOR, local_data1: FUNCTION, local_data2: mark }
}

/// The marks of an audience. Nobody's is none: a path without marks goes nowhere.
pub(crate) fn write(audience: &Audience) -> Vec<LargeCommunity> {
    match audience {
        Audience::All => vec![community(ALL)],
        Audience::Peers(peers) => peers.iter().map(mark).collect::<BTreeSet<_>>().into_iter().map(community).collect(),
    }
}

/// The audience marks stand for, or why they stand for none.
pub(crate) fn read(marks: &[LargeCommunity], names: &BTreeMap<u32, PeerId>) -> Result<Audience, String> {
    if marks == [community(ALL)] {
        return Ok(Audience::All);
    }
    let name = |c: &LargeCommunity| {
        if *c != community(c.local_data2) {
            return Err(format!("large community {}:{}:{} is not ours", c.global_admin, c.local_data1, c.local_data2));
        }
        names.get(&c.local_data2).cloned().ok_or(format!("marked for a peer unknown to the policy ({})", c.local_data2))
    };
    marks.iter().map(name).collect::<Result<_, _>>().map(Audience::Peers)
}

/// The expression that matches a peer's own mark, as gobgpd's policies write large communities.
pub(crate) fn pattern(peer: &PeerId) -> String {
    format!("^{ADMINISTRATOR}:{FUNCTION}:{}$", mark(peer))
}

/// The expression that matches the mark for all.
pub(crate) fn pattern_all() -> String {
    format!("^{ADMINISTRATOR}:{FUNCTION}:{ALL}$")
}

/// The expressions that match every mark.
pub(crate) fn patterns_any() -> Vec<String> {
    [FUNCTION, ATTRIBUTES].map(|function| format!("^{ADMINISTRATOR}:{function}:.*$")).into()
}

/// The expression that matches the mark for this many prepends, one of [`PREPENDS`].
pub(crate) fn pattern_prepend(times: u8) -> String {
    format!("^{ADMINISTRATOR}:{ATTRIBUTES}:{times}$")
}

/// The expression that matches a path with a MED of its own.
pub(crate) fn pattern_own_med() -> String {
    format!("^{ADMINISTRATOR}:{ATTRIBUTES}:{OWN_MED}$")
}

/// The expression that matches a path with a `LOCAL_PREF` of its own.
pub(crate) fn pattern_own_local_pref() -> String {
    format!("^{ADMINISTRATOR}:{ATTRIBUTES}:{OWN_LOCAL_PREF}$")
}

/// An expression as we write it: 3.x gives back one more anchor at either end.
pub(crate) fn anchored(pattern: &str) -> String {
    format!("^{}$", pattern.trim_start_matches('^').trim_end_matches('$'))
}

/// The mark in an expression [`pattern`] wrote.
pub(crate) fn parse_pattern(pattern: &str) -> Option<u32> {
    anchored(pattern).strip_prefix(&format!("^{ADMINISTRATOR}:{FUNCTION}:"))?.strip_suffix('$')?.parse().ok()
}

/// Checks what no peer's own types can say: that each can be told from the others by its mark and
/// its address, and that its parts fit together. Whatever takes peers checks this first.
pub fn check_peers(peers: &[Peer]) -> Result<(), Invalid> {
    let (mut marks, mut addresses) = (BTreeMap::new(), BTreeMap::new());
    for peer in peers {
        if peer.families.is_empty() {
            return Err(Invalid::NoFamily(peer.id.clone()));
        }
        if peer.attributes.prepend > Attributes::MAX_PREPEND {
            return Err(Invalid::Prepend(peer.attributes.prepend));
        }
        if peer.bfd.is_some() && matches!(peer.distance, Distance::Multihop(_)) {
            return Err(Invalid::BfdMultihop(peer.id.clone()));
        }
        if peer.attributes.local_pref == Some(0) {
            return Err(Invalid::LocalPref(peer.id.clone()));
        }
        if let Some(local) = peer.local_address.filter(|local| local.is_ipv4() != peer.address.is_ipv4()) {
            return Err(Invalid::LocalAddress(peer.id.clone(), local));
        }
        if let Some(other) = marks.insert(mark(&peer.id), &peer.id) {
            return Err(Invalid::PeerTag(other.clone(), peer.id.clone()));
        }
        if let Some(other) = addresses.insert(peer.address, &peer.id) {
            return Err(Invalid::PeerAddress(other.clone(), peer.id.clone()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(names: &[&str]) -> BTreeSet<PeerId> {
        names.iter().map(|n| n.parse().unwrap()).collect()
    }

    #[test]
    fn an_audience_reads_back_as_written() {
        let names: BTreeMap<u32, PeerId> =
            ids(&["tor-a", "tor-b", "tor-c"]).into_iter().map(|id| (mark(&id), id)).collect();
        for audience in [
            Audience::All,
            Audience::Peers(ids(&[])),
            Audience::Peers(ids(&["tor-b"])),
            Audience::Peers(ids(&["tor-a", "tor-c"])),
        ] {
            assert_eq!(read(&write(&audience), &names), Ok(audience));
        }
        assert!(read(&write(&Audience::Peers(ids(&["gone"]))), &names).is_err());
        assert!(read(&[LargeCommunity { global_admin: 64512, local_data1: 179, local_data2: 0 }], &names).is_err());
    }

    #[test]
    fn peers_that_contradict_each_other_are_refused() {
        let peer = |name: &str, address: &str| Peer {
            id: name.parse().unwrap(),
            address: address.parse().unwrap(),
            remote_as: 64_500.try_into().unwrap(),
            password: None,
            distance: crate::Distance::Default,
            hold_time: 9.try_into().unwrap(),
            keepalive: 3,
            passive: false,
            local_address: None,
            families: vec![crate::Family::Ipv4],
            connect_retry: std::time::Duration::from_secs(5),
            bfd: None,
            attributes: Attributes::default(),
        };
        let (a, b) = (peer("tor-a", "192.0.2.1"), peer("tor-b", "192.0.2.2"));
        assert_eq!(check_peers(&[a.clone(), b.clone()]), Ok(()));
        let twin = peer("tor-b", "192.0.2.1");
        assert_eq!(check_peers(&[a.clone(), twin]), Err(Invalid::PeerAddress(a.id.clone(), b.id.clone())));
        // two names with one FNV-1a hash
        let (c, d) = (peer("costarring", "192.0.2.3"), peer("liquid", "192.0.2.4"));
        assert_eq!(check_peers(&[c.clone(), d.clone()]), Err(Invalid::PeerTag(c.id, d.id)));
        let mute = Peer { families: vec![], ..a.clone() };
        assert_eq!(check_peers(&[mute]), Err(Invalid::NoFamily(a.id.clone())));
        let local = "2001:db8::1".parse().unwrap();
        let crossed = Peer { local_address: Some(local), ..a.clone() };
        assert_eq!(check_peers(&[crossed]), Err(Invalid::LocalAddress(a.id, local)));
    }

    #[test]
    fn a_mark_is_the_same_for_ever() {
        // the hash of a name is on paths that outlive this agent: FNV-1a's own test vector
        assert_eq!(mark(&"foobar".parse().unwrap()), 0xbf9c_f968);
        assert_eq!(parse_pattern(&pattern(&"foobar".parse().unwrap())), Some(0xbf9c_f968));
        assert_eq!(parse_pattern(&pattern_all()), Some(ALL));
        assert_eq!(anchored("^^0:179:7$$"), "^0:179:7$");
    }
}
