//! One request at a time to the agent's UNIX socket.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::hints;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, client::conn::http1::handshake, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::UnixStream, runtime::Runtime, time::timeout};

/// The longest the agent takes for anything is half of it.
const PATIENCE: Duration = Duration::from_mins(1);

/// Why there is no answer, or none that helps.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// Nobody listens.
    #[error("the agent does not run: nobody listens on {} (systemctl status amphora-agent says why; where there is no systemd, the log of what starts it)", .0.display())]
    Down(PathBuf),
    /// The kernel refused.
    #[error("only root may talk to the agent: {} cannot be opened", .0.display())]
    NotRoot(PathBuf),
    /// Something else is wrong with the socket.
    #[error("{}: cannot be opened: {error}", .socket.display())]
    Socket {
        /// Its path.
        socket: PathBuf,
        /// The kernel's.
        error: io::Error,
    },
    /// The agent ended, or is another program.
    #[error("the agent broke off: {0}")]
    Broken(String),
    /// It hangs.
    #[error("no answer from the agent within {} s", PATIENCE.as_secs())]
    Silent,
    /// It said no.
    #[error("{said} (status {status} of {call})")]
    Refused {
        /// Method and path.
        call: String,
        /// Of HTTP.
        status: u16,
        /// The agent's words.
        said: String,
    },
}

/// The way to the agent.
#[derive(Debug)]
pub(super) struct Client {
    socket: PathBuf,
    runtime: Runtime,
}

impl Client {
    /// Does not connect yet.
    pub(super) fn new(socket: &Path) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { socket: socket.to_owned(), runtime })
    }

    /// GET of a JSON answer.
    pub(super) fn get(&self, path: &str) -> Result<Value, CallError> {
        self.call(Method::GET, path, None)
    }

    /// Any call whose answer is JSON.
    pub(super) fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, CallError> {
        let bytes = self.bytes(method, path, body)?;
        serde_json::from_slice(&bytes).map_err(|error| CallError::Broken(format!("its answer is no JSON: {error}")))
    }

    /// Any call. An answer that is no success is an error, in the agent's words.
    pub(super) fn bytes(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Bytes, CallError> {
        let call = format!("{method} {path}");
        let exchange = async {
            let unix = UnixStream::connect(&self.socket).await.map_err(|error| self.closed(error))?;
            let (mut sender, connection) = handshake(TokioIo::new(unix)).await.map_err(broken)?;
            tokio::spawn(connection); // its end shows at the sender
            let request = Request::builder().method(method).uri(path).header(header::HOST, "localhost");
            let request = request.header(header::CONTENT_TYPE, "application/json");
            let body = body.map(Value::to_string).unwrap_or_default();
            let request = request.body(Full::new(Bytes::from(body))).map_err(broken)?;
            let (head, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
            let bytes = body.collect().await.map_err(broken)?.to_bytes();
            if head.status.is_success() {
                return Ok(bytes);
            }
            Err(CallError::Refused { call, status: head.status.as_u16(), said: hints::commands(&said(&bytes)) })
        };
        self.runtime.block_on(async { timeout(PATIENCE, exchange).await }).unwrap_or(Err(CallError::Silent))
    }

    /// Which process it is; `None` where it does not run, or nobody can see it from here.
    pub(super) fn agent(&self) -> Option<i32> {
        let connected = self.runtime.block_on(UnixStream::connect(&self.socket));
        connected.ok()?.peer_cred().ok()?.pid().filter(|pid| *pid > 0)
    }

    fn closed(&self, error: io::Error) -> CallError {
        let socket = self.socket.clone();
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => CallError::Down(socket),
            io::ErrorKind::PermissionDenied => CallError::NotRoot(socket),
            _ => CallError::Socket { socket, error },
        }
    }
}

fn broken(error: impl std::error::Error) -> CallError {
    CallError::Broken(crate::api::error::with_causes(&error))
}

/// What a refusal says, whichever of the API's shapes it has.
fn said(body: &[u8]) -> String {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let parts: Vec<_> = ["message", "error", "details"].iter().filter_map(|key| json[key].as_str()).collect();
    if parts.is_empty() { String::from_utf8_lossy(body).into_owned() } else { parts.join(": ") }
}
