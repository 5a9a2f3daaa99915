//! The socket on which a service says how it is: `sd_notify(3)`.

use std::{
    io,
    path::{Path, PathBuf},
};

use tokio::net::UnixDatagram;

/// Longer messages are cut; systemd's own limit.
const LONGEST: usize = 4096;

/// A service's socket. Bound anew by each agent at the same path, which is why a service finds it again.
#[derive(Debug)]
pub(super) struct NotifySocket {
    socket: UnixDatagram,
    path: PathBuf,
}

impl NotifySocket {
    /// Only who may enter its directory can send.
    pub(super) fn bind(path: PathBuf) -> io::Result<Self> {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(Self { socket: UnixDatagram::bind(&path)?, path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until the service says `READY=1`.
    pub(super) async fn ready(&self) {
        let mut message = [0; LONGEST];
        loop {
            match self.socket.recv(&mut message).await {
                Ok(length) if message[..length].split(|b| *b == b'\n').any(|line| line == b"READY=1") => return,
                Ok(_) => {}
                Err(error) => {
                    tracing::error!(%error, "a service cannot be heard");
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    /// Forgets what it has said so far.
    pub(super) fn drain(&self) {
        let mut message = [0; LONGEST];
        while self.socket.try_recv(&mut message).is_ok() {}
    }
}
