//! `GET /1.0/metrics`.

use axum::{extract::State, http::header::CONTENT_TYPE, response::IntoResponse};

use crate::{api::App, metrics};

/// Tell Prometheus how the agent does.
///
/// Text format 0.0.4. It takes at most two seconds, whatever hangs; docs/metrics.md lists the metrics.
#[utoipa::path(
    get, path = "/1.0/metrics", operation_id = "metrics", tag = "Distributor API",
    responses((status = 200, body = String, content_type = "text/plain; version=0.0.4; charset=utf-8")),
)]
pub async fn metrics(State(app): State<App>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics::exposition(&app).await)
}
