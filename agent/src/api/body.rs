//! Request bodies: whole, bounded and in time, or a 400.

use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use utoipa::ToSchema;

use crate::{
    api::error::{ApiError, Status},
    server::{self, Deadline},
};

/// The largest JSON body taken; the largest the controller sends is a few kilobytes.
const LIMIT: usize = 1024 * 1024;

/// The largest haproxy.cfg taken: some 17,000 servers.
const LARGE: usize = 2 * 1024 * 1024;

/// A body, whatever is in it.
#[derive(Debug, ToSchema)]
#[schema(value_type = String, format = Binary)]
pub struct Whole(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for Whole {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        read(request, LIMIT).await.map(Self)
    }
}

/// As [`Whole`], and as large as a haproxy.cfg may be.
#[derive(Debug, ToSchema)]
#[schema(value_type = String)]
pub struct Large(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for Large {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        read(request, LARGE).await.map(Self)
    }
}

async fn read(request: Request, limit: usize) -> Result<Bytes, ApiError> {
    let deadline = request.extensions().get::<Deadline>().map(|d| d.0);
    let deadline = deadline.expect("the server gives every request a deadline");
    let body = server::body::read(request.into_body(), limit, deadline).await;
    body.map_err(|e| ApiError::new(Status::BadRequest, "The request body could not be read", e.to_string()))
}

/// A body of one of our own calls: JSON, every key known.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let Whole(bytes) = Whole::from_request(request, state).await?;
        parse(&bytes).map(Self)
    }
}

/// The value in such a body.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let invalid = |details: String| ApiError::new(Status::BadRequest, "Invalid request body", details);
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|e| match e.path().to_string() {
        path if path == "." => invalid(e.inner().to_string()),
        path => invalid(format!("{path}: {}", e.inner())),
    })?;
    json.end().map_err(|e| invalid(e.to_string()))?;
    Ok(value)
}
