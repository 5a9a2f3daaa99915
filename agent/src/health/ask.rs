//! What has to be asked for, at intervals, and may not be answered: haproxy's socket, its members, the gateway.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
    time::Duration,
};

use futures_util::future::join_all;
use netns::{Mac, Neighbour};
use tokio::time::Instant;

use super::gate::{Reading, Verdict};
use crate::{api::error::with_causes, config::Watermarks, heartbeat, kernel::Kernel, loadbalancers::LbId};

/// How often a gateway that is known is asked whether it is still there.
const PROBE: Duration = Duration::from_secs(2);
/// How long one that is not may take before the answer is left to the next round.
const FIRST: Duration = Duration::from_millis(100);

/// One round of questions.
#[derive(Clone, Debug)]
pub(super) struct Questions {
    pub(super) kernel: Kernel,
    pub(super) base: PathBuf,
    /// The load balancers whose haproxy runs, and its process.
    pub(super) lbs: BTreeMap<LbId, u32>,
    pub(super) gateways: BTreeSet<(Mac, IpAddr)>,
    /// The members count.
    pub(super) members: bool,
    /// Whatever has not answered by then has not.
    pub(super) until: Instant,
    /// When each gateway was last asked.
    pub(super) probed: BTreeMap<(Mac, IpAddr), Instant>,
}

/// The members of a load balancer that are up, and all that should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Members {
    pub(super) up: usize,
    pub(super) all: usize,
}

/// The answers to one round.
#[derive(Clone, Debug, Default)]
pub(super) struct Answers {
    /// The process that was asked, and why it did not answer, or its members where they count.
    pub(super) lbs: BTreeMap<LbId, (u32, Result<Option<Members>, String>)>,
    pub(super) gateways: BTreeMap<(Mac, IpAddr), Reading>,
    pub(super) probed: BTreeMap<(Mac, IpAddr), Instant>,
}

impl Questions {
    /// Asks them all at once.
    pub(super) async fn ask(self) -> Answers {
        let lbs = join_all(self.lbs.iter().map(|(lb, pid)| async { (lb.clone(), (*pid, self.haproxy(lb).await)) }));
        let gateways = join_all(self.gateways.iter().map(|gateway| async { (*gateway, self.gateway(*gateway).await) }));
        let (lbs, gateways) = tokio::join!(lbs, gateways);
        let probed = gateways.iter().filter_map(|(gateway, (_, at))| Some((*gateway, (*at)?))).collect();
        let gateways = gateways.into_iter().map(|(gateway, (reading, _))| (gateway, reading)).collect();
        Answers { lbs: lbs.into_iter().collect(), gateways, probed }
    }

    async fn haproxy(&self, lb: &LbId) -> Result<Option<Members>, String> {
        let command = if self.members { heartbeat::STATISTICS } else { "show info" };
        let socket = self.base.join(format!("{lb}.sock"));
        let answer = heartbeat::ask(&socket, command, self.until).await.map_err(|error| error.to_string())?;
        if self.members {
            return Ok(Some(count(&heartbeat::members(&answer)?)));
        }
        if answer.starts_with("Name:") { Ok(None) } else { Err(format!("it answers {:.80}", answer.trim_end())) }
    }

    /// What the kernel knows of a gateway, and when it was last made to ask.
    async fn gateway(&self, gateway: (Mac, IpAddr)) -> (Reading, Option<Instant>) {
        let last = self.probed.get(&gateway).copied();
        let (mac, ip) = gateway;
        match self.neighbour(mac, ip).await {
            Err(error) => (Reading::new(Verdict::Unknown, with_causes(&error)), last),
            Ok(Neighbour::Known) => {
                let mut asked = last;
                if last.is_none_or(|at| at.elapsed() >= PROBE) {
                    asked = Some(Instant::now());
                    if let Err(error) = self.probe(mac, ip).await {
                        tracing::debug!(error = &error as &dyn std::error::Error, "a gateway could not be asked");
                    }
                }
                (Reading::new(Verdict::Pass, format!("{ip} answers")), asked)
            }
            Ok(Neighbour::Failed) => {
                self.kernel.resolve(&[gateway]).await; // for the next round
                (Reading::new(Verdict::Fail, format!("{ip} answers no ARP or NDP")), None)
            }
            Ok(Neighbour::Unknown | Neighbour::Asking) => {
                (Reading::new(Verdict::Unknown, format!("{ip} is being asked for its MAC")), None)
            }
        }
    }

    /// The neighbour's state; one that was never asked for is, and given a moment.
    async fn neighbour(&self, mac: Mac, ip: IpAddr) -> netns::Result<Neighbour> {
        let index = self.kernel.index(mac).await?;
        let start = Instant::now();
        loop {
            match self.kernel.inside().neighbour(index, ip).await? {
                Neighbour::Unknown => self.kernel.inside().resolve(index, ip).await?,
                Neighbour::Asking => {}
                known => return Ok(known),
            }
            if start.elapsed() > FIRST {
                return Ok(Neighbour::Asking);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn probe(&self, mac: Mac, ip: IpAddr) -> netns::Result<()> {
        let index = self.kernel.index(mac).await?;
        self.kernel.inside().probe(index, ip).await
    }
}

/// Members in maintenance or draining are somebody's wish and no failure: they do not count.
fn count(statuses: &[String]) -> Members {
    let wanted = |status: &&String| !status.starts_with("MAINT") && !status.starts_with("DRAIN");
    let up = |status: &&String| status.starts_with("UP") || *status == "no check";
    let wanted: Vec<_> = statuses.iter().filter(wanted).collect();
    Members { up: wanted.iter().copied().filter(up).count(), all: wanted.len() }
}

/// What the members of all load balancers of a VIP say; `closed` is how the gate stands.
pub(super) fn judge(members: Members, marks: Watermarks, closed: bool) -> Reading {
    let Members { up, all } = members;
    if all == 0 {
        return Reading::new(Verdict::Pass, "there are no members that should be up");
    }
    let needed = if closed { marks.high } else { marks.low };
    let enough = up * 100 >= all * usize::from(needed);
    let verdict = if enough { Verdict::Pass } else { Verdict::Fail };
    Reading::new(verdict, format!("{up} of {all} members are up ({needed} % needed)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_nobody_wants_do_not_count() {
        let statuses = ["UP", "UP 1/3", "no check", "DOWN", "DOWN 1/2", "MAINT", "MAINT (via x)", "DRAIN"];
        assert_eq!(count(&statuses.map(ToOwned::to_owned)), Members { up: 3, all: 5 });
    }

    #[test]
    fn a_share_between_the_watermarks_changes_nothing() {
        let marks = Watermarks { low: 50, high: 75 };
        let pass = |up, closed| judge(Members { up, all: 4 }, marks, closed).verdict == Verdict::Pass;
        assert_eq!([1, 2, 3].map(|up| pass(up, false)), [false, true, true]);
        assert_eq!([1, 2, 3].map(|up| pass(up, true)), [false, false, true]);
        assert_eq!(judge(Members { up: 0, all: 0 }, marks, true).verdict, Verdict::Pass);
    }
}
