//! What LVS forwards is masqueraded on every NIC that is plugged, as `amphora-interface up` has it in Octavia's image.
//!
//! The rules are put there whole, beside the kernel's steps, by one transaction that changes nothing where nothing has
//! to change. They are not read back: the kernel tells of no change of them, and asking costs as much as saying it again.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use netns::Namespace;
use tokio::task::JoinHandle;

use crate::{
    interfaces,
    programs::masquerade::{self, Masquerade},
    state::Desired,
};

/// How often they are put there although they should be: nobody is known to take them away.
const AGAIN: Duration = Duration::from_mins(5);

/// The rules, as far as this process has set them.
#[derive(Debug, Default)]
pub(super) struct Rules {
    set: Option<(BTreeSet<Masquerade>, Instant)>,
    /// What was last wrong, so that it is told once.
    complaint: Option<String>,
}

/// Rules that are being set.
pub(super) struct Setting {
    rules: BTreeSet<Masquerade>,
    work: JoinHandle<Result<(), String>>,
}

impl Rules {
    /// Begins to set what is wanted, unless it was set not long ago.
    pub(super) fn set(&self, desired: &Desired, namespace: &Namespace) -> Option<Setting> {
        let rules = interfaces::masquerades(desired);
        if self.set.as_ref().is_some_and(|(set, at)| *set == rules && at.elapsed() < AGAIN) {
            return None;
        }
        let (script, namespace) = (masquerade::exactly(&rules), namespace.clone());
        let work = tokio::task::spawn_blocking(move || masquerade::apply(&script, Some(&namespace)));
        Some(Setting { rules, work })
    }

    /// Waits for the end of it; whether they are set. No plug fails for it: only UDP and SCTP listeners need them.
    pub(super) async fn is_set(&mut self, setting: Setting) -> bool {
        let result = setting.work.await.unwrap_or_else(|error| Err(error.to_string()));
        let Err(error) = result else {
            self.set = Some((setting.rules, Instant::now()));
            self.complaint = None;
            return true;
        };
        if setting.rules.is_empty() {
            tracing::debug!(error, "whether anything is masqueraded cannot be told");
            self.set = Some((setting.rules, Instant::now()));
            return true;
        }
        if self.complaint.as_ref() != Some(&error) {
            tracing::warn!(error, "UDP and SCTP are not masqueraded; trying again");
            self.complaint = Some(error);
        }
        self.set = None;
        false
    }
}
