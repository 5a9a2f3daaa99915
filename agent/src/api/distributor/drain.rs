//! `/1.0/distributor/amphorae/{amphora_id}/drain` and `/undrain`.

use std::net::IpAddr;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use bgp::Prefix;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::check;
use crate::{
    api::{
        App, body,
        error::{ApiError, Fault, Status},
    },
    clock,
    converge::Report,
    crash,
    drain::{Observed, View, machine::SETTLE, still_bound, told},
    owner::{Decision, Refusal},
    resolve::{self, Policy},
    state::{self, Change, Desired, Server, Stage, VipMode},
};

/// The longest that connections are waited for, in seconds: a week.
const LONGEST: u32 = 7 * 86_400;

/// What a drain is to wait for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    /// How long connections are waited for at most, in seconds; a week at most. 0 waits for none.
    #[schema(minimum = 0, maximum = 604_800, example = 300)]
    timeout_s: u32,
    /// So many connections are not waited for.
    #[schema(minimum = 0, example = 0)]
    max_connections: u32,
    /// Only this VIP; all of the amphora's otherwise.
    #[schema(value_type = Option<String>, example = "203.0.113.7")]
    vip_ip: Option<String>,
}

/// What is to be drained no more.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Undrain {
    /// Only this VIP; all of the amphora's otherwise.
    #[schema(value_type = Option<String>, example = "203.0.113.7")]
    vip_ip: Option<String>,
}

/// How far a drain has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Progress {
    /// `drained` is told when the VIP is unbound.
    stage: Stage,
    /// When it came there, or was to (RFC 3339).
    since: String,
    /// When connections are waited for no longer (RFC 3339).
    deadline: String,
    /// Connections of clients that are left; null where nobody can know (another amphora's, or before the first look), and
    /// when they are waited for no more.
    connections: Option<u64>,
    /// What keeps the VIP bound although no connection is waited for any more, as a peer that may hold its route; absent
    /// otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    still_bound: Option<String>,
    /// So many are not waited for.
    max_connections: u32,
    /// How long connections are waited for, in seconds from the call on.
    timeout_s: u32,
}

impl Progress {
    /// As it is told.
    pub(super) fn stage(&self) -> Stage {
        self.stage
    }

    /// As it is known now.
    pub(super) fn of(drain: &state::Drain, view: &View, report: &Report) -> Self {
        let seen = view.of(&drain.vip);
        let deadline = seen.as_ref().map_or(drain.deadline, |seen| seen.deadline(drain));
        Self {
            stage: told(drain, report),
            since: clock::rfc3339(drain.since),
            deadline: clock::rfc3339(deadline),
            connections: seen.and_then(|seen| seen.connections),
            still_bound: still_bound(drain, report),
            max_connections: drain.max_connections,
            timeout_s: drain.timeout_s,
        }
    }
}

/// A VIP of an amphora, and its drain.
#[derive(Debug, Serialize, ToSchema)]
pub struct DrainedVip {
    #[schema(value_type = String)]
    vip_ip: IpAddr,
    /// Null: it is not being drained.
    drain: Option<Progress>,
}

/// The VIPs of an amphora that a call was for.
#[derive(Debug, Serialize, ToSchema)]
pub struct Drains {
    amphora_id: String,
    vips: Vec<DrainedVip>,
}

