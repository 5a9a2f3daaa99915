//! The speaker for readers: what it says right now, for the API.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bgp::{Attributes, BfdState, Error, Family, PeerId, Prefix, Session, SessionState};
use serde::Serialize;
use tokio::sync::watch;
use utoipa::ToSchema;

use super::{
    Live, Setup, State,
    record::{Record, Transitions},
};
use crate::{api::error::with_causes, config::Config};

/// Prefixes times peers that are counted as they are sent: gobgpd runs its policies over each of them for that, which takes
/// it 15 µs or so.
const COUNTED: usize = 20_000;

/// A view on the speaker.
#[derive(Clone, Debug)]
pub struct View {
    config: watch::Receiver<Arc<Config>>,
    state: watch::Receiver<State>,
    record: Record,
}

/// What the speaker is seen to do, for whoever reports it.
#[derive(Clone, Debug)]
pub struct Observed {
    /// It has answered.
    pub up: bool,
    /// Which gobgpd it is, major and minor version, as far as that is known.
    pub version: Option<(u32, u32)>,
    /// Each configured peer's address, its session as far as there is one, and how often that came up and went down. What
    /// is advertised is left out where it would take long to count.
    pub peers: Vec<(IpAddr, Option<Session>, Transitions)>,
}

/// One BGP session.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PeerView {
    /// The name in `[bgp_peer:NAME]`.
    #[schema(value_type = String)]
    peer_id: PeerId,
    #[schema(value_type = String)]
    peer_ip: IpAddr,
    #[schema(value_type = u64)]
    remote_as: u32,
    /// The state of RFC 4271: `Idle`, `Connect`, `Active`, `OpenSent`, `OpenConfirm` or `Established`.
    state: &'static str,
    /// When it came up or last went down, in seconds since 1970, as far as gobgpd says.
    since: Option<u64>,
    /// The negotiated hold time in seconds, while up.
    hold_time: Option<u64>,
    /// The negotiated keepalive interval in seconds, while up.
    keepalive_interval: Option<u64>,
    /// The address families both sides take, while up.
    #[schema(value_type = Vec<String>)]
    families: Vec<Family>,
    /// The peer offers to send several paths (ADD-PATH). A route reflector that does not passes on one of our next hops only.
    add_path: bool,
    /// TCP MD5 is in force.
    md5: bool,
    /// Only this many hops away is the peer listened to (GTSM).
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_hops: Option<u8>,
    /// Where `bfd = true`, the state of RFC 5880: `down`, `init`, `up` or `admin_down`; `unsupported` with a gobgpd older
    /// than 4.6, where the hold time alone counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    bfd: Option<BfdState>,
    /// We do not dial.
    passive: bool,
    /// Routes sent to it; null in the status where they would take long to count.
    advertised: Option<u64>,
    /// NOTIFICATION messages from it; each ended a session.
    notifications_received: u64,
    /// NOTIFICATION messages to it.
    notifications_sent: u64,
    /// Why it is not up, as far as this side can tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
}

/// What the speaker says of its sessions, or why it does not.
type Sessions = Result<Vec<Session>, String>;

impl PeerView {
    /// The name in `[bgp_peer:NAME]`.
    #[must_use]
    pub fn id(&self) -> &PeerId {
        &self.peer_id
    }

    /// The session is established.
    pub(crate) fn is_up(&self) -> bool {
        self.state == "Established"
    }

    /// What it is at, and why it is not up.
    pub(crate) fn why_down(&self) -> String {
        let why = self.last_error.as_deref().unwrap_or("it is being set up");
        format!("peer {} ({}) is {}: {why}", self.peer_id, self.peer_ip, self.state)
    }

