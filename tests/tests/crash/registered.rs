//! What is announced by a call about somebody else, or silenced by one that is about VRRP.

use std::collections::BTreeSet;

use hyper::Method;
use lab::{Api, Family, TorKind, Wreck};
use serde_json::json;

use crate::one::{One, PATIENCE};
use crate::walk::{Operation, walk};

/// An amphora that announces its IPv6 VIP; the IPv4 one is bound.
fn announcing(name: &str) -> One {
    let lab = One::new(name, TorKind::Bird);
    let mut api = lab.start();
    lab.plug(&mut api).unwrap().success().unwrap();
    lab.register(&mut api, Family::V6).unwrap().success().unwrap();
    lab.fabric.tors[0].wait_established(lab.amphora().management(Family::V4), PATIENCE).unwrap();
    lab.wait_look("announced", |wreck| wreck.announced == BTreeSet::from([lab.vip.v6.into()]));
    lab
}

/// Makes the world an operation starts from, by an agent that is started where none runs and dead when it is made.
fn prepare(lab: &One, call: &dyn Fn(&mut Api) -> lab::Result<lab::Reply>, done: &dyn Fn(&Wreck) -> bool) {
    let running = lab.amphora().agent().unwrap().is_running();
    let mut api = if running { lab.amphora().api().unwrap() } else { lab.start() };
    call(&mut api).unwrap().success().unwrap();
    lab.wait_look("prepared", done);
    lab.amphora().kill_agent().unwrap();
}

#[test]
fn an_agent_killed_at_any_step_of_registering_an_end_point_completes_it_on_a_retry() {
    let mut lab = announcing("crash-end-point");
    let vip = std::net::IpAddr::from([203, 0, 113, 50]);
    lab.elsewhere = vec![vip];
    let own = BTreeSet::from([lab.vip.v6.into()]);
    let register =
        |api: &mut Api| api.post("/1.0/distributor/vips", &json!({ "vip_ip": vip, "nexthop_ip": "192.0.2.100" }));
    // 202 while the speaker of a new agent cannot be asked yet.
    let unregister = |api: &mut Api| {
        let begin = std::time::Instant::now();
        loop {
            let reply = api.delete(&format!("/1.0/distributor/vips/{vip}"))?;
            if reply.status != 202 || begin.elapsed() > PATIENCE {
                return Ok(reply);
            }
        }
    };
    let without = |wreck: &Wreck| wreck.announced == own;
    let with = |wreck: &Wreck| wreck.announced == BTreeSet::from([vip, lab.vip.v6.into()]);
    let before = || prepare(&lab, &unregister, &without);
    walk(&lab, &Operation { name: "register end point", before: &before, call: &register, after: &with, again: 202 });
    let before = || prepare(&lab, &register, &with);
    let operation =
        Operation { name: "unregister end point", before: &before, call: &unregister, after: &without, again: 200 };
    walk(&lab, &operation);
}

#[test]
fn an_agent_killed_at_any_step_of_silencing_its_amphora_completes_it_on_a_retry() {
    let lab = announcing("crash-silence");
    let vrrp = |action: &'static str| {
        move |api: &mut Api| api.send(Method::PUT, &format!("/1.0/vrrp/{action}"), &[], Vec::new())
    };
    let (stop, start) = (vrrp("stop"), vrrp("start"));
    let silent = |wreck: &Wreck| wreck.announced.is_empty() && wreck.bound == lab.both();
    let announced = |wreck: &Wreck| wreck.announced == BTreeSet::from([lab.vip.v6.into()]) && wreck.bound == lab.both();
    let before = || prepare(&lab, &start, &announced);
    walk(&lab, &Operation { name: "vrrp stop", before: &before, call: &stop, after: &silent, again: 202 });
    let before = || prepare(&lab, &stop, &silent);
    walk(&lab, &Operation { name: "vrrp start", before: &before, call: &start, after: &announced, again: 202 });
    lab.wait_routes(&BTreeSet::from([lab.vip.v6.into()]));
}

/// An amphora of two VIPs, of which the IPv6 one is drained at once, and what it is before and after.
struct Drained {
    lab: One,
    /// The calls' path, without their name.
    path: String,
}

impl Drained {
    fn new(name: &str) -> Self {
        let lab = announcing(name);
        let path = format!("/1.0/distributor/amphorae/{}", lab.amphora().id());
        Self { lab, path }
    }

    fn drain(&self, api: &mut Api) -> lab::Result<lab::Reply> {
        let body = json!({ "timeout_s": 0, "max_connections": 0, "vip_ip": self.lab.vip.v6 });
        api.put(&format!("{}/drain", self.path), &body)
    }

    fn undrain(&self, api: &mut Api) -> lab::Result<lab::Reply> {
        api.put(&format!("{}/undrain", self.path), &json!({ "vip_ip": self.lab.vip.v6 }))
    }

    fn is_drained(&self, wreck: &Wreck) -> bool {
        wreck.announced.is_empty() && wreck.bound == BTreeSet::from([self.lab.vip.v4.into()])
    }

    fn is_announced(&self, wreck: &Wreck) -> bool {
        wreck.announced == BTreeSet::from([self.lab.vip.v6.into()]) && wreck.bound == self.lab.both()
    }
}

/// From the call through all stages to the end.
#[test]
fn an_agent_killed_at_any_step_of_a_drain_completes_it_and_never_unbinds_what_is_announced() {
    let d = Drained::new("crash-drain");
    let (drain, after) = (|api: &mut Api| d.drain(api), |wreck: &Wreck| d.is_drained(wreck));
    let before = || prepare(&d.lab, &|api| d.undrain(api), &|wreck| d.is_announced(wreck));
    walk(&d.lab, &Operation { name: "drain", before: &before, call: &drain, after: &after, again: 202 });
}

#[test]
fn an_agent_killed_at_any_step_of_ending_a_drain_binds_before_it_announces() {
    let d = Drained::new("crash-undrain");
    let (undrain, after) = (|api: &mut Api| d.undrain(api), |wreck: &Wreck| d.is_announced(wreck));
    let before = || prepare(&d.lab, &|api| d.drain(api), &|wreck| d.is_drained(wreck));
    walk(&d.lab, &Operation { name: "undrain", before: &before, call: &undrain, after: &after, again: 202 });
    d.lab.wait_routes(&BTreeSet::from([d.lab.vip.v6.into()]));
}
