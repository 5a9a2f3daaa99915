//! How often gates open and close, for whoever looks for one that flaps.

use std::{collections::BTreeMap, net::IpAddr};

use super::gate::Gate;

/// Whether a gate was last known to be open, and how often that has changed.
type Known = (bool, u64);

/// The gates of all VIPs.
#[derive(Debug, Default)]
pub(super) struct Transitions(BTreeMap<IpAddr, BTreeMap<Gate, Known>>);

impl Transitions {
    /// Takes how the gates of a VIP are, and tells how often each has changed. One that is not known now is what it was.
    pub(super) fn count(
        &mut self,
        vip: IpAddr,
        gates: impl Iterator<Item = (Gate, Option<bool>)>,
    ) -> BTreeMap<Gate, u64> {
        let known = self.0.entry(vip).or_default();
        for (gate, open) in gates {
            let Some(open) = open else { continue };
            let (before, changes) = known.entry(gate).or_insert((open, 0));
            *changes += u64::from(*before != open);
            *before = open;
        }
        known.iter().map(|(gate, (_, changes))| (*gate, *changes)).collect()
    }

    /// Forgets the VIPs that are no more.
    pub(super) fn retain(&mut self, is_there: impl Fn(IpAddr) -> bool) {
        self.0.retain(|vip, _| is_there(*vip));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_also_when_nothing_was_known_in_between() {
        let (mut transitions, vip) = (Transitions::default(), "203.0.113.7".parse().unwrap());
        let mut socket = |open| transitions.count(vip, [(Gate::Socket, open)].into_iter()).get(&Gate::Socket).copied();
        assert_eq!([None, Some(true), Some(true)].map(&mut socket), [None, Some(0), Some(0)]);
        assert_eq!([Some(false), None, Some(true), None, Some(true)].map(socket), [1, 1, 2, 2, 2].map(Some));
        transitions.retain(|_| false);
        assert_eq!(transitions.count(vip, [(Gate::Socket, Some(false))].into_iter()), [(Gate::Socket, 0)].into());
    }
}