    /// Its session is up without the BFD it shall have, and how that is.
    pub(crate) fn lacks_bfd(&self) -> Option<&'static str> {
        match self.bfd.filter(|_| self.is_up())? {
            BfdState::Down => Some("is down: nothing is heard"),
            BfdState::Init => Some("is not up: the peer does not hear this amphora"),
            BfdState::AdminDown => Some("is held down by the peer"),
            BfdState::Unsupported => Some("is not there: gobgpd is older than 4.6"),
            BfdState::Off | BfdState::Up => None,
        }
    }

    /// Whether the session is up and of our own AS, without ADD-PATH.
    #[must_use]
    pub fn keeps_paths_back(&self, local_as: u32) -> bool {
        self.is_up() && self.remote_as == local_as && !self.add_path
    }
}

impl View {
    pub(super) fn new(config: watch::Receiver<Arc<Config>>, state: watch::Receiver<State>, record: Record) -> Self {
        Self { config, state, record }
    }

    fn live(&self) -> Result<Arc<Live>, String> {
        match &*self.state.borrow() {
            State::Up(live) => Ok(live.clone()),
            State::Down(why) => Err(why.to_string()),
        }
    }

    /// What the speaker announces, and what each peer is sent: everything, or one prefix.
    pub async fn advertised(
        &self,
        only: Option<Prefix>,
    ) -> Result<(BTreeSet<Prefix>, BTreeMap<PeerId, BTreeSet<Prefix>>), String> {
        let live = self.live()?;
        let read = async {
            let table = match only {
                Some(prefix) => live.speaker.announcements_of(&[prefix]).await?,
                None => live.speaker.announcements().await?,
            };
            let mut sent = BTreeMap::new();
            for peer in &live.setup.peers {
                let routes = match live.speaker.advertised(peer.address, only).await {
                    Ok(routes) => routes,
                    Err(Error::Refused { .. }) => continue, // not set up yet
                    Err(error) => return Err(error),
                };
                sent.insert(peer.id.clone(), routes.into_iter().map(|r| r.prefix).collect());
            }
            Ok((table.announcements.into_iter().map(|a| a.prefix).collect(), sent))
        };
        read.await.map_err(|e: Error| with_causes(&e))
    }

    /// What it does while it announces `announced` prefixes, by one question that has its answer `within` that time, or has
    /// none.
    pub async fn observe(&self, announced: usize, within: Duration) -> Observed {
        self.observed(&self.sessions(announced, within).await)
    }

    /// The same, and the sessions as [`View::peers`] has them. What is advertised is left out where it would take long
    /// to count.
    pub async fn look(&self, announced: usize, within: Duration) -> (Observed, Vec<PeerView>) {
        let sessions = self.sessions(announced, within).await;
        (self.observed(&sessions), self.shown(&sessions))
    }

    async fn sessions(&self, announced: usize, within: Duration) -> Sessions {
        let counted = announced.saturating_mul(Setup::now(&self.config).peers.len()) <= COUNTED;
        let late = |_| Err(format!("it did not answer within {} s", within.as_secs_f32()));
        tokio::time::timeout(within, self.ask(counted)).await.unwrap_or_else(late)
    }

    /// Its sessions now; what each is sent is known only when it is `counted`.
    async fn ask(&self, counted: bool) -> Sessions {
        let speaker = &self.live()?.speaker;
        let sessions = if counted { speaker.sessions().await } else { speaker.sessions_uncounted().await };
        let mut sessions = sessions.map_err(|e| with_causes(&e))?;
        if !counted {
            for session in &mut sessions {
                session.advertised_by_family.clear();
            }
        }
        Ok(sessions)
    }

    fn observed(&self, sessions: &Sessions) -> Observed {
        let of = |peer: &bgp::Peer| {
            let session = sessions.iter().flatten().find(|s| s.address == peer.address).cloned();
            (peer.address, session, self.record.transitions(peer.address))
        };
        let peers = Setup::now(&self.config).peers.iter().map(of).collect();
        Observed { up: sessions.is_ok(), version: self.record.version(), peers }
    }

