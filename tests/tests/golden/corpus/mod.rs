//! The corpus: what is sent to both agents, in this order.

mod certificates;
mod discovery;
pub(crate) mod haproxy;
mod http;
mod network;
mod plug;
mod rotation;
mod rules;
mod udp;
mod vrrp;

use crate::case::Case;

/// Every case. Those of one file build on those before: a VIP is plugged once.
pub(crate) fn all() -> Vec<Case> {
    let parts = [
        discovery::cases(),
        http::cases(),
        certificates::cases(),
        plug::cases(),
        haproxy::cases(),
        udp::cases(),
        network::cases(),
        rules::cases(),
        vrrp::cases(),
        rotation::cases(),
    ];
    let all: Vec<Case> = parts.into_iter().flatten().collect();
    for (number, case) in all.iter().enumerate() {
        let same = all[..number].iter().find(|other| other.name == case.name);
        assert!(same.is_none(), "two cases are named {:?}", case.name);
    }
    all
}
