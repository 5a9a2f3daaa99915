//! One amphora with a VIP on `lo`, where clients in the namespace reach what haproxy serves.

use std::time::Duration;

use hyper::Method;
use lab::traffic::{self, Split};
use lab::{Amphora, Api, Fabric, Family, Options, Reply, TorKind, addresses, balancers, wait_for};
use serde_json::{Value, json};

/// A ceiling, for a machine that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
pub(crate) const LB: &str = "6f4b2f0e-4a4e-4c1b-9f0a-0d3b7a1c2d3e";
pub(crate) const BASE: &str = "/var/lib/octavia";

pub(crate) struct Lab {
    pub(crate) fabric: Fabric,
}

impl Lab {
    /// With an agent that runs, and the addresses haproxy binds.
    pub(crate) fn new(test: &str) -> (Self, Api) {
        let mut options = Options::new(TorKind::Bird);
        options.amphorae = 1;
        let lab = Self { fabric: Fabric::new(test, &options).unwrap() };
        lab.node_run(&["mkdir", "-p", "/etc/octavia/amphora-agent.conf.d"]);
        let api = lab.start(&[]);
        let vip = addresses::vip(7);
        let (own, inside) = (lab.amphora().frontend(Family::V4), lab.amphora().haproxy_netns().unwrap());
        inside.ip(&format!("link set lo up\naddr add {own}/32 dev lo\naddr add {}/32 dev lo", vip.v4)).unwrap();
        inside.ip(&format!("addr add {}/128 dev lo nodad", vip.v6)).unwrap();
        (lab, api)
    }

    pub(crate) fn amphora(&self) -> &Amphora {
        &self.fabric.amphorae[0]
    }

    pub(crate) fn start(&self, env: &[(&str, &str)]) -> Api {
        self.amphora().start_agent(env).unwrap();
        self.amphora().wait_api(PATIENCE).unwrap().0
    }

    pub(crate) fn node_run(&self, argv: &[&str]) -> String {
        self.amphora().node().run(argv).unwrap()
    }

    pub(crate) fn upload(&self, api: &mut Api, lb: &str, text: impl Into<Vec<u8>>) -> lab::Result<Reply> {
        let path = format!("/1.0/loadbalancer/{}/{lb}/haproxy", self.amphora().id());
        api.send(Method::PUT, &path, &[], text.into())
    }

    /// Who answers on the VIP's port, by as many connections.
    pub(crate) fn ask(&self, port: u16, count: usize) -> Split {
        let vip: std::net::IpAddr = addresses::vip(7).v4.into();
        traffic::connect(&self.amphora().haproxy_netns().unwrap(), (vip, port).into(), count).unwrap()
    }

    /// Waits until the VIP's port answers that.
    #[track_caller]
    pub(crate) fn wait_answer(&self, port: u16, answer: &str) {
        let look = || match self.ask(port, 1) {
            split if split.answers.contains_key(answer) => Ok(()),
            split => Err(split.to_string()),
        };
        wait_for(&format!("{answer} on port {port}"), PATIENCE, look).unwrap();
    }

    /// The files of a load balancer, without those that are not there yet or are being written.
    pub(crate) fn files(&self, lb: &str) -> Vec<String> {
        let directory = format!("{BASE}/{lb}");
        let listed = self.amphora().node().run(["ls", "-A", &directory]).unwrap_or_default();
        listed.lines().map(ToOwned::to_owned).collect()
    }

    pub(crate) fn read(&self, path: &str) -> Option<String> {
        self.amphora().node().read_file(path).ok()
    }

    /// The agent's haproxies: their masters.
    pub(crate) fn masters(&self) -> Vec<u32> {
        let pid_files = self.node_run(&["sh", "-c", "cat /var/lib/octavia/*/*.pid 2>/dev/null; true"]);
        let running = self.amphora().pids("haproxy").unwrap();
        pid_files.lines().filter_map(|line| line.parse().ok()).filter(|pid| running.contains(pid)).collect()
    }
}

/// A configuration as Octavia has it, whose listener answers `answer` on port 80 of the VIP.
pub(crate) fn configuration(lb: &str, answer: &str) -> String {
    let pool = "backend pool:listener
    mode http
    load-server-state-from-file global
    server member 127.0.0.2:8080 weight 1 check inter 1s fall 3 rise 2
";
    balancers::configuration(lb, &[(addresses::vip(7).v4, 80).into()], answer, pool)
}

pub(crate) fn act(api: &mut Api, lb: &str, action: &str) -> lab::Result<Reply> {
    api.send(Method::PUT, &format!("/1.0/loadbalancer/{lb}/{action}"), &[], Vec::new())
}

pub(crate) fn delete(api: &mut Api, lb: &str) -> lab::Result<Reply> {
    api.delete(&format!("/1.0/listeners/{lb}"))
}

/// The status and the body of an answer.
#[track_caller]
pub(crate) fn answer(reply: lab::Result<Reply>) -> (u16, Value) {
    let reply = reply.unwrap();
    (reply.status, reply.json())
}

pub(crate) fn started(lb: &str) -> (u16, Value) {
    let details = format!("Configuration file is valid\nhaproxy daemon for {lb} started");
    (202, json!({ "message": "OK", "details": details }))
}

pub(crate) fn done(what: &str) -> (u16, Value) {
    (202, json!({ "message": "OK", "details": what }))
}

pub(crate) fn unknown(lb: &str) -> (u16, Value) {
    let details = format!("No loadbalancer with UUID: {lb}");
    (404, json!({ "message": "Loadbalancer Not Found", "details": details }))
}