    fn shown(&self, sessions: &Sessions) -> Vec<PeerView> {
        let session = |peer: &bgp::Peer| match sessions {
            Ok(sessions) => Ok(sessions.iter().find(|s| s.address == peer.address)),
            Err(why) => Err(why.as_str()),
        };
        Setup::now(&self.config).peers.iter().map(|peer| shown(peer, session(peer))).collect()
    }

    /// What the speaker announces a VIP with; `None` where it does not, or cannot be asked.
    pub async fn attributes(&self, vip: Prefix) -> Option<Attributes> {
        let held = self.live().ok()?.speaker.announcement(vip).await;
        held.ok().flatten().map(|announcement| announcement.attributes)
    }

    /// The sessions, in the order of the configuration. A speaker that is away has none: all are `Idle`, and why.
    pub async fn peers(&self) -> Vec<PeerView> {
        self.shown(&self.ask(true).await)
    }

    /// The same, without counting what each is sent.
    pub async fn peers_uncounted(&self) -> Vec<PeerView> {
        self.shown(&self.ask(false).await)
    }
}

/// A peer and its session, as far as there is one, or why nobody knows.
fn shown(peer: &bgp::Peer, found: Result<Option<&Session>, &str>) -> PeerView {
    let session = found.ok().flatten();
    let state = session.map_or(SessionState::Idle, |s| s.state);
    let seconds = |t: SystemTime| t.duration_since(SystemTime::UNIX_EPOCH).map(|d| d.as_secs()).ok();
    PeerView {
        peer_id: peer.id.clone(),
        peer_ip: peer.address,
        remote_as: peer.remote_as.get(),
        state: match state {
            SessionState::Idle => "Idle",
            SessionState::Connect => "Connect",
            SessionState::Active => "Active",
            SessionState::OpenSent => "OpenSent",
            SessionState::OpenConfirm => "OpenConfirm",
            SessionState::Established => "Established",
        },
        since: session.and_then(|s| s.since).and_then(seconds),
        hold_time: session.and_then(|s| s.hold_time).map(|d| d.as_secs()),
        keepalive_interval: session.and_then(|s| s.keepalive).map(|d| d.as_secs()),
        families: session.map(|s| s.families.clone()).unwrap_or_default(),
        add_path: session.is_some_and(|s| s.add_path),
        md5: peer.password.is_some(),
        ttl_hops: match peer.distance {
            bgp::Distance::TtlSecurity(hops) => Some(hops.get()),
            _ => None,
        },
        bfd: peer.bfd.map(|_| session.map_or(BfdState::Down, |s| s.bfd)),
        passive: peer.passive,
        // While it is up there is a number for each family, unless they were not counted.
        advertised: session.map_or(Some(0), |s| (!uncounted(s)).then_some(s.advertised)),
        notifications_received: session.map_or(0, |s| s.notifications_received),
        notifications_sent: session.map_or(0, |s| s.notifications_sent),
        last_error: (state != SessionState::Established).then(|| match found {
            Err(why) => format!("there is no speaker: {why}"),
            Ok(None) => "the session has not been set up yet".to_owned(),
            Ok(Some(s)) if s.notifications_received > 0 => {
                "the peer ended it with a NOTIFICATION; see its log".to_owned()
            }
            Ok(Some(_)) => silence(peer),
        }),
    }
}

fn uncounted(session: &Session) -> bool {
    session.state == SessionState::Established && session.advertised_by_family.is_empty()
}

/// A packet with a wrong TCP MD5 signature, without one, or from too far away is dropped by the kernel that gets it, so
/// all of these are silence to the other side.
fn silence(peer: &bgp::Peer) -> String {
    let password = match peer.password {
        Some(_) => "a wrong MD5 password looks the same",
        None => "one that demands an MD5 password looks the same (none is set)",
    };
    let distance = match peer.distance {
        bgp::Distance::TtlSecurity(hops) => format!(", and so does one more than ttl_hops = {hops} away"),
        _ => String::new(),
    };
    format!("the peer does not answer; {password}{distance}")
}
