//! A drain as it is held: how far it has come, and what it was asked for. Whose time has come is for [`crate::drain`].

use bgp::Prefix;
use serde::{Deserialize, Serialize};

/// How far a drain has come. It only goes forward; cancelling it forgets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Announced as before but less preferred than any other amphora's: no new client comes while there is one.
    Deprefer,
    /// Not announced any more; still bound, for packets that are on their way.
    Withdrawn,
    /// Neither announced nor bound here.
    Drained,
}

/// One VIP of an amphora that is being drained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// The VIP.
    pub vip: Prefix,
    /// Whose.
    pub amphora: String,
    /// That is this amphora: its plug is drained too, and ends it.
    pub own: bool,
    /// How far it has come.
    pub stage: Stage,
    /// When it came there, in seconds since 1970.
    pub since: u64,
    /// When connections are waited for no longer, in seconds since 1970.
    pub deadline: u64,
    /// How long that was from the call, in seconds.
    pub timeout_s: u32,
    /// So many connections may be cut.
    pub max_connections: u32,
}
