//! What the tests of the API have in common.

use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use lab::addresses::FRONTEND;
use lab::error::chain;
use lab::picture::{self, Picture};
use lab::{Amphora, Api, Dual, Fabric, Family, Neighbours, Options, Place, Reply, TorKind, TorOptions, addresses};
use serde_json::{Value, json};

/// A ceiling, not a sleep.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Where the agent keeps what was asked of it.
pub(crate) const STATE: &str = "/var/lib/octavia/amphora-agent/state";

/// ToRs running BIRD that dial, and one amphora, configured for them; its agent is not started.
pub(crate) fn fabric(name: &str, tors: usize) -> Fabric {
    let mut options = Options::new(TorKind::Bird);
    options.amphorae = 1;
    options.tors = vec![TorOptions { neighbours: Neighbours::Each(Family::V4), ..options.tors[0].clone() }; tors];
    let fabric = Fabric::new(name, &options).unwrap();
    fabric.write_configs(Family::V4).unwrap();
    fabric
}

/// The same with its agent running.
pub(crate) fn running(name: &str, tors: usize) -> (Fabric, Api) {
    let fabric = fabric(name, tors);
    let api = start(&fabric.amphorae[0]);
    (fabric, api)
}

/// Starts an agent and waits for its API.
pub(crate) fn start(amphora: &Amphora) -> Api {
    amphora.start_agent(&[]).unwrap();
    amphora.wait_api(PATIENCE).unwrap().0
}

/// The VIP of nearly every test.
pub(crate) fn vip() -> Dual {
    addresses::vip(7)
}

/// Makes the controller's file say another topology than the lab's `ACTIVE_STANDBY`.
pub(crate) fn set_topology(amphora: &Amphora, topology: &str) {
    let path = "/etc/octavia/amphora-agent.conf";
    let text = amphora.node().read_file(path).unwrap();
    amphora.node().write_file(path, text.replace("ACTIVE_STANDBY", topology), 0o600).unwrap();
}

/// A plug call's body that names nothing but the front-end NIC and the VIP's subnet.
pub(crate) fn bare_body(amphora: &Amphora, subnet: &str) -> Value {
    json!({"subnet_cidr": subnet, "gateway": null, "mac_address": amphora.frontend_mac()})
}

/// What is on the front-end NIC and `lo` after the lab's dual-stack plug in `anycast` or `noarp` mode.
pub(crate) fn routed_picture(amphora: &Amphora, vip: Dual) -> Picture {
    let gateway = FRONTEND.host(addresses::tor_host(0));
    let mut lines = vec![
        "link eth1 mtu 1500 up".to_owned(),
        "link lo mtu 65536 up".to_owned(),
        format!("address lo {}/32 host deprecated", vip.v4),
        format!("address lo {}/128 deprecated nodad", vip.v6),
        format!("rule -4 32000 from {} table 1 proto 79", vip.v4),
        format!("rule -6 32000 from {} table 1 proto 79", vip.v6),
    ];
    for family in [Family::V4, Family::V6] {
        let (net, gateway) = (FRONTEND.of(family), gateway.of(family));
        lines.push(format!("address eth1 {}/{}", amphora.frontend(family), net.prefix_len()));
        lines.push(format!("route table 1 {net} dev eth1 proto 79"));
        lines.push(format!("route table 1 default via {gateway} dev eth1 proto 79"));
        lines.push(format!("route table 254 default via {gateway} dev eth1 proto 79"));
    }
    lines.into_iter().collect()
}

/// `amphora-haproxy`.
pub(crate) fn inside(amphora: &Amphora) -> Place {
    amphora.haproxy_netns().unwrap()
}

/// Everything a refused call must leave as it is: the kernel in both namespaces, the state on disk, and what the
/// speaker holds, down to the time it got it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Everything {
    inside: Picture,
    outside: Picture,
    state: Option<Vec<u8>>,
    speaker: [String; 2],
}

impl Everything {
    pub(crate) fn of(amphora: &Amphora) -> Self {
        // The API answers before a fresh speaker has been started.
        let rib = |family| {
            let ask = || lab::speaker::gobgp(amphora.node(), &["global", "rib", "-a", family, "-j"]);
            lab::wait_for("the speaker answers", PATIENCE, || ask().map_err(|error| chain(&error))).unwrap().0
        };
        Self {
            inside: picture::look(&inside(amphora)).unwrap(),
            outside: picture::look(amphora.node()).unwrap(),
            state: amphora.node().within(|| fs::read(STATE)).unwrap().ok(),
            speaker: [rib("ipv4"), rib("ipv6")],
        }
    }
}

/// Asserts the status and that the body has every one of `words`.
#[track_caller]
pub(crate) fn refused(reply: &Reply, status: u16, words: &[&str]) {
    let text = reply.text();
    assert_eq!(reply.status, status, "{text}");
    assert_eq!(reply.headers["content-type"], "application/json", "{text}");
    assert!(reply.json().is_object(), "the controller takes nothing else: {text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text}");
    }
}

/// The routes of `GET /1.0/distributor/{of}`.
pub(crate) fn routes(api: &mut Api, of: &str) -> Vec<Value> {
    let reply = api.get(&format!("/1.0/distributor/{of}")).unwrap().success().unwrap();
    reply.json().as_array().unwrap().clone()
}

/// Waits until the one route of `vip` has these statuses, and returns it.
#[track_caller]
pub(crate) fn wait_route(api: &mut Api, vip: IpAddr, provisioning: &str, operating: &str) -> Value {
    let what = format!("{vip} is {provisioning}, {operating}");
    let look = || {
        let listed = routes(api, &format!("amphorae?vip_ip={vip}"));
        let is = |route: &Value| route["provisioning_status"] == provisioning && route["operating_status"] == operating;
        listed.iter().find(|route| is(route)).cloned().ok_or_else(|| format!("{listed:?}"))
    };
    lab::wait_for(&what, PATIENCE, look).unwrap().0
}
