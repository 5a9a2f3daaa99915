//! `GET /1.0/distributor/peers`.

use axum::{Json, extract::State};

use crate::api::{
    App,
    error::{ApiError, Fault, Status},
};
use crate::speaker::PeerView;

/// Show the BGP sessions.
#[utoipa::path(
    get, path = "/1.0/distributor/peers", operation_id = "list_peers", tag = "Distributor API",
    responses(
        (status = 200, body = Vec<PeerView>),
        (status = 500, description = "The speaker cannot be asked", body = Fault),
    )
)]
pub async fn list(State(app): State<App>) -> Result<Json<Vec<PeerView>>, ApiError> {
    let Some(view) = &app.speaker else { return Ok(Json(Vec::new())) };
    let peers = view.peers().await;
    peers.map(Json).map_err(|why| ApiError::new(Status::Internal, "The speaker cannot be asked", why))
}
