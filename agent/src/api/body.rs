//! Request bodies: whole, bounded and in time, or a 400.

use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use hyper::body::Body as _;
use serde::de::DeserializeOwned;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};
use utoipa::ToSchema;

use crate::{
    api::error::{ApiError, Status},
    server::{self, Deadline, body::BodyError},
};

/// The largest JSON body taken; the largest the controller sends is a few kilobytes.
const LIMIT: usize = 1024 * 1024;

/// The largest configuration of haproxy or LVS taken: some 60,000 servers, or 800 members with an HTTP monitor that expects
/// 200-299, each of which is a block of each member's.
const LARGE: usize = 8 * 1024 * 1024;

/// How many bodies that may be larger than [`LIMIT`] are held at a time, whoever sends them.
const AT_A_TIME: usize = 2;
static ROOM: Semaphore = Semaphore::const_new(AT_A_TIME);

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

/// As [`Whole`], and as large as a haproxy.cfg may be. One that is not known to be small waits for room before any of it
/// is read, and keeps it until the last of its clones is gone.
#[derive(Debug, ToSchema)]
#[schema(value_type = String)]
pub struct Large(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for Large {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let small = request.body().size_hint().upper().is_some_and(|most| most <= LIMIT as u64);
        if small {
            return read(request, LARGE).await.map(Self);
        }
        let room = tokio::time::timeout_at(deadline(&request), ROOM.acquire());
        let room = room.await.map_err(|_| unread(&BodyError::TooSlow))?.expect("nobody closes it");
        let bytes = read(request, LARGE).await?;
        Ok(Self(Bytes::from_owner(Held { bytes, _room: room })))
    }
}

/// A body and the room it has.
struct Held {
    bytes: Bytes,
    _room: SemaphorePermit<'static>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

async fn read(request: Request, limit: usize) -> Result<Bytes, ApiError> {
    let deadline = deadline(&request);
    server::body::read(request.into_body(), limit, deadline).await.map_err(|e| unread(&e))
}

fn deadline(request: &Request) -> Instant {
    request.extensions().get::<Deadline>().expect("the server gives every request a deadline").0
}

fn unread(error: &BodyError) -> ApiError {
    ApiError::new(Status::BadRequest, "The request body could not be read", error.to_string())
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

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, time::Duration};

    use axum::body::Body;
    use futures_util::stream;

    use super::*;

    fn request(body: Body) -> Request {
        let mut request = Request::new(body);
        request.extensions_mut().insert(Deadline(Instant::now() + Duration::from_secs(5)));
        request
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_large_bodies_are_held_at_a_time_and_small_ones_pass_by() {
        let chunks = || Body::from_stream(stream::iter([Ok::<_, Infallible>(Bytes::from("chunk"))]));
        let large = || Large::from_request(request(Body::from(vec![b'x'; LIMIT + 1])), &());
        let first = large().await.unwrap();
        let second = Large::from_request(request(chunks()), &()).await.unwrap();
        assert_eq!((first.0.len(), &*second.0), (LIMIT + 1, b"chunk".as_slice()));
        let refused = large().await.unwrap_err();
        assert!(format!("{refused:?}").contains("did not arrive in time"), "{refused:?}");
        assert_eq!(Large::from_request(request(Body::from("small")), &()).await.unwrap().0, "small");
        drop(first);
        large().await.unwrap();
        let too_large = Large::from_request(request(Body::from(vec![b'x'; LARGE + 1])), &()).await.unwrap_err();
        assert!(format!("{too_large:?}").contains("larger than"), "{too_large:?}");
    }
}
