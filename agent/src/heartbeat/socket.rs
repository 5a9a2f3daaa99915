//! One question to haproxy's stats socket, with an end: haproxy may hang, and what it says may be long.

use std::{io, path::Path};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::{Instant, timeout_at},
};

/// The longest answer, in bytes: about 50,000 servers.
const LONGEST: u64 = 16 * 1024 * 1024;
/// Room for the answer of a small load balancer, in bytes; haproxy writes 16 KiB at a time.
const USUAL: usize = 16 * 1024;

/// Sends a command and reads the answer, which haproxy ends by closing.
///
/// # Errors
/// The system's; `TimedOut` at `until`, `WouldBlock` at once where haproxy has not accepted the connections before.
pub async fn ask(socket: &Path, command: &str, until: Instant) -> io::Result<String> {
    let exchange = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(format!("{command}\n").as_bytes()).await?;
        let mut answer = Vec::with_capacity(USUAL);
        stream.take(LONGEST + 1).read_to_end(&mut answer).await?;
        if answer.len() as u64 > LONGEST {
            return Err(io::Error::other(format!("the answer is longer than {LONGEST} bytes")));
        }
        // Names are Octavia's ids; what may be anything is a health check's text, which nobody here reads.
        Ok(String::from_utf8(answer).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
    };
    timeout_at(until, exchange).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
