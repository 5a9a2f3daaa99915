//! The doors: TLS for the network, a UNIX socket for root, connections and the limits on them. Routes and their meaning are elsewhere.
//!
//! hyper owns accepting and connections and axum is only the router, because a TLS handshake inside axum's sequential
//! accept would let one slow client hold up all others, and because handlers need the peer's certificate.

pub mod body;
pub mod check;
mod connection;
pub mod leaf;
pub mod local;
mod name;
mod request;
pub mod serve;
mod slots;
mod stream;
pub mod tls;
mod unread;

use std::net::SocketAddr;

pub(crate) use request::answered;

use rustls::pki_types::CertificateDer;
use tokio::time::Instant;

/// Who sends the request; an extension of every request.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The client of a TLS connection; root of this machine has none ([`local`]).
    pub client: Option<Client>,
    /// The address of ours it came to; an IPv4 one is not in IPv6 clothes. Absent for a UNIX socket.
    pub local: Option<std::net::IpAddr>,
}

/// A client on the network.
#[derive(Clone, Debug)]
pub struct Client {
    /// Where the connection comes from.
    pub address: SocketAddr,
    /// The certificate that was verified.
    pub certificate: CertificateDer<'static>,
    /// The common name of its subject, for logs; it decides nothing.
    pub common_name: Option<String>,
}

/// When the whole request must have been read (`agent_request_read_timeout` after its head); an extension of every
/// request, for [`body::read`].
#[derive(Clone, Copy, Debug)]
pub struct Deadline(pub Instant);
