//! The way to the BGP speaker: found or started, configured, and lost again at any moment.
//!
//! A keeper task does what may take long (starting gobgpd, dialling, probing) and tells by a [`State`]
//! whether there is a speaker to talk to. The converging task talks to it through a [`Link`] and the API's
//! readers through a [`View`]; a call that fails by silence makes the keeper start over, so nobody waits for
//! a dead speaker twice.

mod age;
mod holders;
mod keeper;
mod process;
mod record;
mod unacked;
mod unit;
mod view;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use bgp::{Announcement, Asn, Change, Error, Peer, Prefix, RestartTime, Speaker, Table};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use holders::Holders;
pub use process::{find_gobgpd, last, leave_previous};
use record::Record;
pub use record::Transitions;
pub use unit::is_units;
pub use view::{Observed, PeerView, View};

use crate::{api::error::with_causes, config::Config, crash, pulse::Pulse};

/// More VIPs than this are read as the whole table.
const ONE_BY_ONE: usize = 64;

/// gobgpd has written by then what it said it took.
const WRITTEN: Duration = Duration::from_millis(20);
/// A peer that is there has acknowledged by then: its kernel may take 40 ms, and once more after a lost packet.
const ACKNOWLEDGED: Duration = Duration::from_millis(500);
/// How often to look.
const LOOK: Duration = Duration::from_millis(5);

/// What the speaker shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// Its gRPC socket.
    pub socket: PathBuf,
    /// Our AS.
    pub local_as: Asn,
    /// As configured. Otherwise that of a running speaker stays, and a fresh one gets the management IPv4.
    pub router_id: Option<Ipv4Addr>,
    /// What the API is bound to.
    pub bind: IpAddr,
    /// How long peers keep our routes over a restart of gobgpd; `None` is not at all.
    pub graceful_restart: Option<RestartTime>,
    /// The sessions.
    pub peers: Vec<Peer>,
}

impl Setup {
    /// What a configuration says of it; `None` without `[bgp]`.
    #[must_use]
    pub fn of(config: &Config) -> Option<Self> {
        let bgp = config.bgp.as_ref()?;
        Some(Self {
            socket: bgp.speaker.clone(),
            local_as: bgp.local_as,
            router_id: bgp.router_id,
            bind: config.api.bind.ip(),
            graceful_restart: RestartTime::try_from(bgp.graceful_restart.as_secs()).ok().filter(|t| t.seconds() > 0),
            peers: bgp.peers.iter().map(|p| p.peer.clone()).collect(),
        })
    }

    /// What it shall be now.
    fn now(config: &watch::Receiver<Arc<Config>>) -> Self {
        Self::of(&config.borrow()).expect("[bgp] neither comes nor goes while the agent runs (reload.rs)")
    }
}

/// One life of the speaker, configured up to its policies. A changed configuration begins another.
#[derive(Debug)]
pub struct Live {
    number: u64,
    speaker: Speaker,
    /// When it began: when gobgpd made its socket.
    since: SystemTime,
    setup: Setup,
    peers_set: AtomicBool,
}

/// Whether there is a speaker to talk to.
#[derive(Clone, Debug)]
pub enum State {
    /// No, and why.
    Down(Arc<str>),
    /// Yes.
    Up(Arc<Live>),
}

impl State {
    /// Why there is none.
    #[must_use]
    pub fn why(&self) -> String {
        match self {
            Self::Down(why) => why.to_string(),
            Self::Up(_) => "the speaker has just come back".to_owned(),
        }
    }
}

/// What the speaker holds: each prefix as we would announce it, or `None` for a path that is not ours in
/// form and has to go or be announced over.
pub type Announced = BTreeMap<Prefix, Option<Announcement>>;

/// The converging task's end.
#[derive(Debug)]
pub struct Link {
    state: watch::Receiver<State>,
    /// The number of the life that has gone silent.
    lost: mpsc::Sender<u64>,
    holders: Mutex<Holders>,
}

impl Link {
    /// Starts the keeper and returns the two ends, and the keeper, which never ends. To be called within a runtime, and
    /// with a configuration that has `[bgp]`.
    #[must_use]
    pub fn start(config: watch::Receiver<Arc<Config>>, pulse: Pulse) -> (Self, View, JoinHandle<()>) {
        let (told, state) = watch::channel(State::Down("the speaker is being looked for".into()));
        let (lost, silent) = mpsc::channel(8);
        let record = Record::default();
        let keeper = tokio::spawn(keeper::keep(config.clone(), told, silent, record.clone(), pulse));
        let view = View::new(config, state.clone(), record);
        (Self { state, lost, holders: Mutex::default() }, view, keeper)
    }

