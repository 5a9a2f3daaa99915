//! A registration as the API shows it: what was asked for beside what is really advertised.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use bgp::{PeerId, Prefix};
use serde::Serialize;
use utoipa::ToSchema;

use super::drain;
use crate::{
    api::App,
    converge::Report,
    drain::still_bound,
    resolve,
    state::{Registration, Server, Stage, VipMode},
};

/// How far a registration has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ProvisioningStatus {
    /// Held; not announced yet, and `reason` says why.
    PendingCreate,
    /// The speaker announces it.
    Active,
    /// The speaker refused it; `reason` has its words. The agent goes on trying.
    Error,
    /// Unregistered; not withdrawn yet.
    PendingDelete,
}

/// Whether its peers hear of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OperatingStatus {
    /// Every peer it is for does.
    Online,
    /// Some do.
    Degraded,
    /// None does.
    Offline,
}

/// One route of an amphora or an end point.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Route {
    /// Who serves it; absent for an end point that is no amphora.
    #[serde(skip_serializing_if = "Option::is_none")]
    amphora_id: Option<String>,
    #[schema(value_type = String)]
    vip_ip: IpAddr,
    /// The VIP as a host route.
    prefix: String,
    #[schema(value_type = String)]
    nexthop_ip: IpAddr,
    /// The only peer it is for; null for all of them.
    #[schema(value_type = Option<String>)]
    peer_id: Option<PeerId>,
    /// What asked for it: `api` (a call), or `listener` (`[distributor] announce = listener`).
    origin: &'static str,
    provisioning_status: ProvisioningStatus,
    operating_status: OperatingStatus,
    /// The peers it is sent to, read back from the speaker.
    #[schema(value_type = Vec<String>)]
    advertised_to: Vec<PeerId>,
    /// It should be announced, and no peer is sent it. Not so while it is drained or unregistered, or where nobody wants it
    /// announced: nothing listens on it, or its load balancer was stopped.
    degraded: bool,
    /// What keeps it from being announced or heard by every peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// How far its drain has come; absent when it is not being drained.
    #[serde(skip_serializing_if = "Option::is_none")]
    drain: Option<drain::Progress>,
}

/// What an unregistration came to.
#[derive(Debug, Serialize, ToSchema)]
pub struct Unregistered {
    /// How many routes it was for.
    routes: usize,
    /// `PENDING_DELETE` while one of them may still be announced; absent when all are withdrawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    provisioning_status: Option<ProvisioningStatus>,
}

impl Unregistered {
    pub(super) fn new(routes: usize, withdrawn: bool) -> Self {
        Self { routes, provisioning_status: (!withdrawn).then_some(ProvisioningStatus::PendingDelete) }
    }
}

/// What the speaker sends to each peer.
pub(super) type Advertised = BTreeMap<PeerId, BTreeSet<Prefix>>;

impl Route {
    fn new(r: &Registration, status: ProvisioningStatus, reason: Option<String>) -> Self {
        Self {
            amphora_id: match &r.server {
                Server::Amphora(id) => Some(id.clone()).filter(|id| !id.is_empty()),
                Server::EndPoint => None,
            },
            vip_ip: r.vip.address(),
            prefix: r.vip.to_string(),
            nexthop_ip: r.nexthop.address(),
            peer_id: r.peer.clone(),
            origin: "api",
            provisioning_status: status,
            operating_status: OperatingStatus::Offline,
            advertised_to: Vec::new(),
            degraded: status != ProvisioningStatus::PendingDelete,
            reason,
            drain: None,
        }
    }

    /// As the last pass left it; a change that no pass has seen yet is pending.
    pub(super) fn reported(r: &Registration, report: &Report, announced: &BTreeSet<Prefix>) -> Self {
        if let Some(why) = report.closed.get(&r.vip) {
            return Self::new(r, ProvisioningStatus::PendingCreate, Some(why.clone()));
        }
        if let Some(why) = &report.speaker {
            return Self::new(r, ProvisioningStatus::PendingCreate, Some(why.clone()));
        }
        if report.announced.contains(&r.vip) && announced.contains(&r.vip) {
            return Self::new(r, ProvisioningStatus::Active, None);
        }
        match report.refused.get(&r.vip) {
            Some(why) => Self::new(r, ProvisioningStatus::Error, Some(why.clone())),
            None => Self::new(r, ProvisioningStatus::PendingCreate, Some("the speaker is being told".to_owned())),
        }
    }

