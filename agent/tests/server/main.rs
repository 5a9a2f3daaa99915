//! The front door over real TLS, with a toy router behind it.

mod front;
mod http;
mod patience;
mod pki;
mod tls;
