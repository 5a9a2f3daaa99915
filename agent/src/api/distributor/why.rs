//! `GET /1.0/distributor/why/{vip}`: what decides whether a VIP is announced, and what that is founded on.

use std::{
    net::IpAddr,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
};
use bgp::{Attributes, Prefix};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    drain, notes,
    route::{self, Route},
};
use crate::{
    api::{
        App,
        error::{ApiError, Fault, Status},
    },
    health::{Shown, gate::Gate, vip::Decision},
    state::VipMode,
};

/// One condition of the announcement.
#[derive(Debug, Serialize, ToSchema)]
pub struct GateView {
    gate: Gate,
    /// `true` is in order; null while it is not known.
    open: Option<bool>,
    /// What that is founded on.
    evidence: String,
    /// Since when it has been so, in seconds since 1970.
    since: u64,
}

/// What shall become of the announcement, by the gates alone.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It shall be announced.
    Announce,
    /// It shall be announced as the last choice of every router (`last_resort = worse`).
    Worse,
    /// It stays as it is.
    Hold,
    /// It shall not be announced.
    Withdraw,
}

/// BGP attributes of a route.
#[derive(Debug, Serialize, ToSchema)]
pub struct AttributesView {
    /// `N:N`
    communities: Vec<String>,
    /// `MULTI_EXIT_DISC`; lower wins.
    med: Option<u32>,
    /// `LOCAL_PREF`, for internal peers; higher wins.
    local_pref: Option<u32>,
    /// How much longer `AS_PATH` is than it need be, for external peers; shorter wins.
    prepend: u8,
}

impl From<Attributes> for AttributesView {
    fn from(of: Attributes) -> Self {
        let communities = of.communities.iter().map(ToString::to_string).collect();
        Self { communities, med: of.med, local_pref: of.local_pref, prepend: of.prepend }
    }
}

/// Why a VIP is announced, or is not.
#[derive(Debug, Serialize, ToSchema)]
pub struct Why {
    #[schema(value_type = String)]
    vip_ip: IpAddr,
    /// The speaker sends it to a peer.
    announced: bool,
    /// It should be announced and no peer is sent it, as the route has it; so is a VIP that ought to have a route and has none.
    degraded: bool,
    /// What the gates say; null where they have no say: `announce = api`, another amphora's, or another `vip_mode`.
    verdict: Option<Verdict>,
    /// Why it is not announced, or not heard by every peer, or as the last resort only; absent when all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Each gate, in the order in which a closed one explains those after it.
    gates: Vec<GateView>,
    /// What it is announced with now, read back from the speaker, besides what each peer's section adds; absent while it
    /// is not announced.
    #[serde(skip_serializing_if = "Option::is_none")]
    attributes: Option<AttributesView>,
    /// What is no gate and still worth knowing: who will not reach the VIP although it is announced. Absent when there is
    /// nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
    /// The route, as the list of amphorae has it; absent while there is nothing that could be announced.
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<Route>,
}

/// Why a VIP is announced, or is not.
#[utoipa::path(
    get, path = "/1.0/distributor/why/{vip}", operation_id = "why", tag = "Distributor API",
    params(("vip" = String, Path, description = "The VIP")),
    responses(
        (status = 200, body = Why),
        (status = 400, description = "No IP address", body = Fault),
        (status = 404, description = "Neither plugged nor registered", body = Fault),
    ))]
pub async fn why(State(app): State<App>, vip: Result<Path<String>, PathRejection>) -> Result<Json<Why>, ApiError> {
    let text = vip.map(|Path(vip)| vip).unwrap_or_default();
    let no_address = || ApiError::new(Status::BadRequest, "vip is not an IP address", format!("it is `{text}`"));
    let vip: IpAddr = text.parse().map_err(|_| no_address())?;
    let prefix = Prefix::try_from(vip).map_err(|_| no_address())?;
    let plug = app.owner.shared().read(|desired| desired.plug_of(vip).cloned());
    let mode = plug.as_ref().map(|plug| plug.mode);
    let route = route::list(&app, Some(vip), |_| true).await.pop();
    if mode.is_none() && route.is_none() {
        let fix = format!("POST /1.0/plug/vip/{vip} plugs it, POST /1.0/distributor/amphorae registers it");
        return Err(ApiError::new(Status::NotFound, "The VIP is neither plugged nor registered", fix));
    }
    let judged = app.gates.borrow().0.get(&vip).cloned();
    let verdict = judged.as_ref().map(|judged| match &judged.decision {
        Decision::Announce => Verdict::Announce,
        Decision::Worse(_) => Verdict::Worse,
        Decision::Hold(_) => Verdict::Hold,
        Decision::Withdraw(_) => Verdict::Withdraw,
    });
    let (announced, looked) = app.progress.read(|report| (report.announced.contains(&prefix), report.bound.is_some()));
    let reason = route.as_ref().and_then(Route::reason).or_else(|| match mode {
        Some(mode) if mode != VipMode::Anycast || route.is_none() => {
            Some(route::missing(mode, app.policy.gated, app.speaker.is_some(), looked).to_owned())
        }
        Some(VipMode::Anycast) if matches!(verdict, Some(Verdict::Worse)) => app.gates.borrow().why(vip),
        _ => None,
    });
    let drain = app.owner.shared().read(|desired| desired.drains.get(&prefix).cloned()).map(|drain| {
        let still_bound = app.progress.read(|report| crate::drain::still_bound(&drain, report));
        let (open, evidence) = drain::evidence(&drain, app.drains.of(&prefix).as_ref(), still_bound.as_deref());
        GateView { gate: Gate::Drain, open: Some(open), evidence, since: drain.since }
    });
    let judged = judged.into_iter().flat_map(|judged| judged.gates).map(view);
    let gates = drain.into_iter().chain(judged).collect();
    let attributes = match &app.speaker {
        Some(speaker) => speaker.attributes(prefix).await.map(AttributesView::from),
        None => None,
    };
    let notes = notes::of(&app, vip, plug.as_ref()).await;
    let degraded = route::is_missing(route.as_ref(), mode, app.policy.gated);
    Ok(Json(Why { vip_ip: vip, announced, degraded, verdict, reason, gates, attributes, notes, route }))
}

fn view(shown: Shown) -> GateView {
    let Shown { gate, open, evidence, since } = shown;
    GateView { gate, open, evidence, since: seconds(since) }
}

/// A moment on the wall's clock as it goes now, in seconds since 1970.
fn seconds(at: Instant) -> u64 {
    let then = SystemTime::now().checked_sub(at.elapsed());
    then.and_then(|then| then.duration_since(UNIX_EPOCH).ok()).map_or(0, |since| since.as_secs())
}
