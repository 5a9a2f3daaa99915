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
    state::{Registration, Server, Stage},
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

    /// It is being taken out of service.
    pub(super) fn is_draining(&self) -> bool {
        self.drain.is_some()
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

/// The routes of every registration that `wanted` is true for, read back from the speaker now.
pub(super) async fn list(app: &App, vip: Option<IpAddr>, wanted: impl Fn(&Registration) -> bool) -> Vec<Route> {
    let matches = |r: &&Registration| vip.is_none_or(|vip| r.vip.address() == vip) && wanted(r);
    let held: Vec<_> = app.owner.shared().read(|d| d.registrations.values().filter(matches).cloned().collect());
    let registered = |r: &&Registration| !held.iter().any(|other| other.vip == r.vip);
    let own: Vec<_> =
        app.progress.read(|report| report.own.values().filter(matches).filter(registered).cloned().collect());
    let leaving: Vec<_> = app.owner.shared().leaving(|l| l.values().filter(matches).cloned().collect());
    let only = vip.and_then(|ip| Prefix::try_from(ip).ok());
    let (announced, advertised, why) = match &app.speaker {
        Some(view) => match view.advertised(only).await {
            Ok((announced, advertised)) => (announced, advertised, None),
            Err(why) => (BTreeSet::new(), Advertised::new(), Some(why)),
        },
        None => Default::default(),
    };
    let gates = app.gates.borrow().clone();
    let drains = app.owner.shared().read(|d| d.drains.clone());
    app.progress.read(|report| {
        let registered = held.iter().map(|r| (r, Route::reported(r, report, &announced)));
        let of_listeners = own.iter().map(|r| (r, Route::reported(r, report, &announced).of_listener()));
        let shown = registered.chain(of_listeners).map(|(r, mut route)| {
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
