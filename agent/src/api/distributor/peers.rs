//! `GET /1.0/distributor/peers`.

use axum::{Json, extract::State};

use crate::{api::App, speaker::PeerView};

/// Show the BGP sessions.
///
/// While the speaker is away all of them are `Idle`, and `last_error` says why.
#[utoipa::path(
    get, path = "/1.0/distributor/peers", operation_id = "list_peers", tag = "Distributor API",
    responses((status = 200, body = Vec<PeerView>)),
)]
pub async fn list(State(app): State<App>) -> Json<Vec<PeerView>> {
    match &app.speaker {
        Some(view) => Json(view.peers().await),
        None => Json(Vec::new()),
    }
}
