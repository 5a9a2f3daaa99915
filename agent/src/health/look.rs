//! What can be known at once of the VIPs' gates: from the kernel, and from whoever runs haproxy.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    path::Path,
    time::{Duration, Instant},
};

use netns::{Address, Link, Mac};

use super::{
    binds::Binds,
    gate::{Gate, Reading, Verdict},
    stopping::Stopping,
};
use crate::{
    api::error::with_causes,
    keepalivedlvs::{self, table},
    kernel::Kernel,
    loadbalancers::LbId,
    pulse::Pulse,
    services::{ServiceError, ServiceName, Services, Status},
};

/// How often the services are asked although nothing was heard of them.
const RESYNC: Duration = Duration::from_secs(5);

/// A VIP to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The VIP.
    pub vip: IpAddr,
    /// The front-end NIC.
    pub nic: Mac,
    /// The front-end gateway of the VIP's family.
    pub gateway: Option<IpAddr>,
}

/// What was found, by VIP.
pub(super) type Readings = BTreeMap<IpAddr, BTreeMap<Gate, Reading>>;

/// Looks, and keeps what is dear to ask for.
#[derive(Debug)]
pub(super) struct Looker {
    kernel: Kernel,
    services: Services,
    stopping: Stopping,
    binds: Binds,
    statuses: BTreeMap<LbId, Result<Status, String>>,
    asked: Option<Instant>,
}

impl Looker {
    pub(super) fn new(kernel: Kernel, services: Services, stopping: Stopping) -> Self {
        Self { kernel, services, stopping, binds: Binds::default(), statuses: BTreeMap::new(), asked: None }
    }

    /// Something was heard of the services: they are to be asked again.
    pub(super) fn forget_statuses(&mut self) {
        self.asked = None;
    }

    /// The load balancers that bind `vip`.
    pub(super) fn lbs(&self, vip: IpAddr) -> impl Iterator<Item = &LbId> {
        self.binds.of(vip)
    }

    /// The load balancers of `vip` whose haproxy runs, and its process.
    pub(super) fn running(&self, vip: IpAddr) -> impl Iterator<Item = (&LbId, u32)> {
        self.binds.of(vip).filter_map(|lb| match self.statuses.get(lb) {
            Some(Ok(Status::Active { pid, .. })) => Some((lb, *pid)),
            _ => None,
        })
    }

    /// Looks at all of them.
    pub(super) async fn look(&mut self, base: &Path, subjects: &[Subject], pulse: &Pulse) -> Readings {
        self.refresh(base, pulse).await;
        pulse.works();
        let inside = self.kernel.inside();
        let (links, addresses) = (inside.links().await, inside.addresses().await);
        let listening: Result<BTreeSet<IpAddr>, _> =
            inside.namespace().listening().map(|sockets| sockets.into_iter().map(|socket| socket.ip()).collect());
        let lvs = self.lvs(base);
        let unknown = |error: &netns::Error| Reading::new(Verdict::Unknown, with_causes(error));
        let of = |subject: &Subject| {
            let vip = subject.vip;
            let by_lvs = lvs.as_ref().is_ok_and(|vips| vips.contains(&vip));
            let listener = match (&listening, &lvs) {
                (Ok(sockets), _) if sockets.contains(&vip) => {
                    Reading::new(Verdict::Pass, format!("a socket listens on {vip}"))
                }
                _ if by_lvs => Reading::new(Verdict::Pass, format!("LVS has a service on {vip}")),
                (Err(error), _) => unknown(error),
                (_, Err(error)) => Reading::new(Verdict::Unknown, format!("LVS cannot be read: {error}")),
                _ => Reading::new(
                    Verdict::Fail,
                    format!("no socket listens on {vip} itself, and LVS has no service on it"),
                ),
            };
            let bound = addresses.as_ref().map_or_else(unknown, |all| is_bound(vip, all, &links));
            let carrier = links.as_ref().map_or_else(unknown, |all| has_carrier(subject.nic, all));
            let gates = [
                (Gate::Process, self.process(vip, by_lvs)),
                (Gate::Listener, listener),
                (Gate::Bound, bound),
                (Gate::Carrier, carrier),
            ];
            (vip, gates.into())
        };
        subjects.iter().map(of).collect()
    }

