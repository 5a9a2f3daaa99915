//! Query strings of our own calls: every key known, refused in our own words.

use axum::{
    extract::{FromRequestParts, Query as AxumQuery},
    http::request::Parts,
};
use serde::de::DeserializeOwned;

use crate::api::error::{ApiError, Status};

/// `axum::extract::Query` with this API's refusal.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = AxumQuery::<T>::from_request_parts(parts, state).await;
        query.map(|q| Self(q.0)).map_err(|e| ApiError::new(Status::BadRequest, "Invalid query", e.body_text()))
    }
}
