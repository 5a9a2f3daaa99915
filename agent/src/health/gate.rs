//! One gate of a VIP: what was found, and whether that opens or closes it.

use std::time::Instant;

use serde::Serialize;
use utoipa::ToSchema;

/// A condition of a VIP's announcement. In the order in which a closed one explains those after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// The VIP is not being drained; shown only while it is, and not judged here.
    Drain,
    /// The haproxy of a load balancer that binds the VIP runs.
    Process,
    /// A socket listens on the VIP, or LVS has a service on it.
    Listener,
    /// haproxy answers on its stats socket.
    Socket,
    /// The VIP is on `lo`.
    Bound,
    /// The front-end NIC is up and has a carrier.
    Carrier,
    /// The front-end gateway has not failed to answer ARP or NDP.
    Gateway,
    /// Enough members are up; only with `members_low`.
    Members,
}

impl Gate {
    /// Whether it is asked for at intervals, so that one answer may be an accident: `rise` and `fall` count. The others
    /// are facts of the kernel's or of whoever runs haproxy, and hold at once.
    #[must_use]
    pub fn is_polled(self) -> bool {
        matches!(self, Self::Socket | Self::Gateway | Self::Members)
    }

    /// As the API and the log call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Process => "process",
            Self::Listener => "listener",
            Self::Socket => "socket",
            Self::Bound => "bound",
            Self::Carrier => "carrier",
            Self::Gateway => "gateway",
            Self::Members => "members",
        }
    }
}

/// What a look at a gate says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// In order.
    Pass,
    /// Not in order.
    Fail,
    /// Not in order because somebody asked for it: no reason to mistrust it when it is back.
    Off,
    /// It cannot be told: whatever was known stands.
    Unknown,
}

/// A verdict, and what it is founded on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// What it says.
    pub verdict: Verdict,
    /// In words an operator can check.
    pub evidence: String,
}

impl Reading {
    /// One of each kind.
    #[must_use]
    pub fn new(verdict: Verdict, evidence: impl Into<String>) -> Self {
        Self { verdict, evidence: evidence.into() }
    }
}

/// How many answers in a row turn a polled gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Good ones until it opens.
    pub rise: u32,
    /// Bad ones until it closes.
    pub fall: u32,
}

/// A gate as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Open or closed; `None` before the first answer.
    pub open: Option<bool>,
    /// Somebody asked for it to be closed.
    pub asked: bool,
    /// The newest evidence.
    pub evidence: String,
    /// Since when it has been open, closed or unknown.
    pub since: Instant,
    /// Answers in a row that contradict it.
    contrary: u32,
}

impl State {
    /// Nothing known.
    #[must_use]
    pub fn unknown(evidence: impl Into<String>, now: Instant) -> Self {
        Self { open: None, asked: false, evidence: evidence.into(), since: now, contrary: 0 }
    }

    /// Takes a reading. The first answer decides alone: nobody has reason yet to think of it as an accident.
    pub fn take(&mut self, gate: Gate, reading: &Reading, counts: Counts, now: Instant) {
        self.evidence.clone_from(&reading.evidence);
        let open = match reading.verdict {
            Verdict::Unknown => return,
            Verdict::Pass => true,
            Verdict::Fail | Verdict::Off => false,
        };
        let needed = match self.open {
            Some(is) if is == open => {
                self.contrary = 0;
                self.asked &= !open;
                return;
            }
            // The kernel has asked a gateway three times before it says so.
            Some(true) if gate.is_polled() && gate != Gate::Gateway => counts.fall,
            Some(false) if gate.is_polled() => counts.rise,
            _ => 1,
        };
        self.contrary += 1;
        if self.contrary < needed {
            self.evidence = format!("{} ({} of {needed} that turn it)", self.evidence, self.contrary);
            return;
        }
        *self =
            Self { open: Some(open), asked: reading.verdict == Verdict::Off, contrary: 0, since: now, ..self.clone() };
    }
}