/// Drain an amphora: have its clients go to the others, withdraw it, unbind its VIPs.
///
/// 202 when it is durable; the list of amphorae shows how far it has come. First the route is made less preferred
/// (`GRACEFUL_SHUTDOWN`, one AS path prepend, `LOCAL_PREF` 0). It is withdrawn when no new client has come for 5 s and
/// `max_connections` or fewer are left, or after `timeout_s` whatever comes; while new clients come nobody else is there
/// for them. Where all amphorae of a VIP are drained and its clients are quieter than that, the VIP is gone before
/// `timeout_s`. A second later the VIPs of this amphora are unbound, when so few connections are left or the time is over.
/// The connections of another amphora are not known here: its routes are withdrawn after `timeout_s`. The same body again
/// changes nothing; other numbers count from that call on.
#[utoipa::path(
    put, path = "/1.0/distributor/amphorae/{amphora_id}/drain", operation_id = "drain_amphora", tag = "Distributor API",
    params(("amphora_id" = String, Path, description = "The amphora")), request_body = Drain,
    responses(
        (status = 202, body = Drains),
        (status = 400, description = "A field is unusable; nothing was changed", body = Fault),
        (status = 404, description = "No such amphora, or no such VIP of it", body = Fault),
        (status = 409, description = "BGP is not configured", body = Fault),
        (status = 500, description = "It could not be made durable; nothing was changed", body = Fault),
    )
)]
#[tracing::instrument(skip_all, fields(%amphora_id))]
pub async fn drain(
    State(app): State<App>,
    Path(amphora_id): Path<String>,
    body::Json(body): body::Json<Drain>,
) -> Result<(StatusCode, Json<Drains>), ApiError> {
    super::needs_bgp(&app)?;
    if body.timeout_s > LONGEST {
        let why = format!("{} is more than a week ({LONGEST})", body.timeout_s);
        return Err(ApiError::new(Status::BadRequest, "Invalid timeout_s", why));
    }
    let vip = body.vip_ip.as_deref().map(check::vip).transpose()?;
    let (Drain { timeout_s, max_connections, .. }, now) = (body, clock::now());
    let numbers = Numbers { timeout_s, max_connections, now };
    let (id, policy) = (amphora_id.clone(), app.policy.clone());
    app.owner.commit(move |desired| decide_drain(&id, vip, numbers, desired, &policy)).await?;
    crash::point("drain: not answered");
    Ok((StatusCode::ACCEPTED, Json(shown(&app, amphora_id, vip))))
}

/// End a drain, whatever it has come to: everything is as it was before.
///
/// 202 when it is durable. A VIP that was unbound is bound before it is announced. What is not being drained stays as it is.
#[utoipa::path(
    put, path = "/1.0/distributor/amphorae/{amphora_id}/undrain", operation_id = "undrain_amphora",
    tag = "Distributor API",
    params(("amphora_id" = String, Path, description = "The amphora")), request_body = Option<Undrain>,
    responses(
        (status = 202, body = Drains),
        (status = 400, description = "A field is unusable; nothing was changed", body = Fault),
        (status = 404, description = "No such amphora, or no such VIP of it", body = Fault),
        (status = 500, description = "It could not be made durable; nothing was changed", body = Fault),
    )
)]
#[tracing::instrument(skip_all, fields(%amphora_id))]
pub async fn undrain(
    State(app): State<App>,
    Path(amphora_id): Path<String>,
    body::Whole(body): body::Whole,
) -> Result<(StatusCode, Json<Drains>), ApiError> {
    let body: Undrain = if body.is_empty() { Undrain::default() } else { body::parse(&body)? };
    let vip = body.vip_ip.as_deref().map(check::vip).transpose()?;
    let (id, policy) = (amphora_id.clone(), app.policy.clone());
    app.owner.commit(move |desired| decide_undrain(&id, vip, desired, &policy)).await?;
    crash::point("undrain: not answered");
    Ok((StatusCode::ACCEPTED, Json(shown(&app, amphora_id, vip))))
}

fn shown(app: &App, amphora_id: String, vip: Option<Prefix>) -> Drains {
    let asked: Vec<_> = app.owner.shared().read(|desired| {
        let vips = vips_of(&amphora_id, desired, &app.policy).unwrap_or_default();
        let asked = vips.into_iter().filter(|v| vip.is_none_or(|only| only == *v));
        asked.map(|v| (v, desired.drains.get(&v).cloned())).collect()
    });
    let vips = app.progress.read(|report| {
        let progress = |drain: state::Drain| Progress::of(&drain, &app.drains, report);
        asked.into_iter().map(|(v, drain)| DrainedVip { vip_ip: v.address(), drain: drain.map(progress) }).collect()
    });
    Drains { amphora_id, vips }
}

/// The VIPs of an amphora: what is registered for it, for this one what is plugged and routed, and whatever is being
/// drained by its id, so that `undrain` never misses it. `None` where nothing tells that there is such an amphora.
fn vips_of(amphora: &str, desired: &Desired, policy: &Policy) -> Option<Vec<Prefix>> {
    let of = |server: &Server| matches!(server, Server::Amphora(id) if id == amphora);
    let mut vips: Vec<_> = desired.registrations.values().filter(|r| of(&r.server)).map(|r| r.vip).collect();
    vips.extend(desired.drains.values().filter(|drain| drain.amphora == amphora).map(|drain| drain.vip));
    let own = policy.amphora_id.as_deref() == Some(amphora);
    if own {
        let routed = desired.plugs.values().filter(|p| p.mode == VipMode::Anycast).flat_map(|p| &p.vips);
        let plugged = routed.filter_map(|v| Prefix::try_from(v.ip).ok());
        vips.extend(plugged.filter(|v| desired.registrations.get(v).is_none_or(|r| of(&r.server))));
    }
    vips.sort_unstable();
    vips.dedup();
    (own || !vips.is_empty()).then_some(vips)
}

