//! Whether a VIP of this amphora's is fit to be announced (`announce = listener`).
//!
//! The boundary is here so that judging is apart from looking: [`vip`] decides from readings, without clock or
//! kernel; [`look`] and [`ask`] find the readings; the task brings the two together and hands the decisions to the
//! converging task, which alone acts on them. It judges the VIPs that are plugged, whether anybody announces them or
//! not, so that a registration too meets gates that are known.

mod ask;
mod binds;
pub mod damping;
pub mod gate;
pub mod look;
pub mod stopping;
mod task;
mod transitions;
pub mod vip;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use crate::{converge::Progress, loadbalancers::LbId};
use gate::Gate;
use stopping::{Call, Stopping};
pub use task::Health;
use vip::Decision;

/// How long a haproxy that is to be stopped waits for its VIPs to be withdrawn.
const WITHDRAWAL: Duration = Duration::from_secs(1);

/// A gate as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Which.
    pub gate: Gate,
    /// Open, closed, or not known yet.
    pub open: Option<bool>,
    /// What that is founded on.
    pub evidence: String,
    /// Since when it has been so.
    pub since: Instant,
}

/// A VIP as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// What shall become of its announcement.
    pub decision: Decision,
    /// Its gates, in their order.
    pub gates: Vec<Shown>,
    /// The load balancers that bind it.
    pub lbs: Vec<LbId>,
    /// One of them is being stopped by a call.
    pub leaving: bool,
    /// Somebody serves it, or should: it is not announced for want of a listener that anybody asked for, otherwise.
    pub wanted: bool,
    /// How often each gate has opened or closed since it was first known.
    pub transitions: BTreeMap<Gate, u64>,
}

/// The VIPs of this amphora, judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gates(pub BTreeMap<IpAddr, Judged>);

impl Gates {
    /// What shall become of a VIP's announcement; one that nobody has looked at stays as it is.
    #[must_use]
    pub fn decision(&self, vip: IpAddr) -> Decision {
        let unknown = || Decision::Hold("its gates have not been looked at yet".to_owned());
        self.0.get(&vip).map_or_else(unknown, |judged| judged.decision.clone())
    }

    /// Why a VIP is not to be announced now, or as the last resort only, by its gates; `None` where it is, or where it
    /// has none.
    #[must_use]
    pub fn why(&self, vip: IpAddr) -> Option<String> {
        match &self.0.get(&vip)?.decision {
            Decision::Announce => None,
            Decision::Worse(why) | Decision::Hold(why) | Decision::Withdraw(why) => Some(why.clone()),
        }
    }

    /// The VIPs of which something else shall become than `before`; a word of a reason is nothing else.
    #[must_use]
    pub fn changed(&self, before: &Self) -> Vec<IpAddr> {
        let kind = |judged: &Judged| (std::mem::discriminant(&judged.decision), judged.leaving);
        let of = |gates: &Self, vip| gates.0.get(vip).map(kind);
        let all = self.0.keys().chain(before.0.keys().filter(|vip| !self.0.contains_key(vip)));
        all.filter(|vip| of(self, vip) != of(before, vip)).copied().collect()
    }
}

/// The reading end. The receiver wakes when a decision changes, and shows evidence that is newer than that.
pub type Watch = watch::Receiver<Arc<Gates>>;

/// Both ends, with nothing judged.
#[must_use]
pub fn channel() -> (watch::Sender<Arc<Gates>>, Watch) {
    watch::channel(Arc::new(Gates::default()))
}

/// What those who stop haproxy need of it.
#[derive(Clone, Debug)]
pub struct Leaver {
    gates: Watch,
    stopping: Stopping,
    progress: Progress,
}

impl Leaver {
    /// With what the task was made of.
    #[must_use]
    pub fn new(gates: Watch, stopping: Stopping, progress: Progress) -> Self {
        Self { gates, stopping, progress }
    }

    /// Has the VIPs withdrawn that nobody but `lb` serves, so that no client comes to a socket that is gone. Waits a second at
    /// most: the call is to stop haproxy, whatever becomes of the speaker. Until the result is dropped the VIPs stay away.
    pub async fn leave(&self, lb: &LbId) -> Call {
        let call = self.stopping.begin(lb);
        let of = |judged: &&Judged| judged.lbs.contains(lb);
        let mut gates = self.gates.clone();
        let gone = async {
            // An error means that the agent ends.
            let _ = gates.wait_for(|gates| gates.0.values().filter(of).all(|judged| judged.leaving)).await;
            let announced = |judged: &Judged| matches!(judged.decision, Decision::Announce | Decision::Worse(_));
            let withdrawn = |(vip, judged): (&IpAddr, &Judged)| (!announced(judged)).then_some(*vip);
            let mine: Vec<_> =
                self.gates.borrow().0.iter().filter(|(_, judged)| of(judged)).filter_map(withdrawn).collect();
            self.progress.until(|report| !report.announced.iter().any(|p| mine.contains(&p.address()))).await;
        };
        if tokio::time::timeout(WITHDRAWAL, gone).await.is_err() {
            tracing::warn!(%lb, "haproxy is stopped although its VIPs may still be announced");
        }
        call
    }
}
