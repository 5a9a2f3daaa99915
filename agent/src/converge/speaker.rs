//! What a pass hears from the speaker and tells it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Instant,
};

use bgp::{Announcement, Change, Error, Prefix};

use super::{Converge, Outcome, Scope, report};
use crate::{
    api::error::with_causes,
    crash,
    plan::{Address, Device, Have, Step, Want},
    resolve::Closed,
    speaker::{Announced, State},
};

/// More changes than this are one line in the log.
const WORTH_A_LINE: usize = 16;

impl Converge {
    /// The VIPs whose announcement matters to this pass: those in its scope, and with plugs in it every
    /// VIP that is bound, for it may be about to be unbound.
    pub(super) fn asked(scope: &Scope, bound: &BTreeSet<Address>) -> BTreeSet<Prefix> {
        let mut asked = scope.dirty.vips.clone();
        if scope.everything {
            let on_lo = bound.iter().filter(|a| a.device == Device::Lo);
            asked.extend(on_lo.filter_map(|a| Prefix::try_from(a.ip).ok()));
        }
        asked
    }

    /// Why a VIP that shall go may be known to a peer although not to the speaker, or although it is withdrawn now.
    pub(super) async fn holder(&mut self, want: &Want, have: &Have) -> Option<String> {
        let bound = |ip: IpAddr| have.addresses.contains(&Address::vip(ip));
        let on_lo = have.addresses.iter().filter(|a| a.device == Device::Lo);
        let exposed = self.exposed.get_or_insert_with(|| on_lo.map(|a| (a.ip, None)).collect());
        exposed.retain(|ip, _| bound(*ip));
        let leaves = |ip: IpAddr| !want.addresses.contains(&Address::vip(ip));
        let leaving: Vec<_> = exposed.iter().filter(|(ip, _)| leaves(**ip)).map(|(_, first)| *first).collect();
        match &self.link {
            Some(link) if !leaving.is_empty() => link.holder(&leaving).await,
            _ => None,
        }
    }

    /// Why a VIP that these steps unbind may be known to a peer that was just told that it goes.
    pub(super) async fn untold(&self, steps: &[Step]) -> Option<String> {
        let exposed = |ip: IpAddr| self.exposed.as_ref().is_some_and(|exposed| exposed.contains_key(&ip));
        let unbinds = |step: &Step| matches!(step, Step::DeleteAddress(a) if a.device == Device::Lo && exposed(a.ip));
        match &self.link {
            Some(link) if steps.iter().any(unbinds) => link.unacknowledged().await,
            _ => None,
        }
    }

    /// Notes what peers are about to hear of.
    pub(super) fn expose(&mut self, steps: &[Step]) {
        let Some(exposed) = &mut self.exposed else { return };
        for step in steps {
            if let Step::Announce(announcement) = step {
                exposed.entry(announcement.prefix.address()).or_insert_with(|| Some(Instant::now()));
            }
        }
    }

    /// What the speaker announces of `asked`, and with a full scope whatever else it announces; nothing at
    /// all without `[bgp]`; `None` while it cannot be asked.
    pub(super) async fn announced(&self, scope: &Scope, asked: &BTreeSet<Prefix>) -> Option<Announced> {
        match &self.link {
            None => Some(BTreeMap::new()),
            Some(link) => link.announced(asked, scope.everything).await,
        }
    }

    /// For a pass over a few VIPs that were just committed: whatever the speaker announces of them, it is to be
    /// told anew. That costs no question first, and what it then holds is read back.
    pub(super) fn unknown(&self, asked: &BTreeSet<Prefix>) -> Option<Announced> {
        match &self.link {
            None => Some(BTreeMap::new()),
            Some(link) => matches!(link.state(), State::Up(_)).then(|| asked.iter().map(|p| (*p, None)).collect()),
        }
    }

    /// Takes the speaker's steps; whether all of them were taken.
    pub(super) async fn speak(&self, steps: &[Step], outcome: &mut Outcome) -> bool {
        let changes: Vec<Change> = steps
            .iter()
            .filter_map(|step| match step {
                Step::Withdraw(prefix) => Some(Change::Withdraw(*prefix)),
                Step::Announce(announcement) => Some(Change::Announce(announcement.clone())),
                _ => None,
            })
            .collect();
        let (Some(link), false) = (&self.link, changes.is_empty()) else { return true };
        crash::point("speaker: before changes");
        let told = link.apply(&changes).await;
        outcome.told = true;
        match told {
            Ok(()) if changes.len() > WORTH_A_LINE => tracing::info!(changes = changes.len(), "told the speaker"),
            Ok(()) => changes.iter().for_each(|change| tracing::info!(?change, "told the speaker")),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the speaker did not take it; trying again");
                outcome.failed = true;
                match error {
                    Error::Refused { .. } | Error::Invalid(_) => outcome.refused = Some(with_causes(&error)),
                    // It may hold anything now; its peers wait for a pass that could tell it all.
                    _ => outcome.heard = false,
                }
                return false;
            }
        }
        crash::point("speaker: after changes");
        true
    }

    pub(super) fn report_speaker(
        &self,
        vips: &BTreeSet<Prefix>,
        closed: BTreeMap<Prefix, Closed>,
        want: &Want,
        held: Option<Announced>,
        refused: Option<&str>,
    ) {
        let (held, why) = match (&self.link, held) {
            (None, _) => (BTreeMap::new(), Some("BGP is not configured: add [bgp] and a [bgp_peer:NAME]".to_owned())),
            (Some(_), Some(held)) => (held, None),
            (Some(link), None) => (BTreeMap::new(), Some(link.state().why())),
        };
        if why.is_none() || self.link.is_none() {
            // What is not announced any more has left; so has what a listener's route has taken over from, in full.
            let taken_over = |p: &Prefix, is: &Option<Announcement>| {
                want.announced.get(p).is_some_and(|wanted| is.as_ref() == Some(&wanted.announcement))
            };
            let left = |p: &Prefix| held.get(p).is_none_or(|is| taken_over(p, is));
            self.shared.leaving(|l| l.retain(|p, _| !vips.contains(p) || !left(p)));
        }
        let missing = want.announced.keys().filter(|p| !held.contains_key(p));
        let refused = refused.map(|words| missing.map(|p| (*p, words.to_owned())).collect()).unwrap_or_default();
        let announced = held.keys().filter(|p| vips.contains(p)).copied().collect();
        self.teller.speaker(vips, report::Speaker { closed, announced, refused, absent: why });
    }
}
