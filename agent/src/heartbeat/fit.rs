//! A heartbeat that is too long for a datagram: what is left out, and in which order.
//!
//! A member's id alone takes some 22 bytes compressed, so about 2,900 members fill a datagram, and a longer one is never
//! sent (EMSGSIZE). What the controller makes of a shorter message decides what goes first (`UpdateHealthDb` of
//! `octavia/amphorae/drivers/health/heartbeat_udp.py`):
//!
//! | it misses | it does |
//! |---|---|
//! | a listener | counts, finds too few, and replaces the amphora: listeners are never left out |
//! | a pool | shows the pool `OFFLINE`, and its members as they were |
//! | a member | shows it `OFFLINE`, unless it is shown as not monitored: then nothing |
//!
//! 1. What changes nothing: a pool of several listeners is in once for each of them, and the controller takes the last;
//!    of `UP 1/3` it reads `UP`.
//! 2. Members, as many as needed and always the same ones: first those `no check` (nothing happens) and in `MAINT` (they
//!    are `OFFLINE` either way), then those that are `UP`, then those that drain or are in no state a word is known for,
//!    and last those that are `DOWN`, the ones somebody has to hear of. The pool's own status, which counts what is in
//!    no list too, stays.
//! 3. All members and all pools.

use std::collections::BTreeMap;

use super::{envelope::seal, message::Message};
use crate::config::Secret;

/// The most a UDP datagram over IPv4 carries, in bytes: 65,535 less the IP and the UDP header (RFC 768, RFC 791).
pub const DATAGRAM: usize = 65_507;
/// How finely members are left out: in this many parts of them.
const PARTS: usize = 32;

/// A datagram and what is missing in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fitted {
    pub(super) datagram: Vec<u8>,
    /// How many members were left out.
    pub(super) members_left_out: usize,
    /// Whether the pools were.
    pub(super) pools_left_out: bool,
}

/// The datagram of a message, of at most `limit` bytes unless the listeners alone are more.
pub(super) fn fit(message: Message, key: &Secret, limit: usize) -> Fitted {
    let whole = |datagram| Fitted { datagram, members_left_out: 0, pools_left_out: false };
    let datagram = seal(&message, key);
    if datagram.len() <= limit {
        return whole(datagram);
    }
    let message = condense(message);
    let datagram = seal(&message, key);
    if datagram.len() <= limit {
        return whole(datagram);
    }
    let order = leaving_order(&message);
    let without = |parts: usize| {
        let count = (order.len() * parts).div_ceil(PARTS);
        let mut short = message.clone();
        for (pool, member) in &order[..count] {
            if let Some(pool) = short.pools.get_mut(pool) {
                pool.members.remove(member);
            }
        }
        Fitted { datagram: seal(&short, key), members_left_out: count, pools_left_out: false }
    };
    // The smallest number of parts that is enough.
    let (mut few, mut many) = (0, PARTS);
    let mut fitted = without(many);
    while many - few > 1 {
        let middle = usize::midpoint(few, many);
        let tried = without(middle);
        if tried.datagram.len() <= limit {
            (many, fitted) = (middle, tried);
        } else {
            few = middle;
        }
    }
    if fitted.datagram.len() > limit {
        let mut bare = message;
        bare.pools.clear();
        fitted = Fitted { datagram: seal(&bare, key), members_left_out: order.len(), pools_left_out: true };
    }
    fitted
}

/// Says the same to the controller in fewer words.
fn condense(mut message: Message) -> Message {
    let last: BTreeMap<String, String> =
        message.pools.keys().map(|key| (pool_of(key).to_owned(), key.clone())).collect();
    message.pools.retain(|key, _| last[pool_of(key)] == *key);
    for status in message.pools.values_mut().flat_map(|pool| pool.members.values_mut()) {
        for word in ["UP", "DOWN"] {
            if status.starts_with(word) {
                word.clone_into(status);
            }
        }
    }
    message
}

/// The pool's id in a key of the message, as the controller cuts it.
fn pool_of(key: &str) -> &str {
    key.rsplit_once(':').map_or(key, |(pool, _)| pool)
}

/// All members by pool and id, those first that are missed least; in the order of their ids where that is the same, so
/// that two messages leave out the same ones.
fn leaving_order(message: &Message) -> Vec<(String, String)> {
    let of_pool = |(pool, content): (&String, &super::message::Pool)| {
        let named = |(id, status): (&String, &String)| (missed(status), pool.clone(), id.clone());
        content.members.iter().map(named).collect::<Vec<_>>()
    };
    let mut members: Vec<_> = message.pools.iter().flat_map(of_pool).collect();
    members.sort();
    members.into_iter().map(|(_, pool, id)| (pool, id)).collect()
}

/// How much a member in that status is missed.
fn missed(status: &str) -> u8 {
    match status {
        "no check" => 0,
        "MAINT" => 1,
        "UP" => 2,
        "DOWN" => 4,
        _ => 3,
    }
}

#[cfg(test)]
mod tests;
