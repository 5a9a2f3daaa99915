//! `PUT /1.0/certificate`: the agent's own server certificate, rotated by the controller.

use std::{path::Path, sync::Arc};

use axum::{Json, extract::State, http::StatusCode};

use crate::{
    api::{
        App,
        body::Whole,
        error::{ApiError, Fault, Status, with_causes},
        plug::Done,
    },
    crash, files,
    server::tls::check_identity,
};

/// Replace the agent's server certificate.
///
/// The body is PEM: the certificate, its chain and its key. It is checked before it replaces the old one,
/// and the next connection uses it.
#[utoipa::path(
    put, path = "/1.0/certificate", operation_id = "update_certificate", tag = "Amphora API 1.0",
    request_body(content = inline(Whole), content_type = "application/x-pem-file"),
    responses(
        (status = 202, description = "In use from the next connection on", body = Done),
        (status = 400, description = "Not a certificate with its key that can be served now; the old one stays", body = Fault),
        (status = 500, description = "It could not be stored; the old one stays", body = Fault),
    )
)]
pub async fn update(State(app): State<App>, Whole(body): Whole) -> Result<(StatusCode, Json<Done>), ApiError> {
    let leaf = check_identity(Path::new("the certificate sent"), &body)
        .map_err(|e| ApiError::new(Status::BadRequest, "Invalid certificate", with_causes(&e)))?;
    if let Some(id) = app.policy.amphora_id.as_deref().filter(|id| !leaf.is_for(id)) {
        // Who calls by another name, as an operator with curl does, need not mind.
        tracing::warn!(amphora_id = id, "the new certificate is not for the amphora id; the controller will refuse it");
    }
    let path = Arc::clone(&app.server_cert);
    let stored = tokio::task::spawn_blocking(move || files::replace(&path, &body)).await;
    stored
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
        .map_err(|e| ApiError::new(Status::Internal, "Cannot store the certificate", e.to_string()))?;
    tracing::info!("the server certificate was replaced");
    crash::point("server certificate: stored, not answered");
    Ok((StatusCode::ACCEPTED, Json(Done { message: "OK", details: None })))
}
