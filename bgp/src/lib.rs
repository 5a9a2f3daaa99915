//! The BGP speaker behind our own types.
//!
//! Everything GoBGP (its gRPC, its two API generations, its policies) stays inside this crate, so
//! that the agent can speak of peers, prefixes and next hops and another daemon can take its place.

mod types;

pub use types::{
    Announcement, Asn, Audience, Community, Distance, Family, HoldTime, Invalid, Md5Password, NextHop, Peer, PeerId, Prefix,
};
