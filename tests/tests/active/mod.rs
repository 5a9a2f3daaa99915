//! Amphorae with their agents at work: configured, plugged, serving and registered.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use lab::{Amphora, Api, Dual, Fabric, Family, Tor, bare, traffic, wait_for};
use serde_json::Value;

/// A ceiling for whatever is awaited: gobgpd 3.10 first dials after 5-9 s, and the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);
pub(crate) const PORT: u16 = 80;
pub(crate) const BOTH: [Family; 2] = [Family::V4, Family::V6];

/// Starts the agents, whose configuration is written, and waits for their API.
pub(crate) fn boot(fabric: &Fabric) -> Vec<Api> {
    for amphora in &fabric.amphorae {
        amphora.start_agent(&[]).unwrap();
    }
    fabric.amphorae.iter().map(|amphora| amphora.wait_api(PATIENCE).unwrap().0).collect()
}

/// Plugs a dual-stack VIP, which haproxy then serves.
pub(crate) fn plug(amphora: &Amphora, api: &mut Api, vip: Dual) {
    api.plug_vip(vip.v4.into(), &amphora.plug_body(vip)).unwrap().success().unwrap();
    amphora.start_haproxy(&[vip.v4.into(), vip.v6.into()], PORT).unwrap();
}

/// Registers a VIP in both families, to one peer or to all.
pub(crate) fn register(amphora: &Amphora, api: &mut Api, vip: Dual, peer: Option<&str>) {
    for family in BOTH {
        register_one(amphora, api, vip.of(family), peer);
    }
}

/// Registers a VIP in its own family.
pub(crate) fn register_one(amphora: &Amphora, api: &mut Api, vip: IpAddr, peer: Option<&str>) {
    let family = if vip.is_ipv4() { Family::V4 } else { Family::V6 };
    api.register(amphora.id(), vip, amphora.frontend(family), peer).unwrap().success().unwrap();
}

/// Waits until the ToR's kernel routes the VIP to these amphorae's front-end IPs and no others, and knows where those are:
/// a Linux router moves flows about until then (see [`bare::meet`]).
pub(crate) fn wait_routes(tor: &Tor, vip: Dual, amphorae: &[&Amphora]) {
    for family in BOTH {
        let hops: Vec<IpAddr> = amphorae.iter().map(|amphora| amphora.frontend(family)).collect();
        tor.wait_next_hops(IpNet::from(vip.of(family)), &hops, PATIENCE).unwrap();
    }
    for amphora in amphorae {
        bare::meet(amphora, tor).unwrap();
    }
}

/// `count` connections from the client, of which none fails; who answered.
pub(crate) fn answers(fabric: &Fabric, vip: IpAddr, count: usize) -> traffic::Split {
    let split = traffic::connect(&fabric.client, SocketAddr::new(vip, PORT), count).unwrap();
    assert_eq!((split.answered(), split.failed()), (count, 0), "{vip}: {split}");
    split
}

/// `count` connections, of which none fails, over and over until all of `everyone` answer some: a ToR's kernel may leave
/// a next hop out for a moment after it has shown it. Returns the last split; its error has what the ToRs' kernels hold.
pub(crate) fn all_answer(fabric: &Fabric, vip: IpAddr, count: usize, everyone: usize) -> traffic::Split {
    let (split, _) = wait_for(&format!("{everyone} amphorae answer at {vip}"), PATIENCE, || {
        let split = answers(fabric, vip, count);
        if split.answers.len() == everyone {
            return Ok(split);
        }
        let known = |tor: &Tor| {
            let shown = ["route show", "nexthop", "neigh"].map(|what| {
                let argv = ["ip"].into_iter().chain(what.split(' '));
                tor.node().run(argv).unwrap_or_else(|error| error.to_string())
            });
            format!("{}:\n{}", tor.name(), shown.concat())
        };
        Err(format!("{split}; {}", fabric.tors.iter().map(known).collect::<Vec<_>>().join("; ")))
    })
    .unwrap();
    split
}

/// What the agent says of a session, in `GET /1.0/distributor/peers`; its error while it has no speaker to ask.
pub(crate) fn peer(api: &mut Api, tor: &Tor) -> Value {
    let reply = api.peers().unwrap().json();
    let this = |peers: &Vec<Value>| peers.iter().find(|peer| peer["peer_id"] == tor.name()).cloned();
    reply.as_array().and_then(this).unwrap_or(reply)
}

/// Waits until the agent says what `wanted` accepts of a session, and returns it.
pub(crate) fn wait_peer(api: &mut Api, tor: &Tor, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let look = || match peer(api, tor) {
        peer if wanted(&peer) => Ok(peer),
        peer => Err(peer),
    };
    wait_for(what, PATIENCE, look).unwrap().0
}
