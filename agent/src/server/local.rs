//! The back door: the same router on a UNIX socket, for root of this machine (`amphoractl`).
//!
//! Its protection is twofold: nobody else may open the socket, and whoever has opened it is asked of the kernel
//! (`SO_PEERCRED`). It has connections of its own: a flood at the front door does not close it.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::Path,
    sync::Arc,
};

use axum::{Json, Router, http::StatusCode};
use serde_json::json;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::{
    Peer,
    connection::{Connections, Requests, accepted},
    serve::Limits,
    slots::{Slot, Slots},
};

/// Where the agent listens.
pub const SOCKET: &str = "/run/amphora-agent/api.sock";

/// Connections at a time.
const CONNECTIONS: usize = 32;

/// Listens on `path`, with mode 0600 from its first moment, in the place of a socket that is left there: whoever calls
/// holds the agent's lock, so that it is nobody's any more.
///
/// # Errors
/// The system's.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(parent)?;
    // A socket is made with what the umask leaves, which is the whole process's. So it is made where nobody else gets in,
    // and takes its place when it is fit for that.
    let making = parent.join(".api.new");
    match fs::remove_dir_all(&making) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {} // left by a crash, or not there
    }
    DirBuilder::new().mode(0o700).create(&making)?;
    let new = making.join("api.sock");
    let listener = UnixListener::bind(&new)?;
    fs::set_permissions(&new, Permissions::from_mode(0o600))?;
    fs::rename(&new, path)?;
    fs::remove_dir(&making)?;
    Ok(listener)
}

/// As [`super::serve::serve`], to root alone.
pub async fn serve(listener: UnixListener, router: Router, limits: impl Fn() -> Limits, stop: CancellationToken) {
    let slots = Slots::new(CONNECTIONS);
    let connections = Connections::default();
    let next = async || accepted(listener.accept().await, &slots).await;
    while let Some(accepted) = stop.run_until_cancelled(next()).await {
        let Some(((unix, _), slot)) = accepted else { continue };
        let router = if is_root(&unix) { router.clone() } else { Router::new().fallback(refused) };
        let (reloader, admitted) = (None, CancellationToken::new());
        let requests = Requests { reloader, admitted, router, limits: limits(), stop: stop.clone() };
        connections.spawn(connection(requests, unix, slot).instrument(tracing::info_span!("conn", peer = SOCKET)));
    }
    drop(listener);
    connections.end(limits().grace).await;
}

async fn connection(requests: Requests, unix: UnixStream, slot: Slot) {
    slot.set_busy(false);
    requests.answer(unix, Peer { client: None, local: None }, Arc::new(slot)).await;
}

/// Whether root has connected; what cannot be told is not.
fn is_root(unix: &UnixStream) -> bool {
    match unix.peer_cred() {
        Ok(credentials) if credentials.uid() == 0 => true,
        Ok(credentials) => {
            tracing::warn!(uid = credentials.uid(), "refused: only root may use {SOCKET}");
            false
        }
        Err(error) => {
            tracing::warn!(%error, "refused: nobody knows who has connected to {SOCKET}");
            false
        }
    }
}

async fn refused() -> (StatusCode, Json<serde_json::Value>) {
    (StatusCode::FORBIDDEN, Json(json!({"message": "Only root may use this socket"})))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};

    use super::*;

    #[tokio::test]
    async fn a_socket_that_is_left_there_is_replaced_and_nobody_else_may_open_the_new_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("api.sock");
        drop(listen(&path).unwrap());
        let stale = fs::metadata(&path).unwrap().ino();
        // As a crash leaves it.
        fs::create_dir_all(directory.path().join(".api.new")).unwrap();
        fs::write(directory.path().join(".api.new/api.sock"), "").unwrap();
        let listener = listen(&path).unwrap();
        let socket = fs::metadata(&path).unwrap();
        assert!(socket.file_type().is_socket() && socket.ino() != stale);
        assert_eq!(socket.permissions().mode() & 0o777, 0o600);
        let (connected, accepted) = tokio::join!(UnixStream::connect(&path), listener.accept());
        connected.unwrap();
        accepted.unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
