//! gobgp's gRPC, as much of it as we speak, in its two generations.
//!
//! A crate of its own because its code is generated: the lints that hold elsewhere are off here,
//! and nobody reads it. [`v4`] is the vocabulary. [`v3`] has the same messages under another
//! package; those that are the same bytes are v4's Rust types, so only what differs (paths,
//! capabilities) needs translation, and [`Codes`] has the numbers of the enums that differ.
//!
//! `UPDATE_GENERATED=1 cargo test -p gobgp-proto` writes `v3.rs` and `v4.rs` from `proto/`.

mod codes;

pub use codes::Codes;

#[allow(clippy::all, clippy::pedantic, missing_docs, missing_debug_implementations, unreachable_pub)]
#[rustfmt::skip]
pub mod v3;
#[allow(clippy::all, clippy::pedantic, missing_docs, missing_debug_implementations, unreachable_pub)]
#[rustfmt::skip]
pub mod v4;

/// Without the password.
impl std::fmt::Debug for v4::PeerConf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerConf")
            .field("neighbor_address", &self.neighbor_address)
            .field("peer_asn", &self.peer_asn)
            .field("description", &self.description)
            .field("auth_password", &if self.auth_password.is_empty() { "" } else { "***" })
            .finish()
    }
}
