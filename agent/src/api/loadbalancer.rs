//! What changes a load balancer: its haproxy configuration, `start`, `stop` and `reload`, and its deletion.
//!
//! The words are those of Octavia's `api_server/loadbalancer.py`, `stoped` included.

use std::path::Path as FsPath;

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderName, StatusCode, header::ETAG},
};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    api::{
        App,
        action::Action,
        body::Large,
        digest::md5_hex,
        error::{ApiError, Fault, Status, with_causes},
        listeners::from_files,
        plug::Done,
    },
    haproxy::{self, Setting},
    keepalivedlvs,
    loadbalancers::{self, Kind, LbId},
};

/// Whose configuration.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct Whose {
    /// The amphora's id: its name among haproxy's peers is made of it.
    amphora_id: String,
    /// The load balancer's id.
    lb_id: String,
}

/// Accepted, with the digest of what was.
type Stored = (StatusCode, [(HeaderName, String); 1], Json<Done>);

/// What is to be done with whom.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct What {
    /// The id of a load balancer, or of a UDP or SCTP listener.
    lb_id: String,
    /// `start`, `stop` or `reload`, in any case.
    action: String,
}

/// Store a load balancer's haproxy configuration.
///
/// haproxy checks it first. It is served after the next start or reload.
#[utoipa::path(
    put, path = "/1.0/loadbalancer/{amphora_id}/{lb_id}/haproxy", operation_id = "upload_haproxy_configuration",
    tag = "Amphora API 1.0",
    params(Whose),
    request_body(content = inline(Large), content_type = "text/plain"),
    responses(
        (status = 202, description = "Stored; the ETag is the body's MD5", body = Done),
        (status = 400, description = "Not UTF-8, too large, refused by haproxy, whose words are the details, or \
            by `haproxy_policy = enforce`; the old one stays", body = Fault),
        (status = 404, description = "This amphora is a distributor and has no load balancers", body = Fault),
        (status = 500, description = "It could not be checked or stored; the old one stays", body = Fault),
    )
)]
#[tracing::instrument(skip_all)]
pub async fn upload(
    State(app): State<App>,
    whose: Result<Path<Whose>, PathRejection>,
    Large(body): Large,
) -> Result<Stored, ApiError> {
    let wrong = |what| ApiError::new(Status::BadRequest, "Invalid load balancer id", what);
    let Path(Whose { amphora_id, lb_id }) = whose.map_err(|_| wrong("amphora_id, lb_id: not UTF-8"))?;
    serves_by_haproxy(&app, &lb_id)?;
    let lb = LbId::new(&lb_id).ok_or_else(|| {
        wrong("lb_id: at most 64 letters, digits, `-` and `_`, and none of the agent's own directories")
    })?;
    let digest = md5_hex(&body);
    app.haproxy.upload(&setting(&app), &lb, amphora_id, body).await.map_err(|e| refusal(&e))?;
    Ok((StatusCode::ACCEPTED, [(ETAG, digest)], Json(Done { message: "OK", details: None })))
}

/// Start, stop or reload a load balancer, or a UDP or SCTP listener.
///
/// A reload of what does not run starts it. The answer comes when it is done.
#[utoipa::path(
    put, path = "/1.0/loadbalancer/{lb_id}/{action}", operation_id = "act_on_loadbalancer", tag = "Amphora API 1.0",
    params(What),
    responses(
        (status = 202, description = "Done", body = Done),
        (status = 400, description = "No such action; nothing was touched", body = Fault),
        (status = 404, description = "No such load balancer", body = Fault),
        (status = 500, description = "It did not start, stop or reload; the details are its own words", body = Fault),
    )
)]
#[tracing::instrument(skip_all)]
pub async fn act(
    State(app): State<App>,
    what: Result<Path<What>, PathRejection>,
) -> Result<(StatusCode, Json<Done>), ApiError> {
    let What { lb_id, action } =
        what.map_or_else(|_| What { lb_id: String::new(), action: String::new() }, |Path(w)| w);
    let action = Action::parse(&action)?;
    serves_by_haproxy(&app, &lb_id)?;
    let lb = LbId::new(&lb_id).ok_or_else(|| unknown(&lb_id))?;
    let kind = kind_of(&app, &lb).await?;
    let details = match kind {
        Some(Kind::Haproxy) => {
            let (haproxy, setting) = (&app.haproxy, setting(&app));
            let done = match action {
                Action::Start => haproxy.start(&setting, &lb).await,
                Action::Stop => haproxy.stop(&setting, &lb).await,
                Action::Reload => haproxy.reload(&setting, &lb).await,
            };
            match done.map_err(|e| refusal(&e))? {
                haproxy::Done::Started => format!("Configuration file is valid\nhaproxy daemon for {lb} started"),
                haproxy::Done::Stopped => format!("Listener {lb} stoped"),
                _ => format!("Listener {lb} reloaded"),
            }
        }
        Some(Kind::Lvs) => {
            let facility = app.running.current().logging.administrative_facility;
            let inside = app.kernel.inside().namespace();
            let done = keepalivedlvs::act(&app.services, inside, &app.paths.base, &lb, action, facility).await;
            let done = done.map_err(|e| {
                // As upstream, which restarts for a reload.
                let what = if action == Action::Reload { "restart" } else { action.name() };
                let message = format!("Failed to {what} keepalivedlvs listener {lb}");
                ApiError::new(Status::Internal, message, e.text())
            })?;
            format!("keepalivedlvs listener {lb} {done}")
        }
        None => return Err(unknown(&lb_id)),
    };
    if action != Action::Stop {
        app.advertise_vips();
    }
    Ok((StatusCode::ACCEPTED, Json(Done { message: "OK", details: Some(details) })))
}

