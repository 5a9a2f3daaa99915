//! Every refusal of the API as one response type.
//!
//! The stock controller knows eight error codes and counts any other status as success, so a status is
//! one of an enum here, not a number. The shapes of the bodies are Octavia's (`api_server/util.py`,
//! `plug.py`, `amphora_info.py`).

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::owner::{CommitError, Refusal};

/// The errors the controller knows and this API uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// 400.
    BadRequest,
    /// 404.
    NotFound,
    /// 405.
    MethodNotAllowed,
    /// 409.
    Conflict,
    /// 500.
    Internal,
    /// 503. The controller never tries again.
    Unavailable,
}

impl From<Status> for StatusCode {
    fn from(status: Status) -> Self {
        match status {
            Status::BadRequest => Self::BAD_REQUEST,
            Status::NotFound => Self::NOT_FOUND,
            Status::MethodNotAllowed => Self::METHOD_NOT_ALLOWED,
            Status::Conflict => Self::CONFLICT,
            Status::Internal => Self::INTERNAL_SERVER_ERROR,
            Status::Unavailable => Self::SERVICE_UNAVAILABLE,
        }
    }
}

/// A refusal as most calls word it: either part may be absent, as upstream has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Fault {
    /// What is wrong, in a few words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Which field, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
}

/// A refusal as upstream's web framework words it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct HttpFault {
    /// `CODE Reason: what is wrong`.
    pub error: String,
    /// The status once more.
    pub http_code: u16,
    /// Which field, and what to do; upstream has no such key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
}

/// A call that did not succeed.
#[derive(Debug)]
pub enum ApiError {
    /// `{"message", "details"}`.
    Fault(Status, Fault),
    /// `{"error", "http_code"}`.
    Http(Status, HttpFault),
}

impl ApiError {
    /// `{"message"}` alone.
    pub fn message(status: Status, message: impl Into<String>) -> Self {
        Self::Fault(status, Fault { message: Some(message.into()), details: None })
    }

    /// `{"message", "details"}`.
    pub fn new(status: Status, message: impl Into<String>, details: impl Into<String>) -> Self {
        Self::Fault(status, Fault { message: Some(message.into()), details: Some(details.into()) })
    }

    /// `{"details"}` alone: the controller tries again on these very words, while the NIC is on its way.
    #[must_use]
    pub fn no_such_nic() -> Self {
        let details = Some("No suitable network interface found".to_owned());
        Self::Fault(Status::NotFound, Fault { message: None, details })
    }

    /// `{"error", "http_code"}`, with the field and the fix beside it.
    #[must_use]
    pub fn http(status: Status, what: &str, details: Option<String>) -> Self {
        let code = StatusCode::from(status);
        let error = format!("{} {}: {what}", code.as_u16(), code.canonical_reason().unwrap_or_default());
        Self::Http(status, HttpFault { error, http_code: code.as_u16(), details })
    }
}

impl From<CommitError> for ApiError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Refused(Refusal { status, message, details }) if details.is_empty() => {
                Self::message(status, message)
            }
            CommitError::Refused(Refusal { status, message, details }) => Self::new(status, message, details),
            CommitError::Log(cause) => Self::new(
                Status::Internal,
                "The request could not be made durable; nothing was changed",
                with_causes(&cause),
            ),
            CommitError::Stopped => Self::message(Status::Internal, "The agent is stopping; try again"),
        }
    }
}

/// An error and what is behind it, on one line.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        match self {
            Self::Fault(status, fault) => {
                if matches!(status, Status::Internal | Status::Unavailable) {
                    tracing::error!(message = fault.message, details = fault.details, "a call failed");
                }
                (StatusCode::from(status), Json(fault)).into_response()
            }
            Self::Http(status, fault) => (StatusCode::from(status), Json(fault)).into_response(),
        }
    }
}
