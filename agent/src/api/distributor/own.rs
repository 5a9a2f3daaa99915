//! `GET /1.0/distributor/amphora`: which amphora this is, without asking anybody else.

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::App;

/// This amphora.
#[derive(Debug, Serialize, ToSchema)]
pub struct Own {
    /// As the other calls take it; null outside a cloud.
    amphora_id: Option<String>,
}

/// Tell which amphora this is.
#[utoipa::path(
    get, path = "/1.0/distributor/amphora", operation_id = "own_amphora", tag = "Distributor API",
    responses((status = 200, body = Own)),
)]
pub async fn own(State(app): State<App>) -> Json<Own> {
    Json(Own { amphora_id: app.running.current().amphora_id.clone() })
}
