//! `PUT /1.0/vrrp/upload` and `PUT /1.0/vrrp/{action}`: VRRP, or what stands for it where VIPs are routed.

use std::{net::IpAddr, sync::Arc};

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderName, StatusCode, header::ETAG},
};
use bytes::Bytes;

use crate::{
    api::{
        App, WITHDRAWAL,
        action::Action,
        body::Whole,
        digest::md5_hex,
        error::{ApiError, Fault, Status},
        plug::Done,
    },
    crash,
    keepalived::{self, TestError},
    resolve::is_self,
    services::{self, ServiceError, ServiceName},
    state::{Change, Desired},
    vrrp,
};

/// What a call that stores a file answers.
pub(super) type Stored = ([(HeaderName, String); 1], Json<Done>);

/// Store the VRRP configuration.
///
/// Replaces it whole, once keepalived finds nothing wrong with it; does not start keepalived. Where all VIPs are routed
/// (`vip_mode` `anycast` or `noarp`) it is kept and never used.
#[utoipa::path(
    put, path = "/1.0/vrrp/upload", operation_id = "upload_vrrp_config", tag = "Amphora API 1.0",
    request_body(content = inline(Whole), content_type = "application/octet-stream"),
    responses(
        (status = 200, description = "Stored; the ETag is the body's MD5", body = Done),
        (status = 400, description = "keepalived refuses it (`details` has its words), or the body is too large or late; \
                                      nothing was changed", body = Fault),
        (status = 404, description = "This amphora is a distributor and holds no VIPs", body = Fault),
        (status = 500, description = "It could not be stored, or the service not be installed", body = Fault),
    )
)]
pub async fn upload(State(app): State<App>, Whole(body): Whole) -> Result<Stored, ApiError> {
    holds_vips(&app)?;
    let digest = md5_hex(&body);
    test(&app, body.clone()).await?;
    let paths = Arc::clone(&app.paths);
    let stored = services::blocking(move || vrrp::store(&paths.base, &body)).await;
    stored.map_err(|e| ApiError::new(Status::Internal, "Cannot store the keepalived configuration", e.to_string()))?;
    crash::point("vrrp: stored, no service");
    let installed = if is_routed(&app) { without_keepalived(&app).await } else { install(&app).await };
    installed.map_err(|e| ApiError::new(Status::Internal, "Error enabling octavia-keepalived service", e.text()))?;
    crash::point("vrrp: stored, not answered");
    Ok(([(ETAG, digest)], Json(Done { message: "OK", details: None })))
}

/// Start, stop or reload VRRP.
///
/// `start` reloads a keepalived that runs. `stop` also withdraws what this amphora announces for itself, until the next
/// `start`, over restarts of the agent and the machine. Where all VIPs are routed that is all they do.
#[utoipa::path(
    put, path = "/1.0/vrrp/{action}", operation_id = "vrrp_action", tag = "Amphora API 1.0",
    params(("action" = String, Path, description = "`start`, `stop` or `reload`, in any case")),
    responses(
        (status = 202, description = "Done", body = Done),
        (status = 400, description = "Unknown action; nothing was touched", body = Fault),
        (status = 404, description = "This amphora is a distributor and holds no VIPs", body = Fault),
        (status = 500, description = "keepalived did not do it; `details` has its words", body = Fault),
    )
)]
pub async fn act(
    State(app): State<App>,
    action: Result<Path<String>, PathRejection>,
) -> Result<(StatusCode, Json<Done>), ApiError> {
    let Path(action) = action.unwrap_or(Path(String::new()));
    let action = Action::parse(&action)?;
    holds_vips(&app)?;
    let failed = |what: Action, details: String| {
        ApiError::new(Status::Internal, format!("Failed to {} octavia-keepalived service", what.name()), details)
    };
    let done = match action {
        Action::Start => {
            let done = start(&app).await.map_err(|e| failed(action, e.text()))?;
            crash::point("vrrp: started, silent");
            silence(&app, false).await?;
            done
        }
        Action::Stop => {
            let generation = silence(&app, true).await?;
            crash::point("vrrp: silenced, not stopped");
            without_errors(app.services.stop(&ServiceName::keepalived()).await)
                .map_err(|e| failed(action, e.text()))?;
            withdrawn(&app, generation).await.map_err(|why| failed(action, why))?;
            action
        }
        Action::Reload if is_routed(&app) => action,
        Action::Reload => {
            install(&app).await.map_err(|e| failed(action, e.text()))?;
            app.services.reload(&ServiceName::keepalived()).await.map_err(|e| failed(action, e.text()))?;
            action
        }
    };
    crash::point("vrrp: done, not answered");
    Ok((StatusCode::ACCEPTED, Json(Done { message: "OK", details: Some(format!("keepalived {}", done.done())) })))
}