    /// Comings and goings of the speaker.
    #[must_use]
    pub fn news(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// Whether there is one now.
    #[must_use]
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    fn live(&self) -> Option<Arc<Live>> {
        match &*self.state.borrow() {
            State::Up(live) => Some(live.clone()),
            State::Down(_) => None,
        }
    }

    /// A peer that may hold one of these routes although the speaker tells it of them no more, or never did, and why.
    /// Each is known by when it was first announced; without, that was before this agent.
    pub async fn holder(&self, exposed: &[Option<Instant>]) -> Option<String> {
        let Some(live) = self.live() else { return Some(self.state().why()) };
        if !live.peers_set.load(Ordering::Relaxed) {
            return Some("the sessions are being set up".to_owned());
        }
        match live.speaker.sessions_uncounted().await {
            Ok(sessions) => {
                let ages: Vec<_> = exposed.iter().map(|at| at.map(|at| at.elapsed())).collect();
                self.holders().of(&sessions, &ages)
            }
            Err(error) => {
                self.failed(&live, &error).await;
                Some(with_causes(&error))
            }
        }
    }

    /// A peer that has not acknowledged what it was sent, after a moment to do so, and was perhaps not told of a
    /// withdrawal.
    pub async fn unacknowledged(&self) -> Option<String> {
        let live = self.live()?;
        let start = Instant::now();
        loop {
            let addresses = match unacked::unacknowledged() {
                Ok(addresses) => addresses,
                Err(error) => return Some(format!("nobody knows what its peers have acknowledged: {error}")),
            };
            let peer = live.setup.peers.iter().find(|peer| addresses.contains(&peer.address));
            match peer {
                None if start.elapsed() >= WRITTEN => return None,
                Some(peer) if start.elapsed() >= ACKNOWLEDGED => {
                    return Some(format!("{} ({}) has not acknowledged that it goes", peer.id, peer.address));
                }
                _ => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// A panic leaves nothing half changed that matters: each peer stands for itself.
    fn holders(&self) -> MutexGuard<'_, Holders> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the speaker holds of `asked`, or with `everything` all it holds; `None` while it cannot be asked.
    pub async fn announced(&self, asked: &BTreeSet<Prefix>, everything: bool) -> Option<Announced> {
        let live = self.live()?;
        let answer = if everything || asked.len() > ONE_BY_ONE {
            live.speaker.announcements().await
        } else if asked.is_empty() {
            Ok(Table::default())
        } else {
            live.speaker.announcements_of(asked).await
        };
        match answer {
            Ok(table) => {
                for stray in table.strays.iter().filter(|s| s.prefix.is_none()) {
                    tracing::warn!(
                        destination = stray.destination,
                        why = stray.why,
                        "the speaker holds a foreign path; no peer is sent it"
                    );
                }
                let strays = table.strays.into_iter().filter_map(|s| Some((s.prefix?, None)));
                let ours = table.announcements.into_iter().map(|a| (a.prefix, Some(a)));
                Some(strays.chain(ours).filter(|(p, _)| everything || asked.contains(p)).collect())
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the speaker cannot be read");
                self.failed(&live, &error).await;
                None
            }
        }
    }

    /// Announces and withdraws, in this order.
    pub async fn apply(&self, changes: &[Change]) -> Result<(), Error> {
        let Some(live) = self.live() else {
            return Err(Error::Lost(self.state().why()));
        };
        let result = live.speaker.apply(changes).await;
        if let Err(error) = &result {
            self.failed(&live, error).await;
        }
        result
    }

    /// Sets up the sessions once everything that is wanted has been announced: a peer that kept our routes
    /// over a restart must not see an empty table first.
    pub async fn settle(&self) {
        let Some(live) = self.live().filter(|l| !l.peers_set.load(Ordering::Relaxed)) else { return };
        crash::point("speaker: before the sessions");
        let restart = live.setup.graceful_restart;
        // A peer keeps our routes that long after gobgpd began anew. An agent before this one may have set up some.
        let age = self.holders().clock.age(live.since);
        let young = |time: RestartTime| age.is_some_and(|age| age.as_secs() < time.seconds().into());
        let restarting = self.holders().set_up_for != Some(live.since) && restart.is_some_and(young);
        match live.speaker.set_peers(&live.setup.peers, restart, restarting).await {
            Ok(difference) => {
                tracing::info!(?difference, "sessions set up");
                for peer in &difference.without_bfd {
                    tracing::warn!(%peer, "no BFD, although bfd = true: gobgpd is older than 4.6; its hold time counts");
                }
                let mut holders = self.holders();
                holders.set_up(&live.setup.peers, restart, &difference);
                holders.set_up_for = Some(live.since);
                drop(holders);
                live.peers_set.store(true, Ordering::Relaxed);
                crash::point("speaker: after the sessions");
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "the sessions cannot be set up");
                self.holders().set_up_in_part();
                self.failed(&live, &error).await;
            }
        }
    }

    async fn failed(&self, live: &Live, error: &Error) {
        if !matches!(error, Error::Refused { .. } | Error::Invalid(_)) {
            let _ = self.lost.send(live.number).await;
        }
    }
}
