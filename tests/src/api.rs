//! The controller's side of the agent's API: HTTP/1.1 over mutual TLS, from the controller's node.
//!
//! Blocking, for tests are plain functions: do not call it inside an async runtime.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper::header::HeaderMap;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;

use crate::error::{Error, Result, chain, io};
use crate::place::Place;

/// How long the controller waits (`rest_request_read_timeout`).
const PATIENCE: Duration = Duration::from_mins(1);

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// The body as JSON; null where it is not.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One client of one agent. It keeps its connection between requests while the agent does.
pub struct Api {
    from: Place,
    to: SocketAddr,
    host: String,
    tls: Arc<ClientConfig>,
    runtime: Runtime,
    kept: Option<SendRequest<Full<Bytes>>>,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").field("from", &self.from).field("to", &self.to).finish_non_exhaustive()
    }
}

impl Api {
    /// A client in `from` of the agent at `to`, whose certificate must be for the host name `host` (an amphora id).
    pub fn new(from: Place, to: SocketAddr, host: &str, tls: Arc<ClientConfig>) -> Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(io("make a runtime"))?;
        Ok(Self { from, to, host: host.into(), tls, runtime, kept: None })
    }

    /// GET.
    pub fn get(&mut self, path: &str) -> Result<Reply> {
        self.send(Method::GET, path, &[], Vec::new())
    }

    /// POST with a JSON body.
    pub fn post(&mut self, path: &str, body: &Value) -> Result<Reply> {
        self.send(Method::POST, path, &[("content-type", "application/json")], body.to_string().into_bytes())
    }

    /// PUT with a JSON body.
    pub fn put(&mut self, path: &str, body: &Value) -> Result<Reply> {
        self.send(Method::PUT, path, &[("content-type", "application/json")], body.to_string().into_bytes())
    }

    /// DELETE.
    pub fn delete(&mut self, path: &str) -> Result<Reply> {
        self.send(Method::DELETE, path, &[], Vec::new())
    }

    /// Any request, on the kept connection or a new one. It is sent once: a connection the agent has closed meanwhile is
    /// an error only when it broke under this request.
    pub fn send(&mut self, method: Method, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Result<Reply> {
        let what = format!("{method} https://{}{path}", self.to);
        let mut request = Request::builder().method(method).uri(path).header("host", self.to.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| Error::Http { what: what.clone(), reason: chain(&error) })?;
        if self.kept.as_ref().is_none_or(SendRequest::is_closed) {
            self.connect()?;
        }
        let sender = self.kept.as_mut().expect("connected above");
        let exchange = async {
            sender.ready().await?;
            let (head, body) = sender.send_request(request).await?.into_parts();
            let body = body.collect().await?.to_bytes().to_vec();
            Ok(Reply { status: head.status.as_u16(), headers: head.headers, body })
        };
        let reply = in_time(&self.runtime, &what, exchange);
        if reply.is_err() {
            self.disconnect();
        }
        reply
    }

    /// Opens a new connection: TCP, then TLS. In TLS 1.3 a client whose certificate is refused hears it only with its
    /// first request.
    pub fn connect(&mut self) -> Result<()> {
        self.disconnect();
        let what = format!("connect to {}", self.to);
        let tcp = self.from.connect(self.to, Duration::from_secs(5))?;
        tcp.set_nonblocking(true).and_then(|()| tcp.set_nodelay(true)).map_err(io(what.clone()))?;
        let name = ServerName::try_from(self.host.clone())
            .map_err(|error| Error::Http { what: what.clone(), reason: chain(&error) })?;
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        let handshake = async {
            let tls = connector.connect(name, tokio::net::TcpStream::from_std(tcp)?).await?;
            let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls)).await?;
            tokio::spawn(connection); // its end shows at the sender
            Ok(sender)
        };
        self.kept = Some(in_time(&self.runtime, &what, handshake)?);
        Ok(())
    }

    /// Closes the kept connection.
    pub fn disconnect(&mut self) {
        self.kept = None;
        self.runtime.block_on(tokio::task::yield_now()); // lets the connection's task see it
    }
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

fn in_time<T>(runtime: &Runtime, what: &str, work: impl Future<Output = Result<T, Cause>>) -> Result<T> {
    let reason = match runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await }) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => chain(&*error),
        Err(_) => format!("no answer within {PATIENCE:?}"),
    };
    Err(Error::Http { what: what.into(), reason })
}
