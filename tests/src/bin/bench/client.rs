//! The client of every HTTP figure and of its floor: one blocking connection, as little between socket and clock as
//! HTTP over TLS allows. (The lab's own client brings hyper and a runtime, which cost more than some of the figures.)

use std::{
    io::{Read, Write as _},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};
use serde_json::Value;

use crate::Result;

/// Longer than anything measured here.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whom to call, and as whom.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// The name its certificate is for.
    pub(crate) name: ServerName<'static>,
    pub(crate) tls: Arc<ClientConfig>,
}

/// A connection. Its network is that of the thread that opened it.
pub(crate) struct Connection {
    tls: StreamOwned<ClientConnection, TcpStream>,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects. The handshake happens with the first request.
    pub(crate) fn open(to: &Server) -> Result<Self> {
        let tcp = TcpStream::connect_timeout(&to.address, PATIENCE)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        let tls = ClientConnection::new(Arc::clone(&to.tls), to.name.clone())?;
        Ok(Self { tls: StreamOwned::new(tls, tcp), buffer: Vec::with_capacity(4096) })
    }

    /// Does the handshake now.
    pub(crate) fn shake_hands(&mut self) -> Result<()> {
        while self.tls.conn.is_handshaking() {
            self.tls.conn.complete_io(&mut self.tls.sock)?;
        }
        Ok(())
    }

    /// One request and its whole answer, head and body; an error unless it is 200 or 202.
    pub(crate) fn exchange(&mut self, request: &[u8]) -> Result<&[u8]> {
        self.tls.write_all(request)?;
        self.tls.flush()?;
        self.buffer.clear();
        let mut end = None;
        while end.is_none_or(|end| self.buffer.len() < end) {
            let mut piece = [0; 4096];
            let read = self.tls.read(&mut piece)?;
            if read == 0 {
                return Err(format!("the answer ended early: {}", String::from_utf8_lossy(&self.buffer)).into());
            }
            self.buffer.extend_from_slice(&piece[..read]);
            end = end.or_else(|| length(&self.buffer));
        }
        match self.buffer.get(9..12) {
            Some(b"200" | b"202") => Ok(&self.buffer),
            _ => Err(format!("refused: {}", String::from_utf8_lossy(&self.buffer)).into()),
        }
    }

    /// A request with a body of `length` bytes, none of which is kept; the status of the answer, which may come before
    /// all is sent.
    pub(crate) fn upload(&mut self, head: &[u8], length: usize) -> Result<u16> {
        self.tls.write_all(head)?;
        let piece = vec![b' '; 64 * 1024];
        let mut left = length;
        while left > 0 {
            let now = left.min(piece.len());
            if self.tls.write_all(&piece[..now]).is_err() {
                break; // the server has said what it thinks of it
            }
            left -= now;
        }
        let _ = self.tls.flush();
        let mut answer = [0; 4096];
        let read = self.tls.read(&mut answer)?;
        let status = answer[..read].get(9..12).and_then(|status| std::str::from_utf8(status).ok()?.parse().ok());
        Ok(status.ok_or("an answer without a status")?)
    }

    /// What was negotiated.
    pub(crate) fn suite(&self) -> String {
        let suite = self.tls.conn.negotiated_cipher_suite().map(|s| format!("{:?}", s.suite()));
        let group = self.tls.conn.negotiated_key_exchange_group().map(|g| format!("{:?}", g.name()));
        format!("{} with {}", suite.unwrap_or_default(), group.unwrap_or_default())
    }
}

/// Head and body together, once the head is there.
fn length(answer: &[u8]) -> Option<usize> {
    let head = answer.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&answer[..head]).ok()?.to_ascii_lowercase();
    let body: usize = text.lines().find_map(|l| l.strip_prefix("content-length:")?.trim().parse().ok())?;
    Some(head + body)
}

/// A GET or DELETE.
pub(crate) fn get(method: &str, path: &str) -> Vec<u8> {
    format!("{method} {path} HTTP/1.1\r\nhost: amphora\r\n\r\n").into_bytes()
}

/// A POST of JSON.
pub(crate) fn post(path: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let length = body.len();
    let head = "host: amphora\r\ncontent-type: application/json";
    format!("POST {path} HTTP/1.1\r\n{head}\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}

/// A PUT of bytes.
pub(crate) fn put(path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("PUT {path} HTTP/1.1\r\nhost: amphora\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// `GET /1.0/info`.
pub(crate) fn info() -> Vec<u8> {
    get("GET", "/1.0/info")
}
