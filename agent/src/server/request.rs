//! One request between hyper and the router: what Octavia's controller expects of any answer, whatever the handler does.

use std::{
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{Router, body::Body, response::Response};
use bytes::Bytes;
use futures_util::FutureExt as _;
use hyper::{
    HeaderMap, Method, Request, StatusCode, Uri,
    body::{Frame, Incoming, SizeHint},
    header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue},
};
use tower::ServiceExt as _;

use super::{Deadline, Peer, slots::Slot, unread::Unread};

/// As upstream words an unhandled exception.
const PANICKED: &str = r#"{"error":"Internal Server Error: the handler of this request failed","http_code":500}"#;

/// Runs the router on one request.
pub(super) async fn answer(
    router: Router,
    request: Request<Incoming>,
    peer: Peer,
    deadline: Deadline,
    slot: Arc<Slot>,
) -> Response<Held> {
    let (mut parts, body) = request.into_parts();
    let body = Unread::new(body, slot.clone());
    let held = Busy::begin(slot);
    let is_options = parts.method == Method::OPTIONS;
    let (method, path) = (parts.method.clone(), parts.uri.path().to_owned());
    let changes = !matches!(method, Method::GET | Method::HEAD | Method::OPTIONS);
    if let Some(uri) = without_double_slashes(&parts.uri) {
        parts.uri = uri;
    }
    parts.extensions.insert(peer);
    parts.extensions.insert(deadline);
    let handled = router.oneshot(Request::from_parts(parts, Body::new(body)));
    let mut response = match AssertUnwindSafe(handled).catch_unwind().await {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(_) => panicked(),
    };
    if is_options && response.status() == StatusCode::METHOD_NOT_ALLOWED {
        response = options(response.headers());
    }
    if changes {
        tracing::info!(%method, path, status = response.status().as_u16(), "called");
    }
    let known = octavias(response.status());
    if known != response.status() {
        tracing::error!(status = response.status().as_u16(), "a status the controller takes for success");
        *response.status_mut() = known;
    }
    response.map(|body| Held { body, _busy: held })
}

fn panicked() -> Response {
    tracing::error!("a handler panicked; the request is answered with 500");
    let mut response = Response::new(Body::from(PANICKED));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Flask answers OPTIONS for every route that exists; axum says 405 and lists the methods.
fn options(refused: &HeaderMap) -> Response {
    let methods = refused.get(ALLOW).and_then(|allow| allow.to_str().ok()).filter(|allow| !allow.is_empty());
    let allow = methods.map_or_else(|| "OPTIONS".to_owned(), |methods| format!("{methods},OPTIONS"));
    let mut response = Response::new(Body::empty());
    if let Ok(allow) = HeaderValue::try_from(allow) {
        response.headers_mut().insert(ALLOW, allow);
    }
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    response
}

/// The status a client is sent when the router has answered with this one.
pub(crate) fn answered(is_options: bool, status: StatusCode) -> StatusCode {
    if is_options && status == StatusCode::METHOD_NOT_ALLOWED { StatusCode::OK } else { octavias(status) }
}

/// The statuses the stock controller knows; it takes every other for success.
fn octavias(status: StatusCode) -> StatusCode {
    match status.as_u16() {
        200 | 202 | 400 | 401 | 403 | 404 | 405 | 409 | 500 | 503 => status,
        201..=299 => StatusCode::OK,
        400..=499 => StatusCode::BAD_REQUEST,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The controller sends `//1.0/info`, which upstream takes for `/1.0/info`. `None` when there is nothing to change.
fn without_double_slashes(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    if !path.contains("//") {
        return None;
    }
    let mut single = String::with_capacity(path.len());
    for c in path.chars() {
        if c != '/' || !single.ends_with('/') {
            single.push(c);
        }
    }
    if let Some(query) = uri.query() {
        single.push('?');
        single.push_str(query);
    }
    Uri::try_from(single).ok()
}

/// A slot with a request in it.
#[derive(Debug)]
struct Busy(Arc<Slot>);

impl Busy {
    fn begin(slot: Arc<Slot>) -> Self {
        slot.set_busy(true);
        Self(slot)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.set_busy(false);
    }
}

/// A response body; its connection is busy until it is sent.
#[derive(Debug)]
pub(super) struct Held {
    body: Body,
    _busy: Busy,
}

impl hyper::body::Body for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_statuses_the_controller_knows_leave() {
        for (given, sent) in [
            (200, 200),
            (202, 202),
            (201, 200),
            (204, 200),
            (302, 500),
            (404, 404),
            (413, 400),
            (415, 400),
            (422, 400),
            (431, 400),
            (503, 503),
            (501, 500),
        ] {
            assert_eq!(octavias(StatusCode::from_u16(given).unwrap()).as_u16(), sent, "{given}");
        }
    }

    #[test]
    fn slashes_collapse_in_the_path_alone() {
        let fixed = |uri: &str| without_double_slashes(&uri.parse().unwrap()).map(|uri| uri.to_string());
        assert_eq!(fixed("//1.0/info").unwrap(), "/1.0/info");
        assert_eq!(fixed("/1.0///info//?a=//b").unwrap(), "/1.0/info/?a=//b");
        assert_eq!(fixed("http://h//1.0/info").unwrap(), "/1.0/info");
        assert_eq!(fixed("/1.0/info?a=//b"), None);
    }
}
