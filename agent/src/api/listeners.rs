//! `GET /1.0/listeners` and `GET /1.0/loadbalancer/{lb_id}/haproxy`: what the files say.

use std::{io, path::Path as FsPath, sync::Arc};

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
    http::{
        HeaderName,
        header::{CONTENT_TYPE, ETAG},
    },
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    api::{
        App,
        digest::md5_hex,
        error::{ApiError, Fault, Status},
    },
    loadbalancers::{self, LbId, Listener},
};

/// A listener and how it is.
#[derive(Debug, Serialize, ToSchema)]
pub struct ListenerStatus {
    /// `ACTIVE`, `OFFLINE` or `ERROR`; a listener of haproxy's is always `ACTIVE`.
    status: &'static str,
    uuid: String,
    /// The mode in upper case, or `TERMINATED_HTTPS`; `UDP` for all that LVS serves.
    #[serde(rename = "type")]
    kind: String,
}

impl From<Listener> for ListenerStatus {
    fn from(Listener { id, kind, status }: Listener) -> Self {
        Self { status, uuid: id, kind }
    }
}

/// List the listeners.
#[utoipa::path(get, path = "/1.0/listeners", operation_id = "listeners", tag = "Amphora API 1.0",
    responses(
        (status = 200, body = [ListenerStatus]),
        (status = 500, description = "The files could not be read", body = Fault),
    ))]
pub async fn listeners(State(app): State<App>) -> Result<Json<Vec<ListenerStatus>>, ApiError> {
    let seen = from_files(&app, loadbalancers::overview).await?;
    Ok(Json(seen.haproxy.into_iter().chain(seen.lvs).map(Into::into).collect()))
}

/// Get a load balancer's haproxy configuration.
#[utoipa::path(
    get, path = "/1.0/loadbalancer/{lb_id}/haproxy", operation_id = "haproxy_configuration", tag = "Amphora API 1.0",
    params(("lb_id" = String, Path, description = "The load balancer's id")),
    responses(
        (status = 200, description = "The file; the ETag is its MD5", body = String, content_type = "text/plain"),
        (status = 404, description = "No such load balancer", body = Fault),
        (status = 500, description = "The file could not be read", body = Fault),
    )
)]
pub async fn haproxy_configuration(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
) -> Result<([(HeaderName, String); 2], Vec<u8>), ApiError> {
    let id = id.map(|Path(id)| id).unwrap_or_default();
    let missing =
        || ApiError::new(Status::NotFound, "Loadbalancer Not Found", format!("No loadbalancer with UUID: {id}"));
    let lb = LbId::new(&id).ok_or_else(missing)?;
    let file = from_files(&app, move |base| loadbalancers::configuration(base, &lb)).await?.ok_or_else(missing)?;
    let headers = [(CONTENT_TYPE, "text/plain; charset=UTF-8".to_owned()), (ETAG, md5_hex(&file))];
    Ok((headers, file))
}

/// Reads below `base_path` where waiting for a disk holds nobody up.
pub(super) async fn from_files<T: Send + 'static>(
    app: &App,
    read: impl FnOnce(&FsPath) -> io::Result<T> + Send + 'static,
) -> Result<T, ApiError> {
    let paths = Arc::clone(&app.paths);
    let seen = tokio::task::spawn_blocking(move || read(&paths.base)).await;
    seen.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
        .map_err(|e| ApiError::new(Status::Internal, "Cannot read the load balancers' files", e.to_string()))
}
