//! What the connections of both doors (TLS and the UNIX socket) have in common: how they are accepted and ended, and
//! how the requests on one are answered.

use std::{future::Future, io, sync::Arc, time::Duration};

use axum::Router;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Deadline, Peer,
    request::answer,
    serve::Limits,
    slots::{Slot, Slots},
    stream::{Stream, Transport},
    tls::Reloader,
};

/// Request line and headers together; upstream's gunicorn takes 4 kB and 100 fields of 8 kB.
const MAX_HEAD: usize = 64 * 1024;
/// How long a connection that is to close may take to do so.
const LINGER: Duration = Duration::from_secs(1);
/// Pause after a failed accept: without descriptors the next would fail as fast.
const BACKOFF: Duration = Duration::from_millis(20);

/// What an accept came to, with a slot; `None` after a failure that may pass.
pub(super) async fn accepted<T>(accepted: io::Result<T>, slots: &Arc<Slots>) -> Option<(T, Slot)> {
    match accepted {
        Ok(connection) => Some((connection, slots.take().await)),
        Err(error) => {
            if matches!(error.raw_os_error(), Some(errno) if out_of_descriptors(errno)) {
                tracing::warn!(%error, "accept failed; the connection idle longest is closed");
                slots.close_idle();
            } else {
                tracing::debug!(%error, "accept failed");
            }
            sleep(BACKOFF).await;
            None
        }
    }
}

fn out_of_descriptors(errno: i32) -> bool {
    use nix::errno::Errno::{EMFILE, ENFILE};
    errno == EMFILE as i32 || errno == ENFILE as i32
}

/// The open connections of a door.
#[derive(Debug, Default)]
pub(super) struct Connections {
    open: TaskTracker,
    kill: CancellationToken,
}

impl Connections {
    /// One more.
    pub(super) fn spawn(&self, connection: impl Future<Output = ()> + Send + 'static) {
        let kill = self.kill.clone();
        self.open.spawn(async move { kill.run_until_cancelled(connection).await });
    }

    /// Waits for their end, and for no longer than `grace`.
    pub(super) async fn end(self, grace: Duration) {
        self.open.close();
        if timeout(grace, self.open.wait()).await.is_err() {
            let connections = self.open.len();
            tracing::warn!(connections, "requests did not finish in time; their connections are closed");
            self.kill.cancel();
            self.open.wait().await;
        }
    }
}

/// A request on a connection whose client was verified by what counts no more. It is not answered: the client connects
/// anew, if it can.
#[derive(Debug, thiserror::Error)]
#[error("the client would have to be verified anew")]
struct NotAdmitted;

/// What the requests of one connection are answered with.
pub(super) struct Requests {
    /// To be asked whether files have been replaced since; absent without TLS.
    pub(super) reloader: Option<Arc<Reloader>>,
    /// Cancelled when its client would have to be verified anew.
    pub(super) admitted: CancellationToken,
    pub(super) router: Router,
    pub(super) limits: Limits,
    pub(super) stop: CancellationToken,
}

impl Requests {
    /// Answers them, to the connection's end.
    pub(super) async fn answer(self, transport: impl Transport, peer: Peer, slot: Arc<Slot>) {
        let Self { router, limits, stop, reloader, admitted, .. } = self;
        let held = slot.clone();
        let ended = admitted.clone();
        let service = service_fn(move |request| {
            let deadline = Deadline(Instant::now() + limits.body);
            let (router, peer, slot) = (router.clone(), peer.clone(), held.clone());
            let _ = reloader.as_ref().map(|reloader| reloader.current()); // nobody else may have looked since a file was replaced
            let admitted = !ended.is_cancelled();
            async move { if admitted { Ok(answer(router, request, peer, deadline, slot).await) } else { Err(NotAdmitted) } }
        });
        let mut stream = Stream::new(transport, slot.clone(), limits.stalled_write);
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head)
            .max_buf_size(MAX_HEAD)
            .max_header_size(MAX_HEAD) // however many bytes a read brings
            .serve_connection(TokioIo::new(&mut stream), service);
        let mut connection = Box::pin(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => Some(ended),
            () = slot.wanted().cancelled() => None,
            () = stop.cancelled() => None,
            () = admitted.cancelled() => None,
        };
        let ended = if let Some(ended) = ended {
            ended
        } else {
            connection.as_mut().graceful_shutdown();
            loop {
                match timeout(LINGER, connection.as_mut()).await {
                    Ok(ended) => break ended,
                    Err(_) if slot.is_busy() => {} // its request may finish
                    Err(_) => return tracing::debug!("closed"),
                }
            }
        };
        drop(connection);
        let answered_early = match &ended {
            Ok(()) => slot.has_unread(),
            Err(error) => error.is_parse(), // hyper's own refusal of a head
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "the connection ended with an error");
        }
        if answered_early {
            tokio::select! {
                () = stream.drain() => {}
                () = slot.wanted().cancelled() => {}
                () = stop.cancelled() => {}
            }
        }
    }
}