/// The VIPs a call is for, or why there are none.
fn asked(amphora: &str, only: Option<Prefix>, desired: &Desired, policy: &Policy) -> Result<Vec<Prefix>, Refusal> {
    let refuse = |message: String, details: String| Refusal { status: Status::NotFound, message, details };
    let Some(mut vips) = vips_of(amphora, desired, policy) else {
        let own = match &policy.amphora_id {
            Some(own) => format!("this amphora is {own}"),
            None => "this amphora was not told its own id ([amphora_agent] amphora_id)".to_owned(),
        };
        return Err(refuse(
            format!("amphora_id {amphora} is not known here"),
            format!("{own}; GET /1.0/distributor/amphorae lists the others that are registered"),
        ));
    };
    if let Some(only) = only {
        vips.retain(|vip| *vip == only);
        if vips.is_empty() {
            return Err(refuse(
                format!("vip_ip {} is not a VIP of amphora_id {amphora}", only.address()),
                "GET /1.0/distributor/amphorae lists those that are announced; leave vip_ip out for all".to_owned(),
            ));
        }
    }
    Ok(vips)
}

/// What a call asks for, and when it came.
#[derive(Clone, Copy, Debug)]
struct Numbers {
    timeout_s: u32,
    max_connections: u32,
    /// In seconds since 1970.
    now: u64,
}

fn decide_drain(
    amphora: &str,
    only: Option<Prefix>,
    numbers: Numbers,
    desired: &Desired,
    policy: &Policy,
) -> Decision<Refusal> {
    let Numbers { timeout_s, max_connections, now } = numbers;
    let vips = asked(amphora, only, desired, policy)?;
    if vips.is_empty() {
        let (message, details) =
            (format!("amphora_id {amphora} has no VIP to drain"), "POST /1.0/plug/vip/{vip} plugs one".to_owned());
        return Err(Refusal { status: Status::NotFound, message, details });
    }
    let mut changes = Vec::new();
    for vip in vips {
        let held = desired.drains.get(&vip);
        if held.is_some_and(|d| (d.timeout_s, d.max_connections) == (timeout_s, max_connections)) {
            continue;
        }
        // A drain that has begun goes on with the new numbers.
        let (stage, since) = held.map_or((Stage::Deprefer, now), |held| (held.stage, held.since));
        let deadline = now + u64::from(timeout_s);
        let amphora = amphora.to_owned();
        let own = resolve::is_self(&Server::Amphora(amphora.clone()), policy);
        let drain = state::Drain { vip, amphora, own, stage, since, deadline, timeout_s, max_connections };
        changes.push(Change::Drain(drain));
    }
    Ok(changes)
}

fn decide_undrain(amphora: &str, only: Option<Prefix>, desired: &Desired, policy: &Policy) -> Decision<Refusal> {
    let vips = asked(amphora, only, desired, policy)?;
    Ok(vips.into_iter().filter(|vip| desired.drains.contains_key(vip)).map(Change::Undrain).collect())
}

/// A drain in words, for `why`, and whether its VIP is still to be announced.
pub(super) fn evidence(drain: &state::Drain, seen: Option<&Observed>, still_bound: Option<&str>) -> (bool, String) {
    if drain.stage != Stage::Deprefer {
        return (false, resolve::drained(drain, still_bound));
    }
    let left = match seen.and_then(|seen| seen.connections) {
        Some(left) => format!("{left} connections left ({} are not waited for)", drain.max_connections),
        None => "the connections left are not known here".to_owned(),
    };
    let newest = match seen.and_then(|seen| seen.newest) {
        Some(newest) if newest.elapsed() < SETTLE => {
            "; new clients still come: nobody else announces the VIP, or a router has not moved them"
        }
        _ => "",
    };
    let until = clock::rfc3339(seen.map_or(drain.deadline, |seen| seen.deadline(drain)));
    (true, format!("announced, less preferred than others; {left}{newest}; withdrawn at {until} at the latest"))
}

#[cfg(test)]
mod tests;
