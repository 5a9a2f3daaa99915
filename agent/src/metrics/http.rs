//! Counts the API's requests, by the route that served them: a layer around the router, so that every way in is counted.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{Method, StatusCode},
    middleware::Next,
    response::Response,
};

use crate::server;

/// Upper bounds of the buckets, in milliseconds: most calls take some, a plug or a reload up to seconds, and the
/// controller gives up after 60 s.
const BOUNDS: [u16; 12] = [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 60_000];
/// The route of a URL that has none: what clients make up is no label.
const NO_ROUTE: &str = "none";
/// What stands for a status where nobody was left to be answered.
const ABORTED: &str = "aborted";

/// How long requests took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Durations {
    buckets: [u64; BOUNDS.len()],
    count: u64,
    sum: Duration,
}

impl Durations {
    pub(super) fn observe(&mut self, took: Duration) {
        if let Some(fits) = BOUNDS.iter().position(|bound| took <= Duration::from_millis((*bound).into())) {
            self.buckets[fits] += 1;
        }
        (self.count, self.sum) = (self.count + 1, self.sum + took);
    }

    /// Upper bounds in seconds, and how many were not above.
    pub(super) fn cumulative(&self) -> impl Iterator<Item = (String, u64)> {
        let mut sum = 0;
        let bounds = BOUNDS.iter().map(|bound| (f64::from(*bound) / 1_000.0).to_string());
        let counted = bounds.zip(self.buckets).map(move |(bound, count)| {
            sum += count;
            (bound, sum)
        });
        counted.chain([("+Inf".to_owned(), self.count)])
    }

    pub(super) fn sum(&self) -> Duration {
        self.sum
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }
}

/// The requests so far. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Requests(Arc<Mutex<Counted>>);

/// Methods and routes are a few dozen, statuses ten.
#[derive(Clone, Debug, Default)]
pub(super) struct Counted {
    /// By method, route and status.
    pub(super) answers: BTreeMap<(&'static str, String, String), u64>,
    /// By route.
    pub(super) durations: BTreeMap<String, Durations>,
}

impl Requests {
    pub(super) fn counted(&self) -> Counted {
        self.lock().clone()
    }

    /// A panic leaves nothing half changed that matters.
    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A layer that counts what goes through.
pub async fn count(State(requests): State<Requests>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or(NO_ROUTE, MatchedPath::as_str).to_owned();
    let is_options = request.method() == Method::OPTIONS;
    let mut running =
        Running { requests, method: method(request.method()), route, status: None, since: Instant::now() };
    let response = next.run(request).await;
    running.status = Some(server::answered(is_options, response.status()));
    response
}

/// A request that is being answered. It counts at its end, whatever ends it.
struct Running {
    requests: Requests,
    method: &'static str,
    route: String,
    status: Option<StatusCode>,
    since: Instant,
}

impl Drop for Running {
    fn drop(&mut self) {
        let code = match self.status {
            Some(status) => status.as_str().to_owned(),
            None if std::thread::panicking() => StatusCode::INTERNAL_SERVER_ERROR.as_str().to_owned(),
            None => ABORTED.to_owned(),
        };
        let route = std::mem::take(&mut self.route);
        let mut counted = self.requests.lock();
        counted.durations.entry(route.clone()).or_default().observe(self.since.elapsed());
        *counted.answers.entry((self.method, route, code)).or_default() += 1;
    }
}

/// What clients make up is no label.
fn method(method: &Method) -> &'static str {
    let known = ["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"];
    known.into_iter().find(|name| *name == method.as_str()).unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body, middleware::from_fn_with_state, routing::get};
    use futures_util::FutureExt as _;
    use tower::ServiceExt as _;

    use super::*;

    fn router(requests: &Requests) -> Router {
        async fn item(axum::extract::Path(id): axum::extract::Path<String>) -> StatusCode {
            match id.as_str() {
                "panic" => panic!("on purpose"),
                "wait" => std::future::pending().await,
                "large" => StatusCode::PAYLOAD_TOO_LARGE,
                _ => StatusCode::ACCEPTED,
            }
        }
        let fallback = || async { StatusCode::NOT_FOUND };
        let router = Router::new().route("/items/{id}", get(item)).fallback(fallback);
        router.layer(from_fn_with_state(requests.clone(), count))
    }

    #[tokio::test]
    async fn every_end_of_a_request_counts_once_under_its_routes_template() {
        let requests = Requests::default();
        let call = |method: &str, path: &str| {
            let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
            router(&requests).oneshot(request)
        };
        for (method, path) in [
            ("GET", "/items/1"),
            ("GET", "/items/2"),
            ("GET", "/items/large"),
            ("OPTIONS", "/items/1"),
            ("BREW", "/items/1"),
            ("GET", "/unknown/1"),
            ("GET", "/unknown/2"),
        ] {
            call(method, path).await.unwrap();
        }
        assert!(std::panic::AssertUnwindSafe(call("GET", "/items/panic")).catch_unwind().await.is_err());
        assert!(call("GET", "/items/wait").now_or_never().is_none());
        let Counted { answers, durations } = requests.counted();
        let expected = [
            ("GET", "/items/{id}", "202", 2),
            ("GET", "/items/{id}", "400", 1),
            ("GET", "/items/{id}", "500", 1),
            ("GET", "/items/{id}", ABORTED, 1),
            ("GET", NO_ROUTE, "404", 2),
            ("OPTIONS", "/items/{id}", "200", 1),
            ("other", "/items/{id}", "405", 1),
        ];
        let expected = expected.map(|(method, route, code, n)| ((method, route.to_owned(), code.to_owned()), n));
        assert_eq!(answers, expected.into());
        assert_eq!((durations["/items/{id}"].count(), durations[NO_ROUTE].count()), (7, 2));
    }
}
