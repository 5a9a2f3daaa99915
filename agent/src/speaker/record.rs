//! What the keeper sees of the speaker, kept for whoever reports it: how often sessions came up and went down, and which
//! gobgpd it is.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bgp::{Event, SessionState};

/// How often a session came up and went down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transitions {
    /// To `Established`.
    pub up: u64,
    /// From there.
    pub down: u64,
}

#[derive(Debug, Default)]
struct Seen {
    /// By the peer's address: whether it is up.
    sessions: BTreeMap<IpAddr, (bool, Transitions)>,
    /// The number of the speaker that is there now.
    speaker: Option<u64>,
    /// Which gobgpd that is: major and minor version.
    version: Option<(u32, u32)>,
}

/// The record. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Record(Arc<Mutex<Seen>>);

impl Record {
    /// Takes what the speaker tells of a session. The first word of one is no change: it may have been up long before.
    pub(super) fn event(&self, event: &Event) {
        let is_up = event.state == SessionState::Established;
        let mut seen = self.lock();
        let (was_up, counts) = seen.sessions.entry(event.address).or_insert((is_up, Transitions::default()));
        change(was_up, counts, is_up);
    }

    /// The speaker is gone, and its sessions with it.
    pub(super) fn lost(&self) {
        let mut seen = self.lock();
        seen.sessions.values_mut().for_each(|(was_up, counts)| change(was_up, counts, false));
        (seen.speaker, seen.version) = (None, None);
    }

    /// There is a speaker, the one of this number. It may be the one before, looked at anew.
    pub(super) fn found(&self, number: u64) {
        self.lock().speaker = Some(number);
    }

    /// Which gobgpd the speaker of this number is. Nobody waits for its answer, so there may be another by now, or none:
    /// then it is passed over.
    pub(super) fn set_version(&self, number: u64, version: Option<(u32, u32)>) {
        let mut seen = self.lock();
        if seen.speaker == Some(number) {
            seen.version = version;
        }
    }

    pub(super) fn version(&self) -> Option<(u32, u32)> {
        self.lock().version
    }

    /// Of the session with `peer`.
    pub(super) fn transitions(&self, peer: IpAddr) -> Transitions {
        self.lock().sessions.get(&peer).map(|(_, counts)| *counts).unwrap_or_default()
    }

    /// A panic leaves nothing half changed that matters.
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn change(was_up: &mut bool, counts: &mut Transitions, is_up: bool) {
    counts.up += u64::from(is_up && !*was_up);
    counts.down += u64::from(!is_up && *was_up);
    *was_up = is_up;
}

#[cfg(test)]
mod tests {
    use SessionState::{Active, Established, Idle, OpenSent};

    use super::*;

    #[test]
    fn a_session_counts_when_it_comes_up_or_goes_down_and_a_lost_speaker_takes_all_down() {
        let (record, peer, other) = (Record::default(), "192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let told = |address, states: &[SessionState]| {
            for state in states {
                record.event(&Event { address, state: *state, reason: None });
            }
        };
        told(peer, &[Established, Established]);
        assert_eq!(record.transitions(peer), Transitions::default(), "it was up before we were");
        told(peer, &[Idle, Active, OpenSent, Established]);
        told(other, &[Idle, Established]);
        assert_eq!(record.transitions(peer), Transitions { up: 1, down: 1 });
        record.lost();
        record.lost();
        assert_eq!(record.transitions(peer), Transitions { up: 1, down: 2 });
        assert_eq!(record.transitions(other), Transitions { up: 1, down: 1 });
    }

    #[test]
    fn an_answer_about_a_speaker_that_is_gone_says_nothing_of_the_next() {
        let record = Record::default();
        record.found(1);
        record.set_version(1, Some((3, 10)));
        assert_eq!(record.version(), Some((3, 10)));
        record.lost();
        record.set_version(1, Some((3, 10)));
        assert_eq!(record.version(), None);
        record.found(2);
        record.set_version(2, Some((4, 8)));
        record.set_version(1, Some((3, 10)));
        assert_eq!(record.version(), Some((4, 8)));
    }
}
