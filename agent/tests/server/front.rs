//! The server with a router that shows what reached it, and clients that behave and misbehave over real TLS.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use amphora_agent::{
    config::TlsVersion,
    pulse::Pulse,
    server::{
        Deadline, Peer, body,
        serve::{self, Limits},
        tls::Reloader,
    },
};
use axum::{
    Extension, Router,
    body::Body,
    extract::Path,
    http::StatusCode,
    routing::{get, put},
};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::CancellationToken;

use crate::pki::{self, Authority};

pub(crate) type Client = Arc<ClientConfig>;
pub(crate) const BODY_LIMIT: usize = 1 << 20;

pub(crate) struct Front {
    pub(crate) address: SocketAddr,
    pub(crate) ca: Authority,
    pub(crate) files: tempfile::TempDir,
    /// Requests that reached the router.
    pub(crate) calls: Arc<AtomicUsize>,
    pub(crate) stop: CancellationToken,
    pub(crate) task: JoinHandle<()>,
}

impl Front {
    pub(crate) fn start(limits: Limits) -> Self {
        Self::with(Authority::new(), limits, TlsVersion::Tls12)
    }

    pub(crate) fn with(ca: Authority, limits: Limits, minimum: TlsVersion) -> Self {
        let files = tempfile::tempdir().unwrap();
        let (cert, client_ca) = (files.path().join("server.pem"), files.path().join("client_ca.pem"));
        std::fs::write(&cert, ca.server().pem).unwrap();
        std::fs::write(&client_ca, &ca.pem).unwrap();
        let reloader = Arc::new(Reloader::new(&cert, &client_ca, minimum).unwrap());
        let listener = serve::listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let (address, calls, stop) =
            (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default(), CancellationToken::new());
        let (router, pulse) = (router(calls.clone()), Pulse::default());
        let task = tokio::spawn(serve::serve(listener, reloader, router, move || limits, stop.clone(), pulse));
        Self { address, ca, files, calls, stop, task }
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(SeqCst)
    }

    /// A client the server knows.
    pub(crate) fn client(&self) -> Client {
        pki::client(&self.ca, Some(&self.ca.controller()), &rustls::version::TLS13)
    }

    pub(crate) async fn connect(&self, client: &Client) -> io::Result<TlsStream<TcpStream>> {
        connect(self.address, client).await
    }

    /// Sends bytes on a connection of their own and reads to its end.
    pub(crate) async fn raw(&self, client: &Client, bytes: &[u8]) -> io::Result<String> {
        let mut tls = self.connect(client).await?;
        let sent = tls.write_all(bytes).await; // may fail when the server has answered already
        let answer = read_all(&mut tls).await;
        if answer.is_empty() { sent.and(Ok(answer)) } else { Ok(answer) }
    }

    pub(crate) async fn get(&self, client: &Client, path: &str) -> io::Result<String> {
        self.raw(client, format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").as_bytes()).await
    }
}

pub(crate) async fn connect(address: SocketAddr, client: &Client) -> io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address).await?;
    TlsConnector::from(client.clone()).connect(ServerName::try_from("amphora.test").unwrap(), tcp).await
}

/// What arrives until the server closes.
pub(crate) async fn read_all(tls: &mut TlsStream<TcpStream>) -> String {
    let mut answer = Vec::new();
    let end = timeout(Duration::from_secs(20), tls.read_to_end(&mut answer)).await;
    assert!(end.is_ok(), "the server neither answered nor closed: {:?}", String::from_utf8_lossy(&answer));
    String::from_utf8_lossy(&answer).into_owned()
}

/// One request on a connection that stays open; `path` must answer with a short body.
pub(crate) async fn ask(tls: &mut TlsStream<TcpStream>, path: &str) -> io::Result<String> {
    tls.write_all(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).await?;
    let mut answer = vec![0; 4096];
    let read = timeout(Duration::from_secs(20), tls.read(&mut answer)).await.expect("an answer or an end")?;
    answer.truncate(read);
    if read == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(String::from_utf8_lossy(&answer).into_owned()) }
}

/// The status of an answer; 0 when there is none.
pub(crate) fn status_of(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}

fn router(calls: Arc<AtomicUsize>) -> Router {
    let status = |Path(code): Path<u16>| async move { StatusCode::from_u16(code).unwrap() };
    let who = |Extension(peer): Extension<Peer>| async move {
        peer.client.and_then(|client| client.common_name).unwrap_or_default()
    };
    let slow = async || {
        tokio::time::sleep(Duration::from_millis(700)).await;
        "slow"
    };
    let upload =
        async |Extension(deadline): Extension<Deadline>, body: Body| match body::read(body, BODY_LIMIT, deadline.0)
            .await
        {
            Ok(bytes) => (StatusCode::OK, format!("{} bytes", bytes.len())),
            Err(error) => (StatusCode::BAD_REQUEST, error.to_string()),
        };
    Router::new()
        .route("/", get(async || "root"))
        .route("/1.0/info", get(async || "info"))
        .route("/who", get(who))
        .route("/slow", get(slow))
        .route("/big", get(async || vec![b'x'; 64 << 20]))
        .route("/panic", get(panics))
        .route("/status/{code}", get(status))
        .route("/body", put(upload))
        .fallback(async || (StatusCode::NOT_FOUND, r#"{"error":"Not Found","http_code":404}"#))
        .method_not_allowed_fallback(async || (StatusCode::METHOD_NOT_ALLOWED, r#"{"http_code":405}"#))
        .layer(axum::middleware::map_request(move |request: axum::extract::Request| {
            calls.fetch_add(1, SeqCst);
            async move { request }
        }))
}

async fn panics() {
    panic!("on purpose");
}