/// A distributor has no VIP that keepalived could hold.
fn holds_vips(app: &App) -> Result<(), ApiError> {
    if !app.policy.distributor {
        return Ok(());
    }
    Err(ApiError::new(Status::NotFound, "VRRP Not Found", "This amphora is a distributor: it announces for others"))
}

/// Has keepalived look at a configuration; a refusal is the client's fault and has keepalived's words.
pub(super) async fn test(app: &App, configuration: Bytes) -> Result<(), ApiError> {
    let namespace = app.kernel.inside().namespace().clone();
    let tested = tokio::task::spawn_blocking(move || keepalived::test(&configuration, &namespace)).await;
    match tested.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())) {
        Ok(()) => Ok(()),
        Err(TestError::Refused(text)) => Err(ApiError::new(Status::BadRequest, "Invalid request", text)),
        Err(error @ TestError::Io(_)) => {
            let details = crate::api::error::with_causes(&error);
            Err(ApiError::new(Status::Internal, "The keepalived configuration could not be tested", details))
        }
    }
}

fn is_routed(app: &App) -> bool {
    app.owner.shared().read(|desired| vrrp::is_routed(desired, app.default_mode))
}

async fn install(app: &App) -> Result<(), ServiceError> {
    let facility = app.running.current().logging.administrative_facility;
    app.services.install(&vrrp::service(&app.services, &app.paths.base, facility)).await.map(drop)
}

/// Nobody starts it, now or at boot: it would answer ARP for a VIP that is routed.
async fn without_keepalived(app: &App) -> Result<(), ServiceError> {
    without_errors(app.services.remove(&ServiceName::keepalived()).await)
}

/// What was never installed does not run.
fn without_errors(result: Result<(), ServiceError>) -> Result<(), ServiceError> {
    match result {
        Err(ServiceError::Unknown(_)) => Ok(()),
        result => result,
    }
}

/// Starts keepalived, or has it read its configuration again where it runs: a restart would give the VIP away. What of the
/// two it was.
async fn start(app: &App) -> Result<Action, ServiceError> {
    if is_routed(app) {
        without_keepalived(app).await?;
        return Ok(Action::Start);
    }
    let name = ServiceName::keepalived();
    let paths = Arc::clone(&app.paths);
    let configured = services::blocking(move || Ok(vrrp::is_configured(&paths.base))).await;
    if !configured.unwrap_or(false) {
        return Err(ServiceError::Unknown(name)); // nothing was uploaded
    }
    // One that came with another agent's files has no service yet.
    install(app).await?;
    if let services::Status::Active { .. } = app.services.status(&name).await? {
        match app.services.reload(&name).await {
            Err(ServiceError::NotActive(_)) => {} // it has just ended
            reloaded => return reloaded.map(|()| Action::Reload),
        }
    }
    let started = keepalived::start(&app.services, &name, &vrrp::child_pid(&app.paths.base)).await;
    started.map(|()| Action::Start)
}

/// Makes it durable whether this amphora is silent; the generation that has it.
async fn silence(app: &App, silenced: bool) -> Result<u64, ApiError> {
    let decide =
        move |held: &Desired| Ok(if held.silenced == silenced { Vec::new() } else { vec![Change::Silence(silenced)] });
    Ok(app.owner.commit(decide).await?.generation)
}

/// Waits until nothing that this amphora announces for itself is left; what is, otherwise.
async fn withdrawn(app: &App, generation: u64) -> Result<(), String> {
    if app.speaker.is_none() {
        return Ok(());
    }
    let own = |announced: &IpAddr| {
        app.owner.shared().read(|desired| {
            let registered = desired.registrations.values().find(|r| r.vip.address() == *announced);
            desired.plug_of(*announced).is_some() || registered.is_some_and(|r| is_self(&r.server, &app.policy))
        })
    };
    let left = || {
        app.progress.read(|report| match &report.speaker {
            Some(why) => Some(why.clone()),
            None => report.announced.iter().map(|p| p.address()).find(own).map(|ip| format!("{ip} is still announced")),
        })
    };
    let gone = async {
        app.progress.reached(generation).await;
        app.progress.until(|_| left().is_none()).await;
    };
    match tokio::time::timeout(WITHDRAWAL, gone).await {
        Ok(()) => Ok(()),
        Err(_) => Err(left().unwrap_or_else(|| "the withdrawal takes its time; the agent goes on".to_owned())),
    }
}
