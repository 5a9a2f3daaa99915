//! Everything that touches the kernel's network: namespaces, links, addresses, routes, rules, sysctls, and the
//! silence of an anycast address.
//!
//! The boundary is here so that the agent can speak of what it wants ("this address on that link") and nobody but
//! this crate knows netlink. Only our own types leave it. It neither plans nor retries: each call does one thing,
//! says whether anything changed, and classifies the kernel's refusal ([`Kind`]).
//!
//! # What is ours
//! Whatever this crate adds carries the number [`OURS`]: an address as its `IFA_PROTO`, a route as its protocol
//! (`RTPROT_*`), a rule as its `FRA_PROTOCOL`. Only what carries it is ever changed or deleted; the rest is shown with
//! `ours: false`. Kernels before 5.18 ignore `IFA_PROTO`, and there no address would be ours; Debian 12 has 6.1.

mod address;
mod advertise;
mod error;
mod link;
mod named;
mod names;
mod namespace;
mod neighbour;
mod network;
mod route;
mod rule;
mod sock_diag;
mod sysctl;
mod watch;

pub use address::{Address, NewAddress, Scope};
pub use advertise::advertise;
pub use error::{Error, Kind, Result};
pub use link::{Link, Traffic};
pub use names::{IfName, Invalid, Mac};
pub use namespace::Namespace;
pub use neighbour::Neighbour;
pub use network::Network;
pub use route::{NewRoute, Route};
pub use rule::{NewRule, Rule};
pub use sock_diag::Connection;
pub use sysctl::{before_silence, is_silent, silence, unsilence};
pub use watch::{Change, Signal};

/// The number on every address, route and rule of ours.
///
/// Free in the kernel's list (`include/uapi/linux/rtnetlink.h`), in iproute2's and FRR's `rt_protos`, and not one of
/// the numbers that BIRD, keepalived, Calico (80) or OVN (84) write. `ip` shows it as `proto 79`, or `proto 0x4f` for
/// an address.
pub const OURS: u8 = 79;

/// The routing table that `ip` calls `main` (`RT_TABLE_MAIN`).
pub const MAIN_TABLE: u32 = 254;
