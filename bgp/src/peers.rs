//! Neighbors: what gobgpd is asked to hold, and what differs from what it holds.

use std::{collections::BTreeMap, net::IpAddr};

use gobgp_proto::v4::{
    self, AfiSafi, AfiSafiConfig, BfdPeerConfig, EbgpMultihop, GracefulRestart, MpGracefulRestart,
    MpGracefulRestartConfig, PeerConf, Timers, TimersConfig, Transport, TtlSecurity,
};

use crate::{Distance, Error, Peer, PeerId, RestartTime, client::Client, path, tag};

/// How long a restarted speaker waits for a peer's End-of-RIB before it announces (RFC 4724 section
/// 4.1), in seconds. It waits for all peers, one that is down too; gobgp's own 360 s would then
/// outlast every restart time. We import nothing, so there is nothing to wait for.
const DEFERRAL_TIME: u32 = 1;

/// How long gobgpd stays away from a peer whose session it has reset, in seconds. When BFD is down is the only time it does so
/// by itself, and its own 30 s would make a few lost packets an outage of half a minute.
const IDLE_AFTER_BFD: u64 = 1;

/// What [`crate::Speaker::set_peers`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerDiff {
    /// New sessions.
    pub added: Vec<PeerId>,
    /// Sessions taken down and set up anew, for their settings changed.
    pub changed: Vec<PeerId>,
    /// Addresses of neighbors that are no more.
    pub removed: Vec<IpAddr>,
    /// Sessions nothing was sent about.
    pub kept: Vec<PeerId>,
    /// Of all there are now, those that shall have BFD and have none: gobgpd is older than 4.6.
    pub without_bfd: Vec<PeerId>,
}

/// The name and the local address stand in the description: gobgp has no field for the one, and
/// gives back the session's own address in place of the other.
fn description(peer: &Peer) -> String {
    match peer.local_address {
        Some(address) => format!("{} from {address}", peer.id),
        None => peer.id.to_string(),
    }
}

/// The name in a description.
pub(crate) fn name(description: &str) -> Option<PeerId> {
    description.split(' ').next()?.parse().ok()
}

fn want(peer: &Peer, graceful_restart: Option<RestartTime>) -> v4::Peer {
    let hold_time = u64::from(peer.hold_time.seconds());
    let (ttl_security, ebgp_multihop) = match peer.distance {
        Distance::Default => (TtlSecurity::default(), EbgpMultihop::default()),
        // RFC 5082: a packet that left with 255 arrives with 255 after no router, 254 after one
        Distance::TtlSecurity(hops) => {
            let ttl_min = 256 - u32::from(hops.get());
            (TtlSecurity { enabled: true, ttl_min }, EbgpMultihop::default())
        }
        Distance::Multihop(ttl) => {
            let multihop_ttl = u32::from(ttl.get());
            (TtlSecurity::default(), EbgpMultihop { enabled: true, multihop_ttl })
        }
    };
    let afi_safi = |family: &crate::Family| AfiSafi {
        config: Some(AfiSafiConfig { family: Some(path::family(*family)), enabled: true }),
        mp_graceful_restart: Some(MpGracefulRestart {
            config: Some(MpGracefulRestartConfig { enabled: graceful_restart.is_some() }),
        }),
        state: None,
    };
    let mut families = peer.families.clone();
    families.sort_unstable();
    families.dedup();
    v4::Peer {
        conf: Some(PeerConf {
            auth_password: peer.password.as_ref().map_or_else(String::new, |p| p.reveal().to_owned()),
            description: description(peer),
            neighbor_address: peer.address.to_string(),
            peer_asn: peer.remote_as.get(),
        }),
        ebgp_multihop: Some(ebgp_multihop),
        ttl_security: Some(ttl_security),
        timers: Some(Timers {
            config: Some(TimersConfig {
                connect_retry: peer.connect_retry.as_secs().max(1), // 0 would be gobgp's 120
                hold_time,
                keepalive_interval: if peer.keepalive == 0 { hold_time / 3 } else { peer.keepalive.into() },
                // 0 is gobgp's 30
                idle_hold_time_after_reset: if peer.bfd.is_some() { IDLE_AFTER_BFD } else { 0 },
            }),
            state: None,
        }),
        transport: Some(Transport {
            local_address: peer.local_address.map_or_else(String::new, |ip| ip.to_string()),
            passive_mode: peer.passive,
        }),
        graceful_restart: graceful_restart.map(|time| GracefulRestart {
            enabled: true,
            restart_time: time.seconds().into(),
            deferral_time: DEFERRAL_TIME,
            local_restarting: false,
        }),
        afi_safis: families.iter().map(afi_safi).collect(),
        state: None,
        bfd: peer.bfd.map(bfd),
    }
}

