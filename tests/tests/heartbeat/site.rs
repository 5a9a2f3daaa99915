//! An amphora with a load balancer as Octavia renders it, on a real haproxy with members in every state.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use lab::heartbeats::{self, Heartbeat, KEY, Receiver};
use lab::{Amphora, Fabric, Family, Options, Place, Proc, TorKind, command, wait_for};
use nix::sys::signal::Signal;

/// A ceiling, for a machine that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);
pub(crate) const LB: &str = "6f4b2f0e-4a4e-4c1b-9f0a-0d3b7a1c2d3e";
pub(crate) const HTTP: &str = "11111111-4a4e-4c1b-9f0a-0d3b7a1c2d3e";
const BASE: &str = "/var/lib/octavia";

/// Its listeners are `HTTP`, a TCP one and one for Prometheus; its members say by their names how they are.
const CONFIGURATION: &str = "global
    user nobody
    stats socket BASE/LB.sock mode 0666 level user
    maxconn 2000
defaults
    retries 3
    option redispatch
frontend prometheus-exporter-internal-endpoint
    bind 127.0.0.1:9101
    mode http
    http-request use-service prometheus-exporter if { path /metrics }
    http-request reject
    timeout http-request 5s
    timeout client 5s
backend prometheus-exporter-internal
    mode http
    balance first
    timeout connect 5s
    timeout server 5s
    server prometheus-internal 127.0.0.1:9102
frontend HTTP
    maxconn 1000
    bind 127.0.0.1:8080
    mode http
    default_backend several:HTTP
    timeout client 50000
frontend tcp
    maxconn 1000
    bind 127.0.0.1:8081
    mode tcp
    default_backend unchecked:tcp
    timeout client 50000
frontend exporter
    bind 127.0.0.1:8082
    mode http
    default_backend prometheus-exporter-internal
    timeout client 50000
backend several:HTTP
    mode http
    balance roundrobin
    timeout check 1s
    timeout connect 5000
    timeout server 50000
    server up 127.0.0.1:9001 weight 1 check inter 200ms fall 2 rise 2
    server draining 127.0.0.1:9001 weight 0 check inter 200ms fall 2 rise 2
    server down 127.0.0.1:9999 weight 1 check inter 200ms fall 2 rise 2
    server disabled 127.0.0.1:9001 weight 1 disabled
backend unchecked:tcp
    mode tcp
    timeout connect 5000
    timeout server 50000
    server unchecked 127.0.0.1:9001 weight 1
backend dead:tcp
    mode tcp
    timeout connect 5000
    timeout server 50000
    server down 127.0.0.1:9999 weight 1 check inter 200ms fall 2 rise 2
backend empty:HTTP
    mode http
    timeout connect 5000
    timeout server 50000
";

const MEMBERS: &str = "defaults
    mode http
    timeout client 10s
frontend members
    bind 127.0.0.1:9001
    http-request return status 200 content-type text/plain string member
";

/// The amphora, its agent, its haproxy and a health manager.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) fabric: Fabric,
    pub(crate) haproxy: Proc,
    pub(crate) manager: Receiver,
}

impl Site {
    /// Everything runs, the members have been found to be what they are, and nobody gets heartbeats.
    pub(crate) fn new(test: &str) -> Self {
        let mut options = Options::new(TorKind::Bird);
        options.amphorae = 1;
        let fabric = Fabric::new(test, &options).unwrap();
        let amphora = &fabric.amphorae[0];
        amphora.node().run(["mkdir", "-p", "/etc/octavia/amphora-agent.conf.d"]).unwrap();
        amphora.start_agent(&[]).unwrap();
        amphora.wait_api(PATIENCE).unwrap();
        let inside = amphora.haproxy_netns().unwrap();
        inside.ip("link set lo up").unwrap();
        let configuration = CONFIGURATION.replace("BASE", BASE).replace("LB", LB).replace("HTTP", HTTP);
        amphora.node().write_file(&format!("{BASE}/{LB}/haproxy.cfg"), configuration, 0o600).unwrap();
        amphora.node().write_file("/etc/haproxy/members.cfg", MEMBERS, 0o644).unwrap();
        inside.spawn("members", &mut command(["haproxy", "-db", "-f", "/etc/haproxy/members.cfg"])).unwrap();
        let haproxy = start_haproxy(&inside);
        let manager = Receiver::new(&fabric.controller, "0.0.0.0:0".parse().unwrap()).unwrap();
        Self { fabric, haproxy, manager }
    }

    pub(crate) fn amphora(&self) -> &Amphora {
        &self.fabric.amphorae[0]
    }

    /// `amphora-haproxy`.
    pub(crate) fn inside(&self) -> Place {
        self.amphora().haproxy_netns().unwrap()
    }

    /// Where the health manager is, as the amphora reaches it.
    pub(crate) fn target(&self) -> String {
        controller(self.manager.address().unwrap().port())
    }

    /// Gives the agent a configuration and has it read.
    pub(crate) fn configure(&self, targets: &[String], interval: u32, key: &str) {
        heartbeats::configure(self.amphora(), targets, interval, key).unwrap();
        self.amphora().agent().unwrap().kill(Signal::SIGHUP).unwrap();
    }

    /// The next heartbeat.
    #[track_caller]
    pub(crate) fn next(&self) -> Heartbeat {
        self.manager.next(KEY, PATIENCE).unwrap()
    }

    /// So many requests through the HTTP listener, each on a connection of its own.
    pub(crate) fn traffic(&self, requests: usize) {
        for _ in 0..requests {
            self.inside().run(["curl", "-sS", "--max-time", "20", "http://127.0.0.1:8080/"]).unwrap();
        }
    }

    /// haproxy's count of them.
    pub(crate) fn connections(&self) -> u64 {
        let stat = show_stat(self.amphora().node()).unwrap();
        let row = stat.lines().find(|line| line.starts_with(&format!("{HTTP},FRONTEND,"))).unwrap();
        row.split(',').nth(7).unwrap().parse().unwrap()
    }
}

/// A port of the controller.
pub(crate) fn controller(port: u16) -> String {
    let host = lab::addresses::MANAGEMENT.host(lab::addresses::CONTROLLER_HOST).of(Family::V4);
    SocketAddr::new(host, port).to_string()
}

/// Starts the load balancer's haproxy as Octavia's unit would, and waits until the checks have decided.
pub(crate) fn start_haproxy(inside: &Place) -> Proc {
    let (file, pid) = (format!("{BASE}/{LB}/haproxy.cfg"), format!("{BASE}/{LB}/{LB}.pid"));
    let haproxy = inside.spawn("haproxy", &mut command(["haproxy", "-W", "-f", &file, "-p", &pid])).unwrap();
    wait_for("the checks have decided", PATIENCE, || match show_stat(inside) {
        Ok(stat) if stat.lines().filter(|l| l.contains(",down,") && l.contains(",DOWN,")).count() == 2 => Ok(()),
        Ok(stat) => Err(stat),
        Err(error) => Err(error.to_string()),
    })
    .unwrap();
    haproxy
}

fn show_stat(place: &Place) -> lab::Result<String> {
    let mut socket = place.connect_unix(&format!("{BASE}/{LB}.sock"))?;
    let mut text = String::new();
    let asked = socket.write_all(b"show stat\n").and_then(|()| socket.read_to_string(&mut text));
    asked.map(|_| text).map_err(|source| lab::Error::Io { what: "show stat".into(), source })
}
