//! One request as bytes, one answer as text: the corpus holds what no HTTP client would send.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lab::Place;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::Value;

/// A ceiling: the controller waits as long.
const PATIENCE: Duration = Duration::from_mins(1);

/// Where an agent is and what proves who calls.
pub(crate) struct Server {
    pub(crate) from: Place,
    pub(crate) address: SocketAddr,
    pub(crate) name: String,
    pub(crate) tls: Arc<ClientConfig>,
}

/// What an agent answered, as far as it is compared.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) etag: String,
    pub(crate) location: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

impl Server {
    /// Sends `request` on a connection of its own. `None` when the agent closed it without an answer.
    pub(crate) fn exchange(&self, request: &[u8], head_only: bool) -> Option<Answer> {
        let tcp = self.from.connect(self.address, PATIENCE).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        let name = self.name.clone().try_into().unwrap();
        let mut stream = StreamOwned::new(ClientConnection::new(Arc::clone(&self.tls), name).unwrap(), tcp);
        // A refusal may come, and the connection end, before all is sent.
        let _ = stream.write_all(request).and_then(|()| stream.flush());
        let mut all = Vec::new();
        let mut piece = [0; 16 * 1024];
        loop {
            if let Some(answer) = parse(&all, head_only) {
                return Some(answer);
            }
            match stream.read(&mut piece) {
                Ok(length) if length > 0 => all.extend_from_slice(&piece[..length]),
                Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock) => {
                    panic!("no answer in {PATIENCE:?}")
                }
                _ => return None,
            }
        }
    }
}

/// The final answer in `all`, once it is whole.
fn parse(all: &[u8], head_only: bool) -> Option<Answer> {
    let end = all.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&all[..end]).into_owned();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    if status == 100 {
        return parse(&all[end..], head_only);
    }
    let field = |name: &str| {
        let of = |line: &str| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        };
        head.lines().find_map(of).unwrap_or_default()
    };
    let length: usize = if head_only { 0 } else { field("content-length").parse().unwrap_or(0) };
    let body = all.get(end..end + length)?.to_vec();
    let content_type = field("content-type").to_ascii_lowercase(); // RFC 9110, section 8.3.2: charset has no case
    Some(Answer { status, content_type, etag: field("etag"), location: field("location"), body })
}