    /// What keeps it from being announced or heard by every peer.
    pub(super) fn reason(&self) -> Option<String> {
        self.reason.clone()
    }

    /// Which VIP, by which next hop.
    pub(super) fn way(&self) -> (IpAddr, IpAddr) {
        (self.vip_ip, self.nexthop_ip)
    }

    /// How far it has come.
    pub(super) fn provisioning(&self) -> ProvisioningStatus {
        self.provisioning_status
    }

    /// The peers it is sent to.
    pub(super) fn hearers(&self) -> &[PeerId] {
        &self.advertised_to
    }

    /// How far it is being taken out of service.
    pub(super) fn drain_stage(&self) -> Option<Stage> {
        self.drain.as_ref().map(drain::Progress::stage)
    }

    /// It should be announced, and no peer is sent it.
    pub(super) fn is_degraded(&self) -> bool {
        self.degraded
    }

    /// One that nobody registered.
    fn of_listener(mut self) -> Self {
        self.origin = "listener";
        self
    }

    /// With what the peers are sent beside it.
    fn with_peers(mut self, prefix: Prefix, peers: &[PeerId], advertised: &Advertised) -> Self {
        let hears = |peer: &&PeerId| advertised.get(*peer).is_some_and(|sent| sent.contains(&prefix));
        let audience: Vec<&PeerId> =
            peers.iter().filter(|p| self.peer_id.as_ref().is_none_or(|only| only == *p)).collect();
        self.advertised_to = peers.iter().filter(hears).cloned().collect();
        self.degraded &= self.drain.is_none() && self.advertised_to.is_empty();
        let deaf: Vec<&str> = audience.iter().filter(|p| !hears(p)).map(|p| p.as_str()).collect();
        self.operating_status = match deaf.len() {
            0 if !audience.is_empty() => OperatingStatus::Online,
            n if n < audience.len() => OperatingStatus::Degraded,
            _ => OperatingStatus::Offline,
        };
        if self.reason.is_none() && !deaf.is_empty() {
            let which = deaf.join(", ");
            self.reason = Some(format!("not sent to {which}: GET /1.0/distributor/peers shows its session"));
        }
        self
    }
}

/// Whether a VIP of that `vip_mode`, null where it is not plugged here, should be announced and is not.
pub(super) fn is_missing(route: Option<&Route>, mode: Option<VipMode>, gated: bool) -> bool {
    route.map_or(gated && mode == Some(VipMode::Anycast), Route::is_degraded)
}

/// Why a VIP that is plugged in that `vip_mode` has no route. `bgp` is configured; `looked` is whether the kernel has been
/// looked at, without which nobody knows the addresses of its NIC.
pub(super) fn missing(mode: VipMode, gated: bool, bgp: bool, looked: bool) -> &'static str {
    match mode {
        VipMode::Interface | VipMode::Noarp => {
            "it is plugged with another vip_mode than anycast, which is never announced"
        }
        VipMode::Anycast if !bgp => "BGP is not configured",
        VipMode::Anycast if !gated => "nobody has registered it (announce = api)",
        VipMode::Anycast if !looked => "the agent has just started and has not looked at the kernel yet",
        VipMode::Anycast => "the front-end NIC has no address of the VIP's family to be its next hop",
    }
}

/// What the speaker announces and what it sends to each peer, or why it does not tell.
pub(super) type Asked = Result<(BTreeSet<Prefix>, Advertised), String>;

/// Asks the speaker, for one VIP or all.
async fn asked(app: &App, vip: Option<IpAddr>) -> Asked {
    let only = vip.and_then(|ip| Prefix::try_from(ip).ok());
    match &app.speaker {
        Some(view) => view.advertised(only).await,
        None => Ok(Default::default()),
    }
}

/// The routes of every registration that `wanted` is true for, read back from the speaker now.
pub(super) async fn list(app: &App, vip: Option<IpAddr>, wanted: impl Fn(&Registration) -> bool) -> Vec<Route> {
    listed(app, vip, wanted, asked(app, vip).await)
}

/// All routes. A speaker that did not answer a moment ago, if that is `why`, is not asked again.
pub(super) async fn all(app: &App, why: Option<String>) -> Vec<Route> {
    let asked = match why {
        Some(why) => Err(why),
        None => asked(app, None).await,
    };
    listed(app, None, |_| true, asked)
}

