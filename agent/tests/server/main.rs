//! The front door over real TLS, with a toy router behind it.
#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in test functions only, not in their helpers")]

mod front;
mod http;
mod patience;
mod pki;
mod program;
mod tls;
