//! Sessions as gobgpd sees them.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, SystemTime},
};

use gobgp_proto::v4::{self, capability::Cap, peer_state, watch_event_response};
use serde::Serialize;

use crate::{ApiVersion, Family, PeerId, path, peers};

/// The state machine of RFC 4271 section 8.2.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum SessionState {
    /// Not trying, or just being made.
    Idle,
    /// Dialling.
    Connect,
    /// Listening, between two attempts.
    Active,
    /// Our OPEN is out.
    OpenSent,
    /// Theirs came; waiting for the first KEEPALIVE.
    OpenConfirm,
    /// Up.
    Established,
}

impl SessionState {
    fn parse(number: i32) -> Self {
        use peer_state::SessionState as Said;
        match Said::try_from(number).unwrap_or_default() {
            Said::Unspecified | Said::Idle => Self::Idle,
            Said::Connect => Self::Connect,
            Said::Active => Self::Active,
            Said::Opensent => Self::OpenSent,
            Said::Openconfirm => Self::OpenConfirm,
            Said::Established => Self::Established,
        }
    }
}

/// The state of a neighbor's BFD session (RFC 5880 section 6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BfdState {
    /// The speaker has no BFD: gobgpd before 4.6.
    Unsupported,
    /// Not asked for.
    Off,
    /// The peer holds it down on purpose.
    AdminDown,
    /// Nothing is heard of the peer.
    Down,
    /// The peer is heard and does not hear us yet.
    Init,
    /// Either hears the other.
    Up,
}

impl BfdState {
    fn parse(config: Option<v4::BfdPeerConfig>, state: Option<v4::BfdPeerState>) -> Self {
        use v4::BfdSessionState as Said;
        match config {
            None => return Self::Unsupported,
            Some(config) if !config.enabled => return Self::Off,
            Some(_) => {}
        }
        match Said::try_from(state.unwrap_or_default().session_state).unwrap_or_default() {
            Said::Unspecified | Said::Down => Self::Down,
            Said::AdminDown => Self::AdminDown,
            Said::Init => Self::Init,
            Said::Up => Self::Up,
        }
    }
}

/// One neighbor's session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Session {
    /// Our name for it; absent on a neighbor we did not make.
    pub peer: Option<PeerId>,
    /// The neighbor's address.
    pub address: IpAddr,
    /// Its AS.
    pub remote_as: u32,
    /// Where the state machine is.
    pub state: SessionState,
    /// When it came up, or when it last went down; absent if it never was up. Whole seconds.
    pub since: Option<SystemTime>,
    /// When it last went down, whether it is up again or not; absent if it never was up. Whole seconds.
    pub last_down: Option<SystemTime>,
    /// The smaller of both sides' hold times; only while up.
    pub hold_time: Option<Duration>,
    /// The interval that follows from it; only while up.
    pub keepalive: Option<Duration>,
    /// Address families both sides offered; empty unless up.
    pub families: Vec<Family>,
    /// Whether the peer offers to send several paths (ADD-PATH, RFC 7911): a route reflector that does
    /// not shows its clients one of our next hops only. That it takes several, as FRR always does, says
    /// nothing about that.
    pub add_path: bool,
    /// How long the peer said it restarts for (RFC 4724); absent if it does not do graceful restart.
    pub peer_restart_time: Option<Duration>,
    /// Routes the peer sent.
    pub received: u64,
    /// Of those, routes not refused on arrival (our import policy refuses them later: none is used).
    pub accepted: u64,
    /// Routes we send it.
    pub advertised: u64,
    /// The same by address family, of those both sides offered.
    pub advertised_by_family: BTreeMap<Family, u64>,
    /// UPDATE messages sent since the session's neighbor was made.
    pub updates_sent: u64,
    /// NOTIFICATION messages it sent us: each one ended a session.
    pub notifications_received: u64,
    /// NOTIFICATION messages we sent it.
    pub notifications_sent: u64,
    /// Its BFD session.
    pub bfd: BfdState,
}