fn listed(app: &App, vip: Option<IpAddr>, wanted: impl Fn(&Registration) -> bool, asked: Asked) -> Vec<Route> {
    let matches = |r: &&Registration| vip.is_none_or(|vip| r.vip.address() == vip) && wanted(r);
    let held: Vec<_> = app.owner.shared().read(|d| d.registrations.values().filter(matches).cloned().collect());
    let registered = |r: &&Registration| !held.iter().any(|other| other.vip == r.vip);
    let own: Vec<_> =
        app.progress.read(|report| report.own.values().filter(matches).filter(registered).cloned().collect());
    let leaving: Vec<_> = app.owner.shared().leaving(|l| l.values().filter(matches).cloned().collect());
    let (announced, advertised, why) = match asked {
        Ok((announced, advertised)) => (announced, advertised, None),
        Err(why) => (BTreeSet::new(), Advertised::new(), Some(why)),
    };
    let gates = app.gates.borrow().clone();
    let idle = |vip| gates.0.get(&vip).is_some_and(|judged| !judged.wanted);
    let (drains, own_idle) = app.owner.shared().read(|d| {
        let vips = d.plugs.values().flat_map(|plug| &plug.vips).map(|vip| vip.ip);
        (d.drains.clone(), vips.filter(|vip| d.silenced || app.policy.gated && idle(*vip)).collect::<BTreeSet<_>>())
    });
    app.progress.read(|report| {
        let registered = held.iter().map(|r| (r, Route::reported(r, report, &announced)));
        let of_listeners = own.iter().map(|r| (r, Route::reported(r, report, &announced).of_listener()));
        let shown = registered.chain(of_listeners).map(|(r, mut route)| {
            route.degraded &= !own_idle.contains(&r.vip.address());
            if let (Some(why), ProvisioningStatus::PendingCreate) = (&why, route.provisioning_status) {
                route.reason = Some(why.clone());
            }
            let drain = drains.get(&r.vip);
            route.drain = drain.map(|drain| drain::Progress::of(drain, &app.drains, report));
            // Newer than what the last pass met.
            if !announced.contains(&r.vip) {
                let drained = drain.filter(|drain| drain.stage != Stage::Deprefer);
                let drained = drained.map(|drain| resolve::drained(drain, still_bound(drain, report).as_deref()));
                route.reason = drained.or_else(|| gates.why(r.vip.address())).or(route.reason);
            }
            route.with_peers(r.vip, &app.policy.peers, &advertised)
        });
        let going = leaving.iter().map(|r| {
            let why = report.speaker.clone().unwrap_or_else(|| "the speaker is being told".to_owned());
            Route::new(r, ProvisioningStatus::PendingDelete, Some(why)).with_peers(
                r.vip,
                &app.policy.peers,
                &advertised,
            )
        });
        shown.chain(going).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registration() -> Registration {
        let [vip, hop] = ["203.0.113.7", "192.0.2.11"].map(|ip| ip.parse::<IpAddr>().unwrap());
        let (vip, nexthop) = (vip.try_into().unwrap(), hop.try_into().unwrap());
        Registration { server: Server::EndPoint, vip, nexthop, peer: None }
    }

    #[test]
    fn a_route_is_degraded_while_it_should_be_announced_and_nobody_hears_it() {
        let peers: Vec<PeerId> = ["a", "b"].map(|name| name.parse().unwrap()).to_vec();
        let seen = |status, heard: &[PeerId]| {
            let r = registration();
            let advertised = heard.iter().map(|peer| (peer.clone(), BTreeSet::from([r.vip]))).collect();
            Route::new(&r, status, None).with_peers(r.vip, &peers, &advertised)
        };
        assert!(seen(ProvisioningStatus::PendingCreate, &[]).degraded);
        assert!(seen(ProvisioningStatus::Active, &[]).degraded);
        assert!(!seen(ProvisioningStatus::Active, &peers[..1]).degraded, "its peer b is a matter of the sessions");
        assert!(!seen(ProvisioningStatus::PendingDelete, &[]).degraded);
        // Without a route: that of a VIP in another mode is never announced.
        assert!(is_missing(None, Some(VipMode::Anycast), true));
        for (mode, gated) in [(Some(VipMode::Interface), true), (Some(VipMode::Anycast), false), (None, true)] {
            assert!(!is_missing(None, mode, gated), "{mode:?}");
        }
    }
}
