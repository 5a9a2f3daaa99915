//! What a drain means for an announcement.

use bgp::{Attributes, Community, Prefix};

use super::Closed;
use crate::{
    clock,
    state::{Desired, Drain, Stage},
};

/// `GRACEFUL_SHUTDOWN` (RFC 8326): a router that knows it gives the route the least preference within its AS.
pub(super) const GRACEFUL_SHUTDOWN: Community = Community(0xffff_0000);

/// Whether a VIP is to be less preferred; why it is not to be announced at all, otherwise.
pub(super) fn gate(vip: Prefix, desired: &Desired) -> Result<bool, Closed> {
    match desired.drains.get(&vip) {
        None => Ok(false),
        Some(Drain { stage: Stage::Deprefer, .. }) => Ok(true),
        Some(drain) => Err(closed(drain, None)),
    }
}

/// Why a VIP whose drain is past its first stage is not announced, and why it is `still_bound` where that is known.
#[must_use]
pub fn closed(drain: &Drain, still_bound: Option<&str>) -> Closed {
    let Drain { vip, amphora, since, .. } = drain;
    let (how, bound) = match (drain.stage, still_bound) {
        (Stage::Drained, Some(why)) => ("is withdrawn", format!(", and still bound: {why}")),
        (Stage::Drained, None) => ("is drained", String::new()),
        _ => ("is being drained, and withdrawn", String::new()),
    };
    let since = clock::rfc3339(*since);
    format!("{} {how} since {since}{bound}; PUT /1.0/distributor/amphorae/{amphora}/undrain ends it", vip.address())
}

/// The attributes that make any other route to the same VIP better. `GRACEFUL_SHUTDOWN` alone does not: BIRD needs a filter
/// line for it, and FRR heeds it on external sessions only. A longer AS path does for external peers, a local preference of
/// 0 for internal ones.
pub(super) fn less_preferred(mut attributes: Attributes) -> Attributes {
    attributes.communities.insert(GRACEFUL_SHUTDOWN);
    attributes.prepend = (attributes.prepend + 1).min(Attributes::MAX_PREPEND);
    attributes.local_pref = Some(0);
    attributes
}

#[cfg(test)]
mod tests;