    async fn refresh(&mut self, base: &Path, pulse: &Pulse) {
        let (binds, from) = (self.binds.clone(), base.to_owned());
        match tokio::task::spawn_blocking(move || binds.refresh(&from)).await {
            Ok(Ok(binds)) => self.binds = binds,
            Ok(Err(error)) => tracing::warn!(%error, "the load balancers' configurations cannot be read"),
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
        let known = self.statuses.keys().eq(self.binds.all());
        if known && self.asked.is_some_and(|at| at.elapsed() < RESYNC) {
            return;
        }
        self.asked = Some(Instant::now());
        let mut statuses = BTreeMap::new();
        for lb in self.binds.all() {
            pulse.works();
            let status = match self.services.status(&ServiceName::haproxy(lb)).await {
                Err(ServiceError::Unknown(_)) => Ok(Status::Inactive),
                status => status.map_err(|error| with_causes(&error)),
            };
            statuses.insert(lb.clone(), status);
        }
        self.statuses = statuses;
    }

    /// Of the load balancers that bind a VIP one is enough. What nobody binds may still be served, by a program that the
    /// API knows nothing of.
    fn process(&self, vip: IpAddr, by_lvs: bool) -> Reading {
        let mut all = self.binds.of(vip).map(|lb| self.process_of(lb)).collect::<Vec<_>>();
        all.sort_by_key(|reading| match reading.verdict {
            Verdict::Pass => 0,
            Verdict::Unknown => 1,
            Verdict::Off => 2,
            Verdict::Fail => 3,
        });
        match all.into_iter().next() {
            None => Reading::new(Verdict::Pass, "no load balancer binds the VIP: its socket alone counts"),
            Some(Reading { verdict: Verdict::Off, evidence }) if by_lvs => {
                Reading::new(Verdict::Pass, format!("{evidence}; LVS serves on"))
            }
            Some(first) => first,
        }
    }

    fn process_of(&self, lb: &LbId) -> Reading {
        if self.stopping.contains(lb) {
            return Reading::new(Verdict::Off, format!("haproxy of {lb} is being stopped by a call"));
        }
        let status = self.statuses.get(lb);
        if let Some(Ok(Status::Starting | Status::Failed { .. })) = status
            && let Some(why) = self.binds.missing(lb)
        {
            return Reading::new(Verdict::Fail, format!("haproxy of {lb} cannot start: {why}"));
        }
        match status {
            Some(Ok(Status::Active { pid, .. })) => {
                Reading::new(Verdict::Pass, format!("haproxy of {lb} runs as process {pid}"))
            }
            Some(Ok(Status::Starting)) => Reading::new(Verdict::Fail, format!("haproxy of {lb} is being started")),
            Some(Ok(Status::Inactive)) => Reading::new(Verdict::Off, format!("haproxy of {lb} is stopped")),
            Some(Ok(Status::Failed { why })) => {
                Reading::new(Verdict::Fail, format!("haproxy of {lb} has failed: {why}"))
            }
            Some(Err(why)) => Reading::new(Verdict::Unknown, why.clone()),
            None => Reading::new(Verdict::Unknown, format!("haproxy of {lb} has not been asked for yet")),
        }
    }

    /// The VIPs the kernel's IPVS has a service on.
    fn lvs(&self, base: &Path) -> io::Result<BTreeSet<IpAddr>> {
        if !keepalivedlvs::files::directory(base).is_dir() {
            return Ok(BTreeSet::new());
        }
        let table = table::read(self.kernel.inside().namespace())?;
        Ok(table.into_keys().map(|(_, at)| at.ip()).collect())
    }
}

fn is_bound(vip: IpAddr, addresses: &[Address], links: &netns::Result<Vec<Link>>) -> Reading {
    let on_lo = |address: &&Address| {
        let lo = links.iter().flatten().find(|link| link.loopback);
        address.ip == vip && lo.is_some_and(|lo| lo.index == address.index)
    };
    match addresses.iter().find(on_lo) {
        Some(_) => Reading::new(Verdict::Pass, format!("{vip} is on lo")),
        // It is not there before it is plugged in full, and the converging task puts it back: nobody's failure.
        None => Reading::new(Verdict::Off, format!("{vip} is not on lo")),
    }
}

fn has_carrier(nic: Mac, links: &[Link]) -> Reading {
    match links.iter().find(|link| link.mac == Some(nic) && !link.loopback) {
        Some(link) if link.up && link.carrier => Reading::new(Verdict::Pass, format!("{} has a carrier", link.name)),
        Some(link) if link.up => Reading::new(Verdict::Fail, format!("{} has no carrier", link.name)),
        Some(link) => Reading::new(Verdict::Fail, format!("{} is down", link.name)),
        None => Reading::new(Verdict::Fail, format!("no NIC with MAC {nic} is in the namespace")),
    }
}