/// `None` for a neighbor without an address, which this crate never makes.
pub(crate) fn read(peer: v4::Peer, api: ApiVersion) -> Option<Session> {
    let conf = peer.conf.unwrap_or_default();
    let state = peer.state.unwrap_or_default();
    let timers = peer.timers.and_then(|t| t.state).unwrap_or_default();
    let up = SessionState::parse(state.session_state) == SessionState::Established;
    let seconds = |s: u64| up.then_some(Duration::from_secs(s));
    let offered = |capabilities: &[v4::Capability]| -> Vec<Family> {
        let family = |c: &v4::Capability| match &c.cap {
            Some(Cap::MultiProtocol(m)) => path::parse_family(m.family?),
            _ => None,
        };
        capabilities.iter().filter_map(family).collect()
    };
    let theirs = offered(&state.remote_cap);
    let mut families = offered(&state.local_cap);
    families.retain(|f| up && theirs.contains(f));
    families.sort_unstable();
    families.dedup();
    let restart_time = state.remote_cap.iter().find_map(|c| match &c.cap {
        Some(Cap::GracefulRestart(g)) => Some(Duration::from_secs(g.time.into())),
        _ => None,
    });
    let count = |of: fn(&v4::AfiSafiState) -> u64| -> u64 {
        peer.afi_safis.iter().filter_map(|a| a.state.as_ref()).map(of).sum()
    };
    // All of 3.x counts the End-of-RIB marker of each family as a route, if there is one.
    let end_of_rib =
        api == ApiVersion::V3 && restart_time.is_some() && peer.graceful_restart.is_some_and(|g| g.enabled);
    let marker = u64::from(end_of_rib);
    let advertised = |family: Family| -> u64 {
        let of = |a: &&v4::AfiSafi| a.config.and_then(|c| path::parse_family(c.family?)) == Some(family);
        let said = peer.afi_safis.iter().find(of).and_then(|a| a.state.as_ref()).map_or(0, |s| s.advertised);
        said.saturating_sub(marker)
    };
    let advertised_by_family: BTreeMap<_, _> = families.iter().map(|family| (*family, advertised(*family))).collect();
    let messages = state.messages.unwrap_or_default();
    let (sent, received) = (messages.sent.unwrap_or_default(), messages.received.unwrap_or_default());
    Some(Session {
        peer: peers::name(&conf.description),
        address: conf.neighbor_address.parse().ok()?,
        remote_as: conf.peer_asn,
        state: SessionState::parse(state.session_state),
        since: if up { timers.uptime } else { timers.downtime }.and_then(|t| SystemTime::try_from(t).ok()),
        last_down: timers.downtime.and_then(|t| SystemTime::try_from(t).ok()),
        hold_time: seconds(timers.negotiated_hold_time),
        keepalive: seconds(timers.keepalive_interval),
        families,
        add_path: up && state.remote_cap.iter().any(|c| matches!(&c.cap, Some(Cap::AddPath(said)) if sends(said))),
        peer_restart_time: restart_time.filter(|_| up),
        received: count(|s| s.received),
        accepted: count(|s| s.accepted),
        advertised: advertised_by_family.values().sum(),
        advertised_by_family,
        updates_sent: sent.update,
        notifications_received: received.notification,
        notifications_sent: sent.notification,
        bfd: BfdState::parse(peer.bfd, state.bfd_state),
    })
}

/// Whether a peer says of any family that it sends several paths.
fn sends(said: &v4::AddPathCapability) -> bool {
    use v4::add_path_capability_tuple::Mode;
    said.tuples.iter().any(|tuple| matches!(tuple.mode(), Mode::Send | Mode::Both))
}

/// A session's state changed, or is told once when the watch begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The neighbor's address.
    pub address: IpAddr,
    /// Where the state machine is now.
    pub state: SessionState,
    /// Why it left the state before; only gobgp 4 says.
    pub reason: Option<String>,
}

pub(crate) fn event(said: v4::WatchEventResponse) -> Option<Event> {
    let watch_event_response::Event::Peer(event) = said.event?;
    let state = event.peer?.state?;
    Some(Event {
        address: state.neighbor_address.parse().ok()?,
        state: SessionState::parse(state.session_state),
        reason: Some(state.disconnect_message).filter(|text| !text.is_empty()),
    })
}
