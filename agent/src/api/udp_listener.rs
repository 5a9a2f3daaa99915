//! `PUT` and `GET .../udp_listener`: the keepalived configuration of a listener for UDP or SCTP.

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
    http::{
        HeaderName,
        header::{CONTENT_TYPE, ETAG},
    },
};

use crate::{
    api::{
        App,
        body::Large,
        digest::md5_hex,
        error::{ApiError, Fault, Status},
        listeners::from_files,
        loadbalancer::serves_by_haproxy,
        plug::Done,
        vrrp::{Stored, test},
    },
    crash, keepalivedlvs,
    loadbalancers::LbId,
};

/// Store the configuration of a listener for UDP or SCTP.
///
/// Replaces it whole, once keepalived finds nothing wrong with it; does not start keepalived.
#[utoipa::path(
    put, path = "/1.0/listeners/{amphora_id}/{listener_id}/udp_listener", operation_id = "upload_udp_config",
    tag = "Amphora API 1.0",
    params(
        ("amphora_id" = String, Path, description = "Not looked at"),
        ("listener_id" = String, Path, description = "The listener's id"),
    ),
    request_body(content = inline(Large), content_type = "application/octet-stream"),
    responses(
        (status = 200, description = "Stored; the ETag is the body's MD5", body = Done),
        (status = 400, description = "Not an id, keepalived refuses the configuration (`details` has its words), or the \
                                      body is too large or late; nothing was changed", body = Fault),
        (status = 404, description = "This amphora is a distributor and has no load balancers", body = Fault),
        (status = 500, description = "It could not be stored, or the service not be installed", body = Fault),
    )
)]
pub async fn upload(
    State(app): State<App>,
    ids: Result<Path<(String, String)>, PathRejection>,
    Large(body): Large,
) -> Result<Stored, ApiError> {
    let id = ids.ok().and_then(|Path((_, listener))| LbId::new(&listener)).ok_or_else(|| {
        let fix = "listener_id: at most 64 letters, digits, `-` and `_`";
        ApiError::new(Status::BadRequest, "Invalid listener id", fix)
    })?;
    serves_by_haproxy(&app, id.name().as_str())?;
    test(&app, body.clone()).await?;
    let digest = md5_hex(&body);
    let (paths, active_standby) = (app.paths.clone(), app.active_standby());
    let listener = id.clone();
    let stored =
        tokio::task::spawn_blocking(move || keepalivedlvs::store(&paths.base, &listener, &body, active_standby));
    let stored = stored.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    stored.map_err(|e| ApiError::new(Status::Internal, "Cannot store the listener's configuration", e.to_string()))?;
    crash::point("lvs: stored, no service");
    let facility = app.running.current().logging.administrative_facility;
    let installed = app.services.install(&keepalivedlvs::service(&app.services, &app.paths.base, &id, facility)).await;
    installed.map_err(|e| ApiError::new(Status::Internal, "Error enabling octavia-keepalivedlvs service", e.text()))?;
    crash::point("lvs: stored, not answered");
    Ok(([(ETAG, digest)], Json(Done { message: "OK", details: None })))
}

/// Get the configuration of a listener for UDP or SCTP.
#[utoipa::path(
    get, path = "/1.0/listeners/{listener_id}/udp_listener", operation_id = "udp_listener_configuration",
    tag = "Amphora API 1.0",
    params(("listener_id" = String, Path, description = "The listener's id")),
    responses(
        (status = 200, description = "The file", body = String, content_type = "text/plain"),
        (status = 404, description = "No such listener", body = Fault),
        (status = 500, description = "The file could not be read", body = Fault),
    )
)]
pub async fn configuration(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
) -> Result<([(HeaderName, &'static str); 1], Vec<u8>), ApiError> {
    let id = id.map(|Path(id)| id).unwrap_or_default();
    let missing =
        || ApiError::new(Status::NotFound, "UDP Listener Not Found", format!("No UDP listener with UUID: {id}"));
    let listener = LbId::new(&id).ok_or_else(missing)?;
    let file = from_files(&app, move |base| keepalivedlvs::files::read(base, &listener)).await?.ok_or_else(missing)?;
    Ok(([(CONTENT_TYPE, "text/plain; charset=UTF-8")], file))
}
