//! What goes wrong around an agent: its state, its disk, its speaker; and what it must not let out meanwhile.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]
#![allow(clippy::doc_markdown, reason = "ToR is a word here, not code")]

use std::fs;
use std::net::IpAddr;

use lab::picture::{self, Picture};
use lab::{Amphora, Api, Fabric, Family};

mod exposure;
mod speaker;
mod state;
#[path = "../api/support.rs"]
#[allow(dead_code, reason = "the tests of the API use the rest")]
mod support;

use support::{PATIENCE, STATE, inside, running, vip};

/// Plugs the VIP and registers it, and waits until the ToR has it.
pub(crate) fn serving(fabric: &Fabric, api: &mut Api) {
    let amphora = &fabric.amphorae[0];
    api.plug_vip(vip().v4.into(), &amphora.plug_body(vip())).unwrap().success().unwrap();
    api.register(amphora.id(), vip().v4.into(), amphora.frontend(Family::V4), None).unwrap().success().unwrap();
    wait_on_tor(fabric);
}

pub(crate) fn wait_on_tor(fabric: &Fabric) {
    let hop = fabric.amphorae[0].frontend(Family::V4);
    fabric.tors[0].wait_next_hops(IpAddr::from(vip().v4).into(), &[hop], PATIENCE).unwrap();
}

pub(crate) fn state(amphora: &Amphora) -> Vec<u8> {
    amphora.node().within(|| fs::read(STATE)).unwrap().unwrap()
}

/// The picture of a namespace is what the other tests rest on: it must see what somebody adds.
#[test]
fn a_picture_shows_what_was_added() {
    let (fabric, _) = running("picture", 1);
    let place = inside(&fabric.amphorae[0]);
    let before = picture::look(&place).unwrap();
    place
        .ip("addr add 10.0.0.1/8 dev lo\nroute add 10.1.0.0/16 dev lo table 5\nrule add from 10.0.0.1 lookup 5")
        .unwrap();
    let added: Picture = picture::look(&place).unwrap().difference(&before).cloned().collect();
    let want =
        ["address lo 10.0.0.1/8", "route table 5 10.1.0.0/16 dev lo", "rule -4 32765 from 10.0.0.1 table 5 proto null"];
    assert_eq!(added, want.map(str::to_owned).into());
}
