//! `PUT /1.0/config`: the controller's part of the agent's configuration, replaced while it runs.

use axum::{Json, extract::State, http::StatusCode};

use crate::{
    api::{
        App,
        body::Whole,
        error::{ApiError, Fault, Status, with_causes},
        plug::Done,
    },
    crash,
};

/// Replace the agent's configuration.
///
/// The body is a whole `amphora-agent.conf`. It is judged together with the files of `amphora-agent.conf.d`, which it
/// does not touch, and is in effect when this answers. What a running agent cannot change waits for its restart.
#[utoipa::path(
    put, path = "/1.0/config", operation_id = "update_config", tag = "Amphora API 1.0",
    request_body(content = inline(Whole), content_type = "text/plain"),
    responses(
        (status = 202, description = "In effect", body = Done),
        (status = 400, description = "The body is too large or late; nothing was changed", body = Fault),
        (status = 500, description = "Not a usable configuration (`details` has every problem), or it could not be \
                                      stored; the old one stays", body = Fault),
    )
)]
pub async fn update(State(app): State<App>, Whole(body): Whole) -> Result<(StatusCode, Json<Done>), ApiError> {
    // On a thread of its own it also comes to its end when the client has gone: file and agent do not differ.
    let replaced = tokio::task::spawn_blocking(move || app.running.replace(&body)).await;
    let replaced = replaced.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    replaced.map_err(|error| {
        let message = "Unable to update amphora-agent configuration.";
        ApiError::new(Status::Internal, message, with_causes(&error))
    })?;
    crash::point("configuration: in effect, not answered");
    Ok((StatusCode::ACCEPTED, Json(Done { message: "OK", details: None })))
}
