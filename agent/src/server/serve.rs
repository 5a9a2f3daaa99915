//! Accepting connections: one task each, every wait with an end.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::{
    resource::{Resource, getrlimit},
    socket::{setsockopt, sockopt::Ipv6V6Only},
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument as _, field};

use super::{
    Deadline, Peer,
    name::common_name,
    request::answer,
    slots::{Slot, Slots},
    stream::Stream,
    tls::Reloader,
};

/// Request line and headers together; upstream's gunicorn takes 4 kB and 100 fields of 8 kB.
const MAX_HEAD: usize = 64 * 1024;
/// How long a connection that is to close may take to do so.
const LINGER: Duration = Duration::from_secs(1);
/// Pause after a failed accept: without descriptors the next would fail as fast.
const BACKOFF: Duration = Duration::from_millis(20);

/// The bounds on connections.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time. One more closes the one idle longest.
    pub connections: usize,
    /// For the TLS handshake.
    pub handshake: Duration,
    /// From the end of a handshake or answer to the end of the next request's head, so also for idling in between.
    pub head: Duration,
    /// For reading a whole body, as [`Deadline`].
    pub body: Duration,
    /// Without the client reading any of its answer.
    pub stalled_write: Duration,
    /// For requests in flight when the server stops.
    pub grace: Duration,
}

impl Default for Limits {
    /// 2,048 connections, or three quarters of the process's file descriptors if these are fewer.
    fn default() -> Self {
        let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
        Self {
            connections: usize::try_from(descriptors / 4 * 3).map_or(2048, |most| most.clamp(16, 2048)),
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(30),
            body: Duration::from_mins(3),
            stalled_write: Duration::from_secs(30),
            grace: Duration::from_secs(10),
        }
    }
}

/// Listens on an address; on both families for `::`, and on IPv4 alone where IPv6 is disabled.
///
/// # Errors
/// The kernel's.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    match bind(address) {
        Err(error) if address.is_ipv6() && address.ip().is_unspecified() && lacks_ipv6(&error) => {
            tracing::warn!(%error, "no IPv6 here; listening on IPv4 alone");
            bind((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        result => result,
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if address.is_ipv6() && address.ip().is_unspecified() {
        setsockopt(&socket, Ipv6V6Only, &false)?; // whatever net.ipv6.bindv6only says
    }
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(1024)
}

/// Built out or disabled by `ipv6.disable=1` (the family), or by sysctl (the address).
fn lacks_ipv6(error: &io::Error) -> bool {
    use nix::errno::Errno::{EADDRNOTAVAIL, EAFNOSUPPORT};
    [EAFNOSUPPORT, EADDRNOTAVAIL].iter().any(|&errno| error.raw_os_error() == Some(errno as i32))
}

/// Serves `router` until `stop`, then gives requests in flight `limits.grace`. Every request carries the extensions
/// [`Peer`] and [`Deadline`]. Each connection has the limits of its beginning, but for their number, which stays.
pub async fn serve(
    listener: TcpListener,
    reloader: Arc<Reloader>,
    router: Router,
    limits: impl Fn() -> Limits,
    stop: CancellationToken,
) {
    let slots = Slots::new(limits().connections);
    let (open, kill) = (TaskTracker::new(), CancellationToken::new());
    while let Some(accepted) = stop.run_until_cancelled(accept(&listener, &slots)).await {
        let Some((tcp, address, slot)) = accepted else { continue };
        let span = tracing::info_span!("conn", peer = %address, client = field::Empty);
        let (tls, admitted) = reloader.current();
        let (tls, reloader) = (tls.into(), reloader.clone());
        let server = Server { tls, reloader, admitted, router: router.clone(), limits: limits(), stop: stop.clone() };
        let kill = kill.clone();
        let task = async move { kill.run_until_cancelled(server.connection(tcp, address, slot)).await };
        open.spawn(task.instrument(span));
    }
    drop(listener);
    open.close();
    if timeout(limits().grace, open.wait()).await.is_err() {
        tracing::warn!(connections = open.len(), "requests did not finish in time; their connections are closed");
        kill.cancel();
        open.wait().await;
    }
}

/// The next connection and its slot; `None` after a failure that may pass.
async fn accept(listener: &TcpListener, slots: &Arc<Slots>) -> Option<(TcpStream, SocketAddr, Slot)> {
    match listener.accept().await {
        Ok((tcp, address)) => Some((tcp, address, slots.take().await)),
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

/// A request on a connection whose client was verified by what counts no more. It is not answered: the client connects
/// anew, if it can.
#[derive(Debug, thiserror::Error)]
#[error("the client would have to be verified anew")]
struct NotAdmitted;

/// What one connection needs.
struct Server {
    tls: TlsAcceptor,
    reloader: Arc<Reloader>,
    /// Cancelled when its client would have to be verified anew.
    admitted: CancellationToken,
    router: Router,
    limits: Limits,
    stop: CancellationToken,
}

impl Server {
    async fn connection(self, tcp: TcpStream, address: SocketAddr, slot: Slot) {
        let _ = tcp.set_nodelay(true); // a socket that refuses is gone already
        let local = tcp.local_addr().ok().map(|a| a.ip().to_canonical());
        let handshake = timeout(self.limits.handshake, self.tls.accept(tcp));
        let tls = tokio::select! {
            done = handshake => match done {
                Ok(Ok(tls)) => tls,
                Ok(Err(error)) => return refused(&error),
                Err(_) => return tracing::debug!("no handshake in time"),
            },
            () = slot.wanted().cancelled() => return tracing::debug!("closed in its handshake to make room"),
            () = self.stop.cancelled() => return,
        };
        // The end of a TLS 1.3 handshake has no answer (we send no tickets). A client with Nagle's algorithm holds its
        // request back until our delayed ACK, 40 ms.
        let _ = tls.get_ref().0.set_quickack(true);
        let Some([leaf, ..]) = tls.get_ref().1.peer_certificates() else {
            return tracing::error!("a handshake without a client certificate succeeded; closed");
        };
        let certificate = leaf.clone().into_owned();
        let peer = Peer { address, local, common_name: common_name(&certificate), certificate };
        tracing::Span::current().record("client", peer.common_name.as_deref());
        slot.set_busy(false);
        self.http(tls, peer, Arc::new(slot)).await;
    }

    async fn http(self, tls: tokio_rustls::server::TlsStream<TcpStream>, peer: Peer, slot: Arc<Slot>) {
        let Self { router, limits, stop, reloader, admitted, .. } = self;
        let held = slot.clone();
        let ended = admitted.clone();
        let service = service_fn(move |request| {
            let deadline = Deadline(Instant::now() + limits.body);
            let (router, peer, slot) = (router.clone(), peer.clone(), held.clone());
            let _ = reloader.current(); // nobody else may have looked since a file was replaced
            let admitted = !ended.is_cancelled();
            async move { if admitted { Ok(answer(router, request, peer, deadline, slot).await) } else { Err(NotAdmitted) } }
        });
        let mut stream = Stream::new(tls, slot.clone(), limits.stalled_write);
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head)
            .max_buf_size(MAX_HEAD)
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

/// A certificate we refuse is worth a line; a port scan is not.
fn refused(error: &io::Error) {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    if let Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) = tls {
        tracing::info!(%error, "client refused");
    } else {
        tracing::debug!(%error, "no handshake");
    }
}
