//! `GET /1.0/metrics` as a real Prometheus meets it: scraped over mutual TLS, judged by promtool, asked everything the
//! alert rules and the dashboard ask, and read while what it counts happens.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]
#![allow(clippy::doc_markdown, reason = "ToR is a word here, not code")]
#![allow(clippy::float_cmp, reason = "samples are counts, ones and zeros")]

mod counts;
mod expressions;
mod prometheus;
mod rules;
mod scrape;
#[path = "../lifecycle/support.rs"]
#[allow(dead_code, reason = "the tests of the life cycle use the rest")]
mod support;

use std::collections::BTreeMap;

use lab::heartbeats::{self, KEY, Receiver};
use lab::{Amphora, Api, Family};
use nix::sys::signal::Signal;
use serde_json::json;

/// Samples by what stands before the value: name and labels.
pub(crate) type Samples = BTreeMap<String, f64>;

pub(crate) fn text(api: &mut Api) -> String {
    let reply = api.get("/1.0/metrics").unwrap().success().unwrap();
    assert_eq!(reply.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    reply.text()
}

pub(crate) fn samples(api: &mut Api) -> Samples {
    let text = text(api);
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (what, value) = line.rsplit_once(' ').unwrap();
        (what.to_owned(), value.parse().unwrap())
    };
    lines.map(sample).collect()
}

/// Has the VIP drained here.
pub(crate) fn drain(site: &support::Site, api: &mut Api, timeout_s: u32) {
    let path = format!("/1.0/distributor/amphorae/{}/drain", site.amphora().id());
    api.put(&path, &json!({ "timeout_s": timeout_s, "max_connections": 0 })).unwrap().success().unwrap();
}

/// Has heartbeats sent, in turn to somebody who hears them and to a port where nobody listens.
pub(crate) fn configure_heartbeats(amphora: &Amphora, controller: &lab::Place) -> (Receiver, [String; 2]) {
    let address = lab::addresses::MANAGEMENT.host(lab::addresses::CONTROLLER_HOST).of(Family::V4);
    let receiver = Receiver::new(controller, (address, 0).into()).unwrap();
    let targets = [receiver.address().unwrap().to_string(), format!("{address}:1")];
    heartbeats::configure(amphora, &targets, 1, KEY).unwrap();
    amphora.agent().unwrap().kill(Signal::SIGHUP).unwrap();
    (receiver, targets)
}
