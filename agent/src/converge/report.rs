//! What the passes found, for those who ask: the writing end in the converging task, the reading end in the API.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock},
};

use bgp::Prefix;
use netns::Mac;
use tokio::sync::watch;

use super::Converge;
use crate::{
    plan::{Device, Have, Want, kept},
    resolve::Closed,
    state::Registration,
};

/// Why a plug is not complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unready {
    /// A step failed; it is tried again.
    Failed(String),
    /// Something will end by itself, in a second or two.
    Waiting(String),
}

impl Unready {
    /// In words.
    #[must_use]
    pub fn why(&self) -> &str {
        match self {
            Self::Failed(why) | Self::Waiting(why) => why,
        }
    }
}

/// What the last passes found.
#[derive(Debug, Default)]
pub struct Report {
    /// What keeps the plugs of a NIC from being complete.
    pub nics: BTreeMap<Mac, Unready>,
    /// Why the firewall is not as it should be.
    pub filter: Option<Unready>,
    /// What the listeners of this amphora's own VIPs stand for (`announce = listener`), where no call registered them.
    pub own: BTreeMap<Prefix, Registration>,
    /// What keeps a registration from being announced.
    pub closed: BTreeMap<Prefix, Closed>,
    /// What the speaker was read back to hold.
    pub announced: BTreeSet<Prefix>,
    /// What the speaker refused to hold, in its words.
    pub refused: BTreeMap<Prefix, String>,
    /// Addresses still there although nobody wants them, and why.
    pub lingering: BTreeMap<IpAddr, String>,
    /// What was on `lo` at the last look; absent before the first.
    pub bound: Option<BTreeSet<IpAddr>>,
    /// Why the speaker cannot be asked, while it cannot.
    pub speaker: Option<String>,
}

/// What a pass found of the speaker, for the VIPs in its scope; the fields are those of [`Report`].
#[derive(Debug)]
pub(super) struct Speaker {
    pub(super) closed: BTreeMap<Prefix, Closed>,
    pub(super) announced: BTreeSet<Prefix>,
    pub(super) refused: BTreeMap<Prefix, String>,
    pub(super) absent: Option<String>,
}

/// The report and how far the passes have come, to be read.
#[derive(Clone, Debug)]
pub struct Progress {
    report: Arc<RwLock<Report>>,
    generation: watch::Receiver<u64>,
    passes: watch::Receiver<u64>,
}

/// The same, to be written.
#[derive(Debug)]
pub(super) struct Teller {
    report: Arc<RwLock<Report>>,
    generation: watch::Sender<u64>,
    passes: watch::Sender<u64>,
}

/// Both ends.
pub(super) fn channel() -> (Teller, Progress) {
    let report = Arc::new(RwLock::new(Report::default()));
    // The first pass reaches 1; until then nothing has.
    let (generation, reached) = watch::channel(0);
    let (passes, over) = watch::channel(0);
    let progress = Progress { report: report.clone(), generation: reached, passes: over };
    (Teller { report, generation, passes }, progress)
}

impl Teller {
    /// What a pass found of the kernel.
    pub(super) fn kernel(
        &self,
        nics: BTreeMap<Mac, Unready>,
        filter: Option<Unready>,
        lingering: BTreeMap<IpAddr, String>,
        bound: BTreeSet<IpAddr>,
    ) {
        let mut report = self.report.write().unwrap_or_else(PoisonError::into_inner);
        (report.nics, report.filter, report.lingering, report.bound) = (nics, filter, lingering, Some(bound));
    }

    /// What own VIPs there are: all of them, or those among `vips`.
    pub(super) fn own(&self, mut own: BTreeMap<Prefix, Registration>, vips: Option<&BTreeSet<Prefix>>) {
        let mut report = self.report.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(vips) = vips {
            own.retain(|vip, _| vips.contains(vip));
            report.own.retain(|vip, _| !vips.contains(vip));
            own.append(&mut report.own);
        }
        report.own = own;
    }