/// Delete a load balancer from this amphora, or a UDP or SCTP listener.
///
/// Stops what serves it and removes its files, certificates included.
#[utoipa::path(
    delete, path = "/1.0/listeners/{listener_id}", operation_id = "delete_listener", tag = "Amphora API 1.0",
    params(("listener_id" = String, Path, description = "The id of a load balancer, or of a UDP or SCTP listener")),
    responses(
        (status = 200, description = "Deleted, or it was not there", body = Done),
        (status = 404, description = "This amphora is a distributor and has no load balancers", body = Fault),
        (status = 500, description = "It could not be stopped or removed; a retry goes on where this stopped",
            body = Fault),
    )
)]
#[tracing::instrument(skip_all)]
pub async fn delete(State(app): State<App>, id: Result<Path<String>, PathRejection>) -> Result<Json<Done>, ApiError> {
    let id = id.map(|Path(id)| id).unwrap_or_default();
    serves_by_haproxy(&app, &id)?;
    // What can be no id is not there.
    if let Some(lb) = LbId::new(&id) {
        if kind_of(&app, &lb).await? == Some(Kind::Lvs) {
            let inside = app.kernel.inside().namespace();
            let deleted = keepalivedlvs::delete(&app.services, inside, &app.paths.base, &lb).await;
            deleted.map_err(|e| ApiError::new(Status::Internal, "Error stopping keepalivedlvs", e.text()))?;
        } else {
            // Also where it is not there: it may have been cut short.
            app.haproxy.delete(&setting(&app), &lb).await.map_err(|e| refusal(&e))?;
        }
    }
    Ok(Json(Done { message: "OK", details: None }))
}

/// A distributor announces for others and has no load balancer of its own: to every call about one it answers as to one
/// that is not there.
pub(super) fn serves_by_haproxy(app: &App, id: &str) -> Result<(), ApiError> {
    if app.policy.distributor { Err(unknown(id)) } else { Ok(()) }
}

fn unknown(id: &str) -> ApiError {
    ApiError::new(Status::NotFound, "Loadbalancer Not Found", format!("No loadbalancer with UUID: {id}"))
}

async fn kind_of(app: &App, lb: &LbId) -> Result<Option<Kind>, ApiError> {
    let lb = lb.clone();
    from_files(app, move |base: &FsPath| loadbalancers::kind_of(base, &lb)).await
}

fn setting(app: &App) -> Setting {
    Setting {
        paths: app.paths.clone(),
        amphora_id: app.policy.amphora_id.clone(),
        active_standby: app.active_standby(),
        policy: app.running.current().distributor.haproxy_policy,
        vips: app.owner.shared().read(|d| d.plugs.values().flat_map(|p| &p.vips).map(|vip| vip.ip).collect()),
    }
}

fn refusal(error: &haproxy::Error) -> ApiError {
    use haproxy::Error;
    match error {
        Error::Unknown(lb) => unknown(&lb.to_string()),
        Error::NotText(_) | Error::Foreign(_) => {
            ApiError::new(Status::BadRequest, "Invalid request", error.to_string())
        }
        Error::Refused(words) => ApiError::new(Status::BadRequest, "Invalid request", words),
        Error::Service { what, cause } => {
            // `Error stoping haproxy`, as upstream forms it; what a deletion cannot do is spelled there.
            let doing = match *what {
                "enable" => "enabling".to_owned(),
                "remove" => "stopping".to_owned(),
                action => format!("{action}ing"),
            };
            ApiError::new(Status::Internal, format!("Error {doing} haproxy"), cause.text())
        }
        Error::Unchecked(_) | Error::Files { .. } | Error::Panicked => {
            ApiError::new(Status::Internal, "Error changing the load balancer", with_causes(error))
        }
    }
}
