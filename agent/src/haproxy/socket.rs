//! What haproxy's stats socket is asked for here.

use std::{io, path::Path, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::timeout,
};

/// A haproxy that takes longer is not waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest state taken, in bytes: about 50,000 servers.
const LONGEST: u64 = 16 * 1024 * 1024;

/// The state of all servers, as haproxy reads it from its `server-state-file`: with an end of line at its end.
///
/// # Errors
/// The system's; `TimedOut` where haproxy does not answer.
pub(super) async fn servers_state(socket: &Path) -> io::Result<String> {
    let exchange = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(b"show servers state\n").await?;
        let mut state = String::new();
        let mut answer = stream.take(LONGEST);
        answer.read_to_string(&mut state).await?;
        match answer.limit() {
            0 => Err(io::Error::other(format!("the answer is longer than {LONGEST} bytes"))),
            _ => Ok(state.trim_end().to_owned() + "\n"),
        }
    };
    timeout(PATIENCE, exchange).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
