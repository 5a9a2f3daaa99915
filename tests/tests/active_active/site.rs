//! A ToR, two amphorae of one load balancer and a third in reserve, a member on a network of its own, a client several hops
//! away, and the controller. The VIP is in the subnet of the front-end IPs, as a stock controller always has it.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use lab::addresses::{FRONTEND, tor_host};
use lab::net::{Segment, up};
use lab::traffic::{self, Split};
use lab::{Amphora, Controller, Fabric, Family, Node, Options, Tor, TorKind, command, wait_for};
use serde_json::{Value, json};

/// A ceiling, for a machine that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
pub(crate) const LB: &str = "6f4b2f0e-4a4e-4c1b-9f0a-0d3b7a1c2d3e";
const PORT: u16 = 80;
const MEMBER_NETWORK: &str = "10.9.0.0/24";
const MEMBER: &str = "10.9.0.2";

/// Who holds the VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Both amphorae, each announcing for itself.
    Anycast,
    /// One of them, which keepalived chooses.
    Keepalived,
}

/// What is different from test to test.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) mode: Mode,
    pub(crate) tor: TorKind,
    /// With those in reserve.
    pub(crate) amphorae: usize,
    /// Put into `[bgp_peer:...]`.
    pub(crate) peer: &'static str,
}

impl Case {
    /// Two anycast amphorae and a ToR with BIRD.
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, mode: Mode::Anycast, tor: TorKind::Bird, amphorae: 2, peer: "" }
    }
}

pub(crate) struct Site {
    pub(crate) mode: Mode,
    pub(crate) vip: IpAddr,
    pub(crate) fabric: Fabric,
    pub(crate) controller: Controller,
    _member: (Segment, Node),
}

impl Site {
    /// With a load balancer whose listener both amphorae have; `None`, and said, without Octavia.
    pub(crate) fn serving(case: Case) -> Option<Self> {
        if let Err(error) = lab::octavia::environment() {
            lab::skipped(case.name, &error.to_string());
            return None;
        }
        let mut options = Options::new(case.tor);
        options.amphorae = case.amphorae;
        options.tors[0].filters = false; // it takes VIPs from the front-end subnet
        let fabric = Fabric::new(case.name, &options).unwrap();
        let segment = Segment::new(&fabric.workdir, "net-members").unwrap();
        for (amphora, n) in fabric.amphorae.iter().zip(0..) {
            segment.plug(amphora.node(), "ens8", Some(&member_mac(n))).unwrap();
            configure(case, &fabric, amphora);
            amphora.start_agent(&[]).unwrap();
        }
        let member = member(&fabric, &segment);
        let controller = Controller::start(&fabric).unwrap();
        for amphora in &fabric.amphorae {
            amphora.wait_api(PATIENCE).unwrap();
        }
        let mut site =
            Self { mode: case.mode, vip: FRONTEND.host(77).v4.into(), fabric, controller, _member: (segment, member) };
        site.does("create_load_balancer", json!({ "load_balancer": site.load_balancer() }));
        let listener = json!({ "name": "http", "protocol": "HTTP", "port": PORT, "persistence": "SOURCE_IP" });
        site.does("create_listeners", json!({ "listeners": [listener] }));
        Some(site)
    }

    /// Has the controller do something, and takes what it returns.
    #[track_caller]
    pub(crate) fn does(&mut self, what: &str, arguments: Value) -> Value {
        self.controller.ask(what, arguments).unwrap().returned()
    }

    pub(crate) fn to(&self) -> SocketAddr {
        SocketAddr::new(self.vip, PORT)
    }

    pub(crate) fn tor(&self) -> &Tor {
        &self.fabric.tors[0]
    }

    pub(crate) fn amphora(&self, n: usize) -> &Amphora {
        &self.fabric.amphorae[n]
    }

    /// Amphora `n` as `tests/octavia/models.py` takes it, in the role of the first or the second.
    pub(crate) fn asked(&self, n: u8, first: bool) -> Value {
        let amphora = self.amphora(n.into());
        json!({
            "id": amphora.id(), "lb_network_ip": amphora.management(Family::V4),
            "vrrp_ip": amphora.frontend(Family::V4), "mac_address": amphora.frontend_mac(),
            "priority": if first { 100 } else { 90 },
            "member_port": {
                "mac_address": member_mac(n),
                "fixed_ips": [{ "ip_address": member_side(n), "cidr": MEMBER_NETWORK, "gateway_ip": null }],
            },
        })
    }

