//! What the tests of this program share.

use std::time::Duration;

use hyper::Method;
use lab::addresses::FRONTEND;
use lab::{Amphora, Api, Fabric, Options, Reply, TorKind};
use serde_json::{Value, json};

/// A ceiling, for a machine that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
pub(crate) const VRRP: &str = "/var/lib/octavia/vrrp";
pub(crate) const LVS: &str = "/var/lib/octavia/lvs";
pub(crate) const LISTENER: &str = "5a4b2f0e-4a4e-4c1b-9f0a-0d3b7a1c2d3e";

/// Amphorae whose VIPs are where the stock controller has them, on the NIC; none started.
pub(crate) fn stock(name: &str, amphorae: usize) -> Fabric {
    let mut options = Options::new(TorKind::Bird);
    options.amphorae = amphorae;
    let fabric = Fabric::new(name, &options).unwrap();
    for amphora in &fabric.amphorae {
        amphora.node().run(["mkdir", "-p", "/etc/octavia/amphora-agent.conf.d"]).unwrap();
    }
    fabric
}

pub(crate) fn start(amphora: &Amphora) -> Api {
    amphora.start_agent(&[]).unwrap();
    amphora.wait_api(PATIENCE).unwrap().0
}

pub(crate) fn put(api: &mut Api, path: &str, body: impl Into<Vec<u8>>) -> lab::Result<Reply> {
    api.send(Method::PUT, path, &[], body.into())
}

/// A VIP of the front-end network, as the stock controller takes it.
pub(crate) fn vip() -> lab::Dual {
    FRONTEND.host(77)
}

/// Plugs it on the NIC, IPv4 alone: IPv6 would wait for duplicate address detection.
pub(crate) fn plug(amphora: &Amphora, api: &mut Api) {
    let mut body = amphora.plug_body(vip());
    body.as_object_mut().unwrap().remove("frontend_ips");
    body["additional_vips"] = json!([]);
    api.plug_vip(vip().v4.into(), &body).unwrap().success().unwrap();
}

/// Has Octavia's templaters render: see `tests/octavia/keepalived.py`. `None`, and said, without Octavia.
pub(crate) fn rendered(test: &str, fabric: &Fabric, asked: &[Value]) -> Option<Vec<String>> {
    has_octavia(test).then(|| lab::octavia::keepalived(fabric, asked).unwrap())
}

/// The VRRP configuration of each amphora; the first has the highest priority.
pub(crate) fn vrrp_configs(test: &str, fabric: &Fabric) -> Option<Vec<String>> {
    has_octavia(test).then(|| lab::octavia::vrrp(fabric, vip().v4, &fabric.amphorae).unwrap())
}

fn has_octavia(test: &str) -> bool {
    let environment = lab::octavia::environment();
    if let Err(error) = &environment {
        lab::skipped(test, &error.to_string());
    }
    environment.is_ok()
}

/// keepalived's main process in this amphora, by its pid file; whether it runs is another question.
pub(crate) fn keepalived_pid(amphora: &Amphora) -> Option<u32> {
    amphora.node().read_file(&format!("{VRRP}/octavia-keepalived.pid")).ok()?.trim().parse().ok()
}

/// Whether the amphora has the VIP on its NIC.
pub(crate) fn holds_vip(amphora: &Amphora) -> bool {
    let addresses = amphora.haproxy_netns().and_then(|place| place.run(["ip", "-o", "address", "show"]));
    addresses.is_ok_and(|text| text.contains(&format!(" {}/32 ", vip().v4)))
}