fn bfd(bfd: crate::Bfd) -> BfdPeerConfig {
    let interval = u32::try_from(bfd.interval.as_micros()).unwrap_or(u32::MAX);
    BfdPeerConfig {
        enabled: true,
        desired_minimum_tx_interval: interval,
        required_minimum_receive: interval,
        detection_multiplier: bfd.multiplier.get().into(),
    }
}

/// Whether a neighbor is as it shall be. BFD does not count where gobgpd has none, and says so by leaving it out.
fn is_as_wanted(held: &v4::Peer, wanted: &v4::Peer) -> bool {
    let bfd = wanted.bfd.filter(|_| held.bfd.is_some());
    settings(held) == settings(&v4::Peer { bfd, ..wanted.clone() })
}

/// The settings alone, with what the daemon adds or changes by itself taken out.
fn settings(peer: &v4::Peer) -> v4::Peer {
    let mut afi_safis: Vec<AfiSafi> = peer.afi_safis.iter().map(|a| AfiSafi { state: None, ..*a }).collect();
    afi_safis.sort_by_key(|a| a.config.and_then(|c| c.family).map(|f| (f.afi, f.safi)));
    let bfd = peer.bfd.filter(|bfd| bfd.enabled);
    // Without BFD nobody has set it, and gobgpd says what it takes for that.
    let timers = |config: TimersConfig| {
        let idle_hold_time_after_reset = bfd.map_or(0, |_| config.idle_hold_time_after_reset);
        TimersConfig { idle_hold_time_after_reset, ..config }
    };
    v4::Peer {
        conf: peer.conf.clone(),
        ebgp_multihop: Some(peer.ebgp_multihop.unwrap_or_default()),
        ttl_security: Some(peer.ttl_security.unwrap_or_default()),
        timers: peer.timers.map(|t| Timers { config: t.config.map(timers), state: None }),
        transport: peer
            .transport
            .as_ref()
            .map(|t| Transport { local_address: String::new(), passive_mode: t.passive_mode }),
        graceful_restart: peer
            .graceful_restart
            .filter(|g| g.enabled)
            .map(|g| GracefulRestart { local_restarting: false, ..g }),
        afi_safis,
        state: None,
        bfd,
    }
}

