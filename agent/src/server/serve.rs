//! Accepting connections: one task each, every wait with an end.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use axum::Router;
use nix::sys::{
    resource::{Resource, getrlimit},
    socket::{setsockopt, sockopt::Ipv6V6Only},
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, field};

use super::{
    Client, Peer,
    connection::{Connections, Requests, accepted},
    name::common_name,
    slots::{Slot, Slots},
    tls::Reloader,
};
use crate::pulse::Pulse;

/// How often the accepting task wakes up while nobody connects.
const AWAKE: Duration = Duration::from_secs(5);

/// The bounds on connections.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time. One more closes the one idle longest.
    pub connections: usize,
    /// For the TLS handshake.
    pub handshake: Duration,
    /// From the end of a handshake or answer to the end of the next request's head, so also for idling in between.
    pub head: Duration,
    /// For reading a whole body, as [`Deadline`](super::Deadline).
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
/// [`Peer`] and [`Deadline`](super::Deadline). Each connection has the limits of its beginning, but for their number, which stays.
/// `pulse` tells that connections would be accepted although none come.
pub async fn serve(
    listener: TcpListener,
    reloader: Arc<Reloader>,
    router: Router,
    limits: impl Fn() -> Limits,
    stop: CancellationToken,
    pulse: Pulse,
) {
    let slots = Slots::new(limits().connections);
    let connections = Connections::default();
    let next = async || beating(&pulse, async { accepted(listener.accept().await, &slots).await }).await;
    while let Some(accepted) = stop.run_until_cancelled(next()).await {
        let Some(((tcp, address), slot)) = accepted else { continue };
        let span = tracing::info_span!("conn", peer = %address, client = field::Empty);
        let (tls, admitted) = reloader.current();
        let (router, reloader) = (router.clone(), Some(reloader.clone()));
        let requests = Requests { reloader, admitted, router, limits: limits(), stop: stop.clone() };
        let server = Server { tls: tls.into(), requests };
        connections.spawn(server.connection(tcp, address, slot).instrument(span));
    }
    pulse.waits();
    drop(listener);
    connections.end(limits().grace).await;
}

/// Waits for `next`, and wakes up by itself meanwhile.
async fn beating<T>(pulse: &Pulse, next: impl Future<Output = T>) -> T {
    let mut next = pin!(next);
    loop {
        pulse.waits_for(AWAKE);
        if let Ok(done) = timeout(AWAKE, next.as_mut()).await {
            return done;
        }
    }
}

/// What one connection needs.
struct Server {
    tls: TlsAcceptor,
    requests: Requests,
}

impl Server {
    async fn connection(self, tcp: TcpStream, address: SocketAddr, slot: Slot) {
        let _ = tcp.set_nodelay(true); // a socket that refuses is gone already
        let local = tcp.local_addr().ok().map(|a| a.ip().to_canonical());
        let handshake = timeout(self.requests.limits.handshake, self.tls.accept(tcp));
        let tls = tokio::select! {
            done = handshake => match done {
                Ok(Ok(tls)) => tls,
                Ok(Err(error)) => return refused(&error),
                Err(_) => return tracing::debug!("no handshake in time"),
            },
            () = slot.wanted().cancelled() => return tracing::debug!("closed in its handshake to make room"),
            () = self.requests.stop.cancelled() => return,
        };
        // The end of a TLS 1.3 handshake has no answer (we send no tickets). A client with Nagle's algorithm holds its
        // request back until our delayed ACK, 40 ms.
        let _ = tls.get_ref().0.set_quickack(true);
        let Some([leaf, ..]) = tls.get_ref().1.peer_certificates() else {
            return tracing::error!("a handshake without a client certificate succeeded; closed");
        };
        let certificate = leaf.clone().into_owned();
        let client = Client { address, common_name: common_name(&certificate), certificate };
        tracing::Span::current().record("client", client.common_name.as_deref());
        let peer = Peer { client: Some(client), local };
        slot.set_busy(false);
        self.requests.answer(tls, peer, Arc::new(slot)).await;
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
