//! The program `prometheus-proxy`: a tenant's PROMETHEUS listener leads to it (haproxy's backend
//! `prometheus-exporter-internal`), it asks haproxy for its metrics and passes them on by Octavia's names.
//!
//! It is a process of its own, as in the stock image, since it faces tenants: what they do to it cannot reach the agent.
//! Metrics pass through line by line, so that its size does not follow the number of members.

mod host;
mod names;
mod rewrite;
mod service;

use std::{
    ffi::OsString,
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::MetadataExt as _,
    path::Path,
    pin::Pin,
    process::ExitCode,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{Either, Empty};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Frame, Incoming},
    header::{CACHE_CONTROL, CONTENT_TYPE, HOST},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use netns::Namespace;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};

use crate::{api::error::with_causes, kernel::NAMESPACE};
use rewrite::Rewriter;
pub use service::keep_running;

/// Where haproxy connects to (Octavia's haproxy template).
const OURS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9102);
/// Where haproxy's own metrics are (the same).
const HAPROXY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9101);
/// How many are served at once; more wait in the socket's queue.
const CONNECTIONS: usize = 16;
/// How long a request's head may take, and haproxy's answer to ours. haproxy gives up on us after 5 s.
const HEAD: Duration = Duration::from_secs(5);
/// How long a connection may take in all. Prometheus gives up on a scrape after 10 s.
const WHOLE: Duration = Duration::from_secs(30);
/// How long to wait for a namespace or address that is not there yet.
const AGAIN: Duration = Duration::from_secs(1);
/// `EX_USAGE` of sysexits.h.
const EX_USAGE: u8 = 64;

/// The program. It ends by a signal.
#[must_use]
pub fn program(arguments: &[OsString]) -> ExitCode {
    let print_rejected = match arguments {
        [] => false,
        [only] if only == "--rejected" => true,
        _ => {
            eprintln!("usage: prometheus-proxy [--rejected]");
            return ExitCode::from(EX_USAGE);
        }
    };
    let served = inside(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(serve(print_rejected))
    });
    match served {
        Ok(never) => never,
        Err(error) => {
            eprintln!("prometheus-proxy: {}", with_causes(&error));
            ExitCode::FAILURE
        }
    }
}

/// Runs `f` in `amphora-haproxy`, once it is there. Whoever starts this program may have put it there, without the
/// right to go anywhere.
fn inside<T: Send>(f: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    loop {
        let path = Path::new("/run/netns").join(NAMESPACE);
        let identity = |path: &Path| fs::metadata(path).map(|about| (about.dev(), about.ino())).ok();
        if identity(&path).is_some_and(|it| Some(it) == identity(Path::new("/proc/thread-self/ns/net"))) {
            return f();
        }
        if let Some(namespace) = Namespace::find(NAMESPACE).map_err(io::Error::other)? {
            return namespace.run(f).map_err(io::Error::other)?;
        }
        std::thread::sleep(AGAIN);
    }
}

async fn serve(print_rejected: bool) -> io::Result<ExitCode> {
    let listener = loop {
        match TcpListener::bind(OURS).await {
            Ok(listener) => break listener,
            // The loopback interface may not be up yet, and an older proxy not gone.
            Err(error) if matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse) => {
                sleep(AGAIN).await;
            }
            Err(error) => return Err(error),
        }
    };
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let permit = permits.clone().acquire_owned().await.map_err(io::Error::other)?;
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                eprintln!("prometheus-proxy: cannot accept: {error}");
                sleep(AGAIN).await;
                continue;
            }
        };
        tokio::spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new()
                .keep_alive(false)
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .serve_connection(TokioIo::new(stream), service_fn(move |request| answer(request, print_rejected)));
            let _ = timeout(WHOLE, connection).await; // the client's fault or its absence; nobody is left to be told
            drop(permit);
        });
    }
}

/// GET, whatever the path, is answered with the metrics, as upstream does.
async fn answer(
    request: Request<Incoming>,
    print_rejected: bool,
) -> Result<Response<Either<Metrics, Empty<Bytes>>>, hyper::http::Error> {
    let empty = |status| Response::builder().status(status).body(Either::Right(Empty::new()));
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return empty(StatusCode::NOT_IMPLEMENTED);
    }
    let asked = timeout(HEAD, ask()).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let metrics = asked.and_then(|source| {
        let ready = host::metrics()?.into_bytes();
        Ok(Metrics { ready, source: Some(source), rewriter: Rewriter::new(print_rejected) })
    });
    match metrics {
        Ok(metrics) => Response::builder()
            .header(CACHE_CONTROL, "no-cache")
            .header(CONTENT_TYPE, "text/plain; version=0.0.4")
            .body(Either::Left(metrics)),
        Err(error) => {
            eprintln!("prometheus-proxy: haproxy's metrics cannot be had: {error}");
            empty(StatusCode::BAD_GATEWAY)
        }
    }
}

/// haproxy's metrics, as they come.
async fn ask() -> io::Result<Incoming> {
    let stream = TcpStream::connect(HAPROXY).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(connection); // it ends with its body, or when nobody reads that any more
    let request = Request::get("/metrics").header(HOST, HAPROXY.to_string()).body(Empty::<Bytes>::new());
    let response = sender.send_request(request.map_err(io::Error::other)?).await.map_err(io::Error::other)?;
    match response.status() {
        StatusCode::OK => Ok(response.into_body()),
        status => Err(io::Error::other(format!("it answers {status}"))),
    }
}

/// The body of an answer: what is ready, then what becomes of haproxy's text.
#[derive(Debug)]
struct Metrics {
    ready: Vec<u8>,
    source: Option<Incoming>,
    rewriter: Rewriter,
}

impl Body for Metrics {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Self { ready, source, rewriter } = self.get_mut();
        loop {
            if !ready.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(std::mem::take(ready).into()))));
            }
            let Some(body) = source else { return Poll::Ready(None) };
            let Some(frame) = ready!(Pin::new(body).poll_frame(context)?) else {
                rewriter.end(ready);
                *source = None;
                continue;
            };
            if let Some(data) = frame.data_ref() {
                rewriter.push(data, ready);
            }
        }
    }
}
