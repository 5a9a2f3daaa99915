//! The gates of one VIP together: whether it shall be announced. No input or output, and no clock: time is passed in.
//!
//! ```text
//!            every gate known, none closed,                one closes
//!            hold-down over, not damped                    (a failure: penalty)
//!   Hold ───────────────────────────────────► Announce ─────────────────────────► Withdraw
//!    ▲  ◄──────────────────────────────────────────────────────────────────────────  │
//!    └── a gate unknown, or the hold-down runs: what is announced stays, nothing new ─┘
//! ```
//!
//! With `last_resort = worse` the members' gate closes nothing: while it alone is closed, `Announce` is `Worse`. That is a
//! failure too, counted apart: too many failures of the other gates withdraw for a while, too many of all leave it `Worse`.
//!
//! `Hold` is what makes an agent's restart silent: an agent that knows nothing yet takes nothing back and adds nothing.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    damping::Damping,
    gate::{Counts, Gate, Reading, State},
};
use crate::config::LastResort;

/// How gates are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// For polled gates.
    pub counts: Counts,
    /// How long after its start the agent announces nothing that is not announced already.
    pub hold_down: Duration,
    /// What becomes of it when its members alone fail.
    pub last_resort: LastResort,
}

/// What shall become of a VIP's announcement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It shall be announced.
    Announce,
    /// It shall be announced as the last choice of every router, and why.
    Worse(String),
    /// It stays as it is, and why.
    Hold(String),
    /// It shall not be announced, and why.
    Withdraw(String),
}

/// A VIP of this amphora.
#[derive(Clone, Debug)]
pub struct Vip {
    gates: BTreeMap<Gate, State>,
    /// Of what withdraws it.
    damping: Damping,
    /// Of all that keeps it from being announced as it should.
    resort: Damping,
    /// Whether no gate that withdraws it was closed at the last decision, of those that were known.
    sound: bool,
    /// The same of all gates.
    best: bool,
}

impl Vip {
    /// One of which nothing is known; `gates` are those it has.
    #[must_use]
    pub fn new(gates: &[Gate], now: Instant) -> Self {
        let state = |gate: &Gate| (*gate, State::unknown("not looked at yet", now));
        let (damping, resort) = (Damping::new(now), Damping::new(now));
        Self { gates: gates.iter().map(state).collect(), damping, resort, sound: false, best: false }
    }

    /// Has these gates from now on; those it had stay as they are.
    pub fn set_gates(&mut self, gates: &[Gate], now: Instant) {
        self.gates.retain(|gate, _| gates.contains(gate));
        for gate in gates {
            self.gates.entry(*gate).or_insert_with(|| State::unknown("not looked at yet", now));
        }
    }

    /// Takes what was found. What is asked of haproxy, or through the NIC, starts over when the process or the carrier is
    /// gone: another process, or another switch, will answer.
    pub fn observe(&mut self, readings: &BTreeMap<Gate, Reading>, settings: &Settings, now: Instant) {
        for (gate, reading) in readings {
            if let Some(state) = self.gates.get_mut(gate) {
                state.take(*gate, reading, settings.counts, now);
            }
        }
        for (fact, asked) in
            [(Gate::Process, &[Gate::Socket, Gate::Members][..]), (Gate::Carrier, &[Gate::Gateway][..])]
        {
            if self.gates.get(&fact).and_then(|state| state.open) != Some(false) {
                continue;
            }
            for gate in asked {
                if let Some(state) = self.gates.get_mut(gate).filter(|state| state.open.is_some()) {
                    *state = State::unknown(format!("cannot be asked while {} is closed", fact.name()), now);
                }
            }
        }
    }

    /// What shall become of its announcement now; counts a failure when it is one. `started` is when the agent began.
    pub fn decide(&mut self, settings: &Settings, started: Instant, now: Instant) -> Decision {
        let resort = |gate: &Gate| (settings.last_resort, gate) == (LastResort::Worse, &Gate::Members);
        let (worse, closed): (Vec<_>, Vec<_>) =
            self.gates.iter().filter(|(_, state)| state.open == Some(false)).partition(|(gate, _)| resort(gate));
        let asked = closed.iter().chain(&worse).any(|(_, state)| state.asked);
        if self.sound && !closed.is_empty() && !asked {
            self.damping.fail(now);
        }
        let best = closed.is_empty() && worse.is_empty();
        if self.best && !best && !asked {
            self.resort.fail(now);
        }
        (self.sound, self.best) = (closed.is_empty(), best);
        let (suppressed, held_back) = (self.damping.is_suppressed(now), self.resort.is_suppressed(now));
        if !closed.is_empty() {
            let why: Vec<_> =
                closed.iter().map(|(gate, state)| format!("{}: {}", gate.name(), state.evidence)).collect();
            return Decision::Withdraw(why.join("; "));
        }
        if suppressed {
            let left = self.damping.left().as_secs() + 1;
            return Decision::Withdraw(format!("it failed too often in a row; held back for another {left} s"));
        }
        if let Some((gate, state)) = self.gates.iter().find(|(_, state)| state.open.is_none()) {
            return Decision::Hold(format!("{} is not known: {}", gate.name(), state.evidence));
        }
        let left = (started + settings.hold_down).saturating_duration_since(now);
        if !left.is_zero() {
            return Decision::Hold(format!("the agent has just started; for another {} s", left.as_secs() + 1));
        }
        match worse.first() {
            Some((gate, state)) => Decision::Worse(format!("{}: {}", gate.name(), state.evidence)),
            None if held_back && settings.last_resort == LastResort::Worse => {
                let left = self.resort.left().as_secs() + 1;
                Decision::Worse(format!("it failed too often in a row; the last choice for another {left} s"))
            }
            None => Decision::Announce,
        }
    }

    /// The gates, in their order.
    pub fn gates(&self) -> impl Iterator<Item = (Gate, &State)> {
        self.gates.iter().map(|(gate, state)| (*gate, state))
    }

    /// Whether a gate that is asked at intervals has not answered yet, although it could.
    #[must_use]
    pub fn is_to_be_asked(&self) -> bool {
        let unknown = |gate: Gate, fact: Gate| {
            let open = |gate| self.gates.get(&gate).map(|state| state.open);
            open(gate) == Some(None) && open(fact).is_none_or(|open| open == Some(true))
        };
        unknown(Gate::Socket, Gate::Process)
            || unknown(Gate::Members, Gate::Process)
            || unknown(Gate::Gateway, Gate::Carrier)
    }
}

#[cfg(test)]
mod tests;