    /// What a pass found of these VIPs in the speaker.
    pub(super) fn speaker(&self, vips: &BTreeSet<Prefix>, found: Speaker) {
        let mut report = self.report.write().unwrap_or_else(PoisonError::into_inner);
        for vip in vips {
            report.closed.remove(vip);
            report.announced.remove(vip);
            report.refused.remove(vip);
        }
        report.closed.extend(found.closed);
        report.announced.extend(found.announced);
        report.refused.extend(found.refused);
        report.speaker = found.absent;
    }

    /// The kernel's part of `generation` is dealt with.
    pub(super) fn reached(&self, generation: u64) {
        self.generation.send_if_modified(|g| std::mem::replace(g, (*g).max(generation)) < generation);
    }

    /// A pass is over.
    pub(super) fn pass_over(&self) {
        self.passes.send_modify(|n| *n += 1);
    }
}

impl Converge {
    /// What a pass over everything found of the kernel.
    pub(super) fn report_kernel(&self, want: &Want, have: &Have) {
        let nics = self.failed.iter().map(|(mac, why)| (*mac, why.clone())).collect();
        let mut lingering = self.stuck.clone();
        if let Some(link) = &self.link {
            let why = match have.announced {
                None => format!("it may still be announced: {}", link.state().why()),
                Some(_) => self.holder.clone().unwrap_or_default(),
            };
            lingering.extend(kept(want, have).map(|a| (a.ip, why.clone())));
        }
        let bound = have.addresses.iter().filter(|a| a.device == Device::Lo).map(|a| a.ip).collect();
        self.teller.kernel(nics, self.filter.clone(), lingering, bound);
    }
}

impl Progress {
    /// Looks at the report; `look` must be short.
    pub fn read<T>(&self, look: impl FnOnce(&Report) -> T) -> T {
        look(&self.report.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The commits whose part of the kernel is dealt with.
    #[must_use]
    pub fn generations(&self) -> watch::Receiver<u64> {
        self.generation.clone()
    }

    /// Counts the passes that are over.
    #[must_use]
    pub fn passes(&self) -> watch::Receiver<u64> {
        self.passes.clone()
    }

    /// Waits for a pass that has seen `generation` and has dealt with the kernel's part of it.
    pub async fn reached(&self, generation: u64) {
        // An error means that the task is gone, and with it the agent.
        let _ = self.generation.clone().wait_for(|g| *g >= generation).await;
    }

    /// Waits, over passes, until `settled` says of the report that there is nothing more to wait for.
    pub async fn until(&self, settled: impl Fn(&Report) -> bool) {
        let mut passes = self.passes();
        while !self.read(&settled) && passes.changed().await.is_ok() {}
    }
}

#[cfg(test)]
mod tests {
    use bgp::NextHop;

    use super::*;
    use crate::state::Server;

    fn own(vips: &[u8]) -> BTreeMap<Prefix, Registration> {
        let nexthop = NextHop::try_from(IpAddr::from([192, 0, 2, 11])).unwrap();
        let of = |last: &u8| {
            let vip = Prefix::try_from(IpAddr::from([203, 0, 113, *last])).unwrap();
            (vip, Registration { vip, nexthop, server: Server::EndPoint, peer: None })
        };
        vips.iter().map(of).collect()
    }

    #[test]
    fn a_pass_over_a_few_vips_tells_which_of_them_are_listeners_and_leaves_the_others() {
        let (teller, progress) = channel();
        let told = |vips: &[u8]| progress.read(|report| report.own == own(vips));
        teller.own(own(&[1, 2]), None);
        assert!(told(&[1, 2]));
        // 2 has been registered, 3 is not registered any more; of 4 and 1 the pass knows nothing.
        teller.own(own(&[3, 4]), Some(&own(&[2, 3]).into_keys().collect()));
        assert!(told(&[1, 3]));
        teller.own(own(&[4]), None);
        assert!(told(&[4]));
    }
}
