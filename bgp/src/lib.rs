//! The BGP speaker behind our own types.
//!
//! Everything gobgp (its gRPC, its two API generations, its policies) stays inside this crate, so
//! that the agent can speak of peers, prefixes and next hops and another daemon can take its place.

mod attributes;
mod client;
mod error;
mod path;
mod peers;
mod policy;
mod process;
mod route;
mod session;
mod speaker;
mod tag;
mod types;
mod v3;

pub use attributes::Attributes;
pub use client::ApiVersion;
pub use error::Error;
pub use peers::PeerDiff;
pub use process::{Account, Flags, Program};
pub use route::{Announcement, Audience, NextHop, Prefix};
pub use session::{BfdState, Event, Session, SessionState};
pub use speaker::{Advertised, Change, Global, Speaker, Stray, Table};
pub use tag::check_peers;
pub use types::{Asn, Bfd, Community, Distance, Family, HoldTime, Invalid, Md5Password, Peer, PeerId, RestartTime};