    fn load_balancer(&self) -> Value {
        let gateway = FRONTEND.host(tor_host(0)).v4;
        json!({
            "id": LB, "topology": "ACTIVE_STANDBY", "vnic_type": "normal", "additional_vips": [], "members": [MEMBER],
            "vip": { "ip_address": self.vip, "cidr": FRONTEND.v4, "gateway_ip": gateway },
            "amphorae": [self.asked(0, true), self.asked(1, false)],
        })
    }

    /// Waits until the ToR's kernel has routes to these amphorae and no others, and knows where they are.
    #[track_caller]
    pub(crate) fn wait_announced(&self, by: &[usize]) {
        let hops: Vec<_> = by.iter().map(|n| self.amphora(*n).frontend(Family::V4)).collect();
        self.tor().wait_next_hops(IpNet::from(self.vip), &hops, PATIENCE).unwrap();
    }

    /// Waits until clients are answered through all of these amphorae and no others; who answered how many.
    #[track_caller]
    pub(crate) fn wait_served(&self, by: &[usize]) -> Split {
        let by: Vec<_> = by.iter().map(|n| member_side(u8::try_from(*n).unwrap())).collect();
        let look = || match traffic::connect(&self.fabric.client, self.to(), 100).unwrap() {
            split if split.failed() == 0 && split.answers.keys().eq(by.iter()) => Ok(split),
            split => Err(split.to_string()),
        };
        wait_for(&format!("served by way of {by:?}"), PATIENCE, look).unwrap().0
    }

    /// What haproxy of an amphora says to a command on its socket, which lets nobody change anything.
    pub(crate) fn haproxy(&self, n: usize, asked: &str) -> String {
        let mut socket = self.amphora(n).node().connect_unix(&format!("/var/lib/octavia/{LB}.sock")).unwrap();
        writeln!(socket, "{asked}").unwrap();
        let mut said = String::new();
        socket.read_to_string(&mut said).unwrap();
        said
    }

    /// The amphora that is to be hurt: the one that has the VIP, where only one has it.
    #[track_caller]
    pub(crate) fn victim(&self) -> usize {
        if self.mode == Mode::Anycast {
            return 0;
        }
        let has_it = |n: &usize| {
            let addresses = self.amphora(*n).haproxy_netns().unwrap().run(["ip", "-4", "addr", "show", "dev", "eth1"]);
            addresses.unwrap().contains(&format!("{}/", self.vip))
        };
        wait_for("one of them is the master", PATIENCE, || (0..2).find(has_it).ok_or("none is")).unwrap().0
    }
}

fn member_mac(n: u8) -> String {
    format!("fa:16:3e:00:09:{n:02x}")
}

/// The address the member sees requests come from.
fn member_side(n: u8) -> String {
    format!("10.9.0.{}", 11 + n)
}

/// Our own sections, beside what the controller has configured; nothing in the calls tells the difference.
fn configure(case: Case, fabric: &Fabric, amphora: &Amphora) {
    let sections = match case.mode {
        Mode::Keepalived => "[distributor]\nhaproxy_policy = enforce\n".to_owned(),
        Mode::Anycast => {
            let sections = amphora.distributor_sections() + &fabric.tors[0].peer_section(Family::V4) + case.peer;
            let prefixes = format!("haproxy_policy = enforce\nallowed_prefixes = {}, ", FRONTEND.v4);
            sections.replace("announce = api", "announce = listener").replace("allowed_prefixes = ", &prefixes)
        }
    };
    amphora.write_config(&sections).unwrap();
}

/// A machine that answers whoever asks by HTTP with the address the request came from.
fn member(fabric: &Fabric, segment: &Segment) -> Node {
    let node = Node::new(&fabric.workdir, "member").unwrap();
    segment.plug(&node, "eth0", None).unwrap();
    up(&node, "eth0", &[format!("{MEMBER}/24").parse().unwrap()]).unwrap();
    let text = "defaults\n  mode http\n  timeout connect 5s\n  timeout client 10s\n  timeout server 10s\nfrontend one\n  \
                bind :80\n  http-request return status 200 content-type text/plain lf-string %[src]\n";
    node.write_file("/etc/haproxy/member.cfg", text, 0o644).unwrap();
    node.spawn("haproxy", &mut command(["haproxy", "-db", "-f", "/etc/haproxy/member.cfg"])).unwrap();
    node
}
