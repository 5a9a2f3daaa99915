//! The front door: TLS, connections and the limits on both. Routes and their meaning are elsewhere.
//!
//! hyper owns accepting and connections and axum is only the router, because a TLS handshake inside axum's sequential
//! accept would let one slow client hold up all others, and because handlers need the peer's certificate.

pub mod body;
pub mod leaf;
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
    /// Where the connection comes from.
    pub address: SocketAddr,
    /// The address of ours it came to; an IPv4 one is not in IPv6 clothes.
    pub local: Option<std::net::IpAddr>,
    /// The certificate that was verified.
    pub certificate: CertificateDer<'static>,
    /// The common name of its subject, for logs; it decides nothing.
    pub common_name: Option<String>,
}

/// When the whole request must have been read (`agent_request_read_timeout` after its head); an extension of every
/// request, for [`body::read`].
#[derive(Clone, Copy, Debug)]
pub struct Deadline(pub Instant);
