//! What a heartbeat says: version 3 of Octavia's health message (`build_stats_message` of
//! `octavia/amphorae/backends/health_daemon/health_daemon.py`), and what it is made of.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The message's version: 3 reports traffic as what was added since the message before.
const VERSION: u8 = 3;

/// A listener's counters since its process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Totals {
    /// Bytes from clients.
    pub(super) bin: u64,
    /// Bytes to clients.
    pub(super) bout: u64,
    /// Request errors.
    pub(super) ereq: u64,
    /// Connections.
    pub(super) stot: u64,
}

impl Totals {
    /// What was added since `last`. A counter that went back was started anew, and all of it is new.
    #[must_use]
    pub(super) fn since(self, last: Self) -> Self {
        let added = |now: u64, last: u64| now.checked_sub(last).unwrap_or(now);
        Self {
            bin: added(self.bin, last.bin),
            bout: added(self.bout, last.bout),
            ereq: added(self.ereq, last.ereq),
            stot: added(self.stot, last.stot),
        }
    }
}

/// A listener as its process tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frontend {
    /// As haproxy words it: `OPEN`, `FULL`, `STOP`.
    pub(super) status: String,
    /// Connections at this moment.
    pub(super) current: u64,
    /// Its counters; `None` where it is there and they cannot be read: then there is nothing new to report.
    pub(super) totals: Option<Totals>,
}

/// A pool as its process tells, which is also how the message says it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Pool {
    /// `UP` or `DOWN`.
    pub(super) status: String,
    /// The members' ids and haproxy's words for how they are, such as `UP`, `DOWN 1/2` or `no check`.
    pub(super) members: BTreeMap<String, String>,
}

/// What the load balancers' processes tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    /// By listener id.
    pub(super) listeners: BTreeMap<String, Frontend>,
    /// By `POOL:LISTENER`; those of LVS by the pool's id alone.
    pub(super) pools: BTreeMap<String, Pool>,
}

impl Reading {
    /// Adds what another process tells.
    pub(super) fn extend(&mut self, other: Self) {
        self.listeners.extend(other.listeners);
        self.pools.extend(other.pools);
    }
}

/// A listener in the message. The directions are the controller's: `rx` is from clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Listener {
    status: String,
    stats: Stats,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Stats {
    tx: u64,
    rx: u64,
    conns: u64,
    totconns: u64,
    ereq: u64,
}

/// One heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Message {
    id: String,
    seq: u64,
    listeners: BTreeMap<String, Listener>,
    /// As in [`Reading`].
    pub(super) pools: BTreeMap<String, Pool>,
    ver: u8,
}

impl Message {
    /// The message of an amphora; `added` tells what to report of a listener's counters.
    pub(super) fn new(id: &str, seq: u64, reading: Reading, mut added: impl FnMut(&str, Totals) -> Totals) -> Self {
        let listener = |(id, frontend): (String, Frontend)| {
            let new = frontend.totals.map(|totals| added(&id, totals)).unwrap_or_default();
            let stats =
                Stats { tx: new.bout, rx: new.bin, conns: frontend.current, totconns: new.stot, ereq: new.ereq };
            (id, Listener { status: frontend.status, stats })
        };
        Self {
            id: id.to_owned(),
            seq,
            listeners: reading.listeners.into_iter().map(listener).collect(),
            pools: reading.pools,
            ver: VERSION,
        }
    }
}
