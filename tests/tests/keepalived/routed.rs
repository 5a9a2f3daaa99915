//! The VRRP calls where VIPs are routed: taken, answered, and of no effect but one.

#[path = "../active/mod.rs"]
mod active;

use std::net::IpAddr;

use active::{PATIENCE, boot, plug, register, wait_routes};
use ipnet::IpNet;
use lab::{Fabric, Family, Options, Tor, TorKind, addresses};
use serde_json::json;

use crate::support::{VRRP, put, vrrp_configs};

fn wait_gone(tor: &Tor, vip: IpAddr) {
    tor.wait_next_hops(IpNet::from(vip), &[], PATIENCE).unwrap();
}

#[test]
fn vrrp_stop_withdraws_until_the_next_start_over_a_restart_of_the_agent() {
    let test = "vrrp_stop_withdraws_until_the_next_start_over_a_restart_of_the_agent";
    let mut options = Options::new(TorKind::Frr);
    options.amphorae = 2;
    let fabric = Fabric::new("silence", &options).unwrap();
    let Some(configs) = vrrp_configs(test, &fabric) else { return };
    fabric.write_configs(Family::V4).unwrap();
    let (tor, vip) = (&fabric.tors[0], addresses::vip(7));
    let mut apis = boot(&fabric);
    let say = |api: &mut lab::Api, action: &str| {
        let reply = put(api, &format!("/1.0/vrrp/{action}"), "").unwrap();
        assert_eq!(reply.status, 202, "{}", reply.text());
        reply.json()["details"].as_str().unwrap().to_owned()
    };
    // As the controller's first flow: no plug, then no listener.
    assert_eq!(say(&mut apis[0], "start"), "keepalived started");
    for ((amphora, api), config) in fabric.amphorae.iter().zip(&mut apis).zip(configs) {
        plug(amphora, api, vip);
        register(amphora, api, vip, None);
        let reply = put(api, "/1.0/vrrp/upload", config.clone()).unwrap();
        assert_eq!((reply.status, reply.json()), (200, json!({ "message": "OK" })));
        assert_eq!(amphora.node().read_file(&format!("{VRRP}/octavia-keepalived.conf")).unwrap(), config);
        assert_eq!(say(api, "start"), "keepalived started");
        assert_eq!(say(api, "reload"), "keepalived reloaded");
        assert_eq!(amphora.pids("keepalived").unwrap(), [] as [u32; 0]);
    }
    let both: Vec<_> = fabric.amphorae.iter().collect();
    wait_routes(tor, vip, &both);

    let silent = &fabric.amphorae[0];
    assert_eq!(say(&mut apis[0], "stop"), "keepalived stoped");
    wait_routes(tor, vip, &both[1..]);
    let routes = apis[0].amphorae().unwrap().json();
    let reason = routes[0]["routes"][0]["reason"].as_str().or(routes[0]["reason"].as_str()).unwrap_or_default();
    assert!(reason.contains("vrrp/stop") && reason.contains("vrrp/start"), "{routes}");
    let bound = silent.haproxy_netns().unwrap().run(["ip", "-o", "address", "show", "dev", "lo"]).unwrap();
    assert!(bound.contains(&vip.v4.to_string()) && bound.contains(&vip.v6.to_string()), "still bound: {bound}");
    assert_eq!(say(&mut apis[0], "stop"), "keepalived stoped");
    assert_eq!(say(&mut apis[0], "reload"), "keepalived reloaded");

    silent.kill_agent().unwrap();
    silent.start_agent(&[]).unwrap();
    let mut api = silent.wait_api(PATIENCE).unwrap().0;
    // A new registration is no way around it.
    register(silent, &mut api, vip, None);
    wait_routes(tor, vip, &both[1..]);

    assert_eq!(say(&mut api, "start"), "keepalived started");
    wait_routes(tor, vip, &both);
    // Both silent: nobody has it.
    assert_eq!(say(&mut api, "stop"), "keepalived stoped");
    assert_eq!(say(&mut both[1].api().unwrap(), "stop"), "keepalived stoped");
    wait_gone(tor, vip.v4.into());
    wait_gone(tor, vip.v6.into());
    assert!(both.iter().all(|amphora| amphora.pids("keepalived").unwrap().is_empty()));
}
