//! Reading a request's body: never more than a limit, never longer than a deadline.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Body;
use tokio::time::{Instant, timeout_at};

/// Why a body was not read. All of them are the client's, and 400 to Octavia.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// More than the limit, announced or sent.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// The deadline passed with the body incomplete.
    #[error("the body did not arrive in time")]
    TooSlow,
    /// The connection ended, or the chunks were not chunks.
    #[error("the body ended early or is malformed")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Reads a whole body of at most `limit` bytes before `deadline`. A longer one that says so in its `Content-Length` is
/// refused before any of it is read.
///
/// # Errors
/// [`BodyError`]; what was read is dropped.
pub async fn read<B>(body: B, limit: usize, deadline: Instant) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    if body.size_hint().lower() > limit as u64 {
        return Err(BodyError::TooLarge(limit));
    }
    let mut body = std::pin::pin!(body);
    let (mut first, mut more) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = timeout_at(deadline, body.frame()).await.map_err(|_| BodyError::TooSlow)? {
        let Ok(data) = frame.map_err(|error| BodyError::Broken(error.into()))?.into_data() else { continue };
        if first.len() + more.len() + data.len() > limit {
            return Err(BodyError::TooLarge(limit));
        }
        if first.is_empty() {
            first = data; // most bodies are one frame: no copy
        } else {
            more.extend_from_slice(&data);
        }
    }
    if more.is_empty() {
        return Ok(first);
    }
    let mut whole = BytesMut::with_capacity(first.len() + more.len());
    whole.extend_from_slice(&first);
    whole.unsplit(more);
    Ok(whole.freeze())
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, time::Duration};

    use futures_util::{StreamExt as _, stream};
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;

    use super::*;

    fn later(seconds: u64) -> Instant {
        Instant::now() + Duration::from_secs(seconds)
    }

    #[tokio::test]
    async fn up_to_the_limit_and_not_beyond() {
        let chunks =
            |n| StreamBody::new(stream::iter((0..n).map(|_| Ok::<_, Infallible>(Frame::data(Bytes::from("four"))))));
        assert_eq!(read(chunks(3), 12, later(9)).await.unwrap(), "fourfourfour");
        assert!(matches!(read(chunks(4), 12, later(9)).await, Err(BodyError::TooLarge(12))));
        assert_eq!(read(Full::new(Bytes::from("12345")), 5, later(9)).await.unwrap(), "12345");
        assert!(matches!(read(Full::new(Bytes::from("123456")), 5, later(9)).await, Err(BodyError::TooLarge(5))));
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_is_for_the_whole_body() {
        let drip = stream::repeat(()).then(|()| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok::<_, Infallible>(Frame::data(Bytes::from("x")))
        });
        let start = Instant::now();
        let body = StreamBody::new(Box::pin(drip));
        assert!(matches!(read(body, 1000, later(5)).await, Err(BodyError::TooSlow)));
        assert_eq!(start.elapsed(), Duration::from_secs(5));
    }
}
