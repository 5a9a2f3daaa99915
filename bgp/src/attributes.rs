//! What a route carries besides where it leads: the attributes by which routers choose.
//!
//! Routers spread clients over amphorae only while all attributes of their routes are the same, so
//! whatever an operator does not ask for is not sent, on any amphora and in any release.

use std::collections::BTreeSet;

use crate::Community;

/// The path attributes of a route, or those a peer's routes get besides their own. The default is
/// none: ORIGIN, `AS_PATH` and the next hop alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Communities (RFC 1997) the peers see.
    pub communities: BTreeSet<Community>,
    /// `MULTI_EXIT_DISC` (RFC 4271 section 5.1.4); lower wins, and none counts as 0 with most routers.
    pub med: Option<u32>,
    /// `LOCAL_PREF` (RFC 4271 section 5.1.5); higher wins. Internal peers alone are sent it, and 100
    /// where there is none; external ones choose their own.
    pub local_pref: Option<u32>,
    /// How often our AS stands in `AS_PATH` once more, [`Attributes::MAX_PREPEND`] at most; shorter
    /// wins. External peers alone: an internal one would take its own AS there for a loop.
    pub prepend: u8,
}

impl Attributes {
    /// The most a route's `AS_PATH` is made longer by; routers refuse very long ones.
    pub const MAX_PREPEND: u8 = 15;

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
