//! The smallest fabric: one ToR, one amphora, and the plug it gets.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use lab::amphora::{FRONTEND_NIC, HAPROXY_NETNS};
use lab::error::chain;
use lab::{Amphora, Api, Dual, Fabric, Family, Neighbours, Options, Reply, TorKind, Wreck, addresses, wait_for};
use serde_json::Value;

/// A ceiling, for a machine that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// One ToR, one amphora, and the plug it gets.
pub(crate) struct One {
    pub(crate) fabric: Fabric,
    pub(crate) vip: Dual,
    pub(crate) body: Value,
    /// VIPs of end points elsewhere: announced without being bound here.
    pub(crate) elsewhere: Vec<IpAddr>,
}

impl One {
    pub(crate) fn new(name: &str, kind: TorKind) -> Self {
        let mut options = Options::new(kind);
        options.amphorae = 1;
        options.tors[0].neighbours = Neighbours::Each(Family::V4);
        let fabric = Fabric::new(name, &options).unwrap();
        fabric.write_configs(Family::V4).unwrap();
        let vip = addresses::vip(7);
        let body = fabric.amphorae[0].plug_body(vip);
        Self { fabric, vip, body, elsewhere: Vec::new() }
    }

    pub(crate) fn amphora(&self) -> &Amphora {
        &self.fabric.amphorae[0]
    }

    pub(crate) fn both(&self) -> BTreeSet<IpAddr> {
        [self.vip.v4.into(), self.vip.v6.into()].into()
    }

    pub(crate) fn start(&self) -> Api {
        self.amphora().start_agent(&[]).unwrap();
        self.amphora().wait_api(PATIENCE).unwrap().0
    }

    /// Calls as soon as the agent answers; an error when it ends before.
    pub(crate) fn call(&self, call: &dyn Fn(&mut Api) -> lab::Result<Reply>) -> lab::Result<Reply> {
        let agent = self.amphora().agent().unwrap();
        let mut api = self.amphora().api()?;
        let up = || match api.get("/") {
            Err(error) if agent.is_running() => Err(chain(&error)),
            other => Ok(other),
        };
        wait_for("the agent answers or ends", PATIENCE, up)?.0?;
        call(&mut api)
    }

    pub(crate) fn plug(&self, api: &mut Api) -> lab::Result<Reply> {
        api.plug_vip(self.vip.v4.into(), &self.body)
    }

    pub(crate) fn unplug(&self, api: &mut Api) -> lab::Result<Reply> {
        api.unplug_vip(self.vip.v4.into())
    }

    pub(crate) fn register(&self, api: &mut Api, family: Family) -> lab::Result<Reply> {
        api.register(self.amphora().id(), self.vip.of(family), self.amphora().frontend(family), None)
    }

    pub(crate) fn unregister(&self, api: &mut Api, family: Family) -> lab::Result<Reply> {
        api.unregister(self.amphora().id(), &format!("vip_ip={}", self.vip.of(family)))
    }

    /// Waits for the session and for exactly `vips` in the ToR's kernel.
    pub(crate) fn wait_routes(&self, vips: &BTreeSet<IpAddr>) {
        for family in [Family::V4, Family::V6] {
            let vip = self.vip.of(family);
            let hop = self.amphora().frontend(family);
            let want: &[IpAddr] = if vips.contains(&vip) { &[hop] } else { &[] };
            self.fabric.tors[0].wait_next_hops(IpNet::from(vip), want, PATIENCE).unwrap();
        }
    }

    /// An amphora that has never been plugged; the speaker stays. The agent must be dead.
    pub(crate) fn forget(&self) {
        let node = self.amphora().node();
        let inside = format!("/run/netns/{HAPROXY_NETNS}");
        if node.run(["test", "-e", &inside]).is_ok() {
            let inside = self.amphora().haproxy_netns().unwrap();
            // Its name there depends on how far the agent got.
            for name in ["eth1", "eth2", FRONTEND_NIC] {
                if inside.run(["ip", "link", "show", name]).is_ok() {
                    let mut home = vec!["ip", "link", "set", name, "down", "netns", "1"];
                    if name != FRONTEND_NIC {
                        home.extend(["name", FRONTEND_NIC]);
                    }
                    inside.run(home).unwrap();
                }
            }
            node.run(["ip", "netns", "delete", HAPROXY_NETNS]).unwrap();
        }
        // With the files of other programs, from which an agent without state takes over.
        let files = "/var/lib/octavia/amphora-agent /var/lib/octavia/plugged_interfaces /etc/octavia/interfaces";
        node.run(["sh", "-c", &format!("rm -rf {files}")]).unwrap();
    }

    pub(crate) fn look(&self) -> Wreck {
        // A speaker that has just been started answers in a moment.
        wait_for("the amphora can be looked at", PATIENCE, || Wreck::of(self.amphora()).map_err(|e| chain(&e)))
            .unwrap()
            .0
    }

    /// What is announced although it is not bound, or answers ARP.
    pub(crate) fn unbacked(&self, wreck: &Wreck) -> Vec<IpAddr> {
        wreck.unbacked().into_iter().filter(|vip| !self.elsewhere.contains(vip)).collect()
    }

    /// Looks until it is as `right` wants it.
    pub(crate) fn wait_look(&self, what: &str, right: impl Fn(&Wreck) -> bool) -> Wreck {
        let look = || {
            let wreck = Wreck::of(self.amphora()).map_err(|error| chain(&error))?;
            assert_eq!(self.unbacked(&wreck), [] as [IpAddr; 0], "announced unbound: {wreck:?}");
            if right(&wreck) { Ok(wreck) } else { Err(format!("{wreck:?}")) }
        };
        wait_for(what, PATIENCE, look).unwrap().0
    }

    /// The point at which the agent says it died.
    pub(crate) fn last_point(&self) -> String {
        let log = std::fs::read_to_string(self.amphora().agent().unwrap().log()).unwrap();
        log.lines().rev().find_map(|line| line.strip_prefix("crash point ")).unwrap().to_owned()
    }
}