/// Makes gobgpd's neighbors these, touching those alone that differ.
pub(crate) async fn set(
    client: &Client,
    peers: &[Peer],
    graceful_restart: Option<RestartTime>,
    restarting: bool,
) -> Result<PeerDiff, Error> {
    tag::check_peers(peers)?;
    let mut have = BTreeMap::new();
    for peer in client.list_peers(false).await? {
        let said = peer.conf.as_ref().map_or("", |c| &c.neighbor_address);
        if let Ok(address) = said.parse::<IpAddr>() {
            have.insert(address, peer);
        } else {
            tracing::warn!(neighbor = said, "the speaker has a neighbor without an address");
        }
    }
    // The restart bits (RFC 4724's R and F) ask peers to keep what they still hold of us. True of a
    // daemon that has no neighbor yet, or had only some of them set up when the agent was killed; of
    // any other they would make it send all others again.
    let restarting = restarting || have.is_empty();
    let mut diff = PeerDiff::default();

    let gone: Vec<IpAddr> = have.keys().filter(|ip| peers.iter().all(|p| p.address != **ip)).copied().collect();
    for address in gone {
        client.delete_peer(address.to_string()).await.map_err(|e| naming(e, &address))?;
        diff.removed.push(address);
    }
    for peer in peers {
        let mut wanted = want(peer, graceful_restart);
        let held = have.get(&peer.address);
        if held.is_some_and(|held| is_as_wanted(held, &wanted)) {
            diff.kept.push(peer.id.clone());
            continue;
        }
        if let Some(gr) = wanted.graceful_restart.as_mut() {
            gr.local_restarting = restarting && held.is_none();
        }
        let named = |e| naming(e, &peer.id);
        if held.is_some() {
            // UpdatePeer would do the same (delete, add) for most settings and ignore the rest
            client.delete_peer(peer.address.to_string()).await.map_err(named)?;
            diff.changed.push(peer.id.clone());
        } else {
            diff.added.push(peer.id.clone());
        }
        client.add_peer(wanted).await.map_err(named)?;
    }
    if peers.iter().any(|peer| peer.bfd.is_some()) {
        let without = client.list_peers(false).await?.into_iter().filter(|peer| peer.bfd.is_none());
        let without: Vec<_> = without.filter_map(|peer| peer.conf?.neighbor_address.parse::<IpAddr>().ok()).collect();
        let lacks = |peer: &&Peer| peer.bfd.is_some() && without.contains(&peer.address);
        diff.without_bfd = peers.iter().filter(lacks).map(|peer| peer.id.clone()).collect();
    }
    Ok(diff)
}

fn naming(error: Error, peer: &impl std::fmt::Display) -> Error {
    match error {
        Error::Refused { what, why } => Error::Refused { what: format!("{what} ({peer})"), why },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU8, time::Duration};

    use super::*;
    use crate::{Attributes, Bfd, Family};

    fn peer(bfd: bool) -> Peer {
        let multiplier = NonZeroU8::new(3).unwrap();
        Peer {
            id: "a".parse().unwrap(),
            address: "192.0.2.1".parse().unwrap(),
            remote_as: 64500.try_into().unwrap(),
            password: None,
            distance: Distance::Default,
            hold_time: 9.try_into().unwrap(),
            keepalive: 3,
            passive: false,
            local_address: None,
            families: vec![Family::Ipv4],
            connect_retry: Duration::from_secs(5),
            bfd: bfd.then_some(Bfd { interval: Duration::from_millis(300), multiplier }),
            attributes: Attributes::default(),
        }
    }

    /// What gobgpd says of the neighbor that was asked for, with that long away from a peer it has reset.
    fn held(wanted: &v4::Peer, idle: u64, has_bfd: bool) -> v4::Peer {
        let mut held = wanted.clone();
        held.timers.as_mut().unwrap().config.as_mut().unwrap().idle_hold_time_after_reset = idle;
        held.bfd = has_bfd.then(|| wanted.bfd.unwrap_or_default());
        held
    }

    #[test]
    fn a_peer_without_bfd_keeps_its_session_whatever_gobgpd_says_of_a_time_nobody_set() {
        let (without, with) = (want(&peer(false), None), want(&peer(true), None));
        for has_bfd in [false, true] {
            assert!(is_as_wanted(&held(&without, 30, has_bfd), &without));
        }
        assert!(is_as_wanted(&held(&with, 1, true), &with));
        assert!(!is_as_wanted(&held(&with, 30, true), &with), "set up by a release that left it at 30 s");
        assert!(is_as_wanted(&held(&with, 30, false), &with), "a gobgpd without BFD");
    }
}
