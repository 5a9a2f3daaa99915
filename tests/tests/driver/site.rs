//! A load balancer's surroundings: amphorae, a member on a network of its own, a client, and the controller.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lab::addresses::{self, FRONTEND, tor_host};
use lab::net::{Segment, up};
use lab::{Amphora, Controller, Fabric, Family, Node, Options, TorKind, command, traffic, wait_for};
use serde_json::{Value, json};

/// A ceiling, for a machine that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
pub(crate) const LB: &str = "6f4b2f0e-4a4e-4c1b-9f0a-0d3b7a1c2d3e";
const MEMBER_NETWORK: [&str; 2] = ["10.9.0.0/24", "2001:db8:9::/64"];
const MEMBER: [&str; 2] = ["10.9.0.2", "2001:db8:9::2"];
const CA: &str = "/run/ca.pem";
/// As proc_meminfo(5) has it, in what an agent may look at.
const MEMINFO: &str = "MemTotal: 1014772 kB\nMemFree: 200000 kB\nMemAvailable: 300000 kB\nBuffers: 10000 kB\n\
                       Cached: 100000 kB\nSwapCached: 0 kB\nShmem: 1000 kB\nSlab: 50000 kB\nSwapTotal: 0 kB\n";

/// What is different from case to case.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// `ACTIVE_STANDBY`, on two amphorae; otherwise `SINGLE`.
    pub(crate) standby: bool,
    /// The VIP's family, and those of the additional VIPs.
    pub(crate) families: &'static [Family],
    /// `vip_mode`: `anycast` or `interface`.
    pub(crate) anycast: bool,
    /// Whether the VIP's port is a virtual function, which the amphora itself has to filter.
    pub(crate) sriov: bool,
}

pub(crate) struct Site {
    pub(crate) case: Case,
    pub(crate) fabric: Fabric,
    pub(crate) controller: Controller,
    _member: (Segment, Node),
}

impl Site {
    /// With agents that run; `None`, and said, without Octavia.
    pub(crate) fn new(case: Case) -> Option<Self> {
        if let Err(error) = lab::octavia::environment() {
            lab::skipped(case.name, &error.to_string());
            return None;
        }
        let mut options = Options::new(TorKind::Bird);
        options.amphorae = if case.standby { 2 } else { 1 };
        let fabric = Fabric::new(case.name, &options).unwrap();
        let segment = Segment::new(&fabric.workdir, "net-members").unwrap();
        for (amphora, mac) in fabric.amphorae.iter().zip(1..) {
            segment.plug(amphora.node(), "ens8", Some(&member_mac(mac))).unwrap();
            configure(case, &fabric, amphora);
            amphora.start_agent(&[]).unwrap();
        }
        let member = member(&fabric, &segment);
        fabric.client.write_file(CA, fabric.pki.ca(), 0o644).unwrap();
        let controller = Controller::start(&fabric).unwrap();
        for amphora in &fabric.amphorae {
            amphora.wait_api(PATIENCE).unwrap();
        }
        Some(Self { case, fabric, controller, _member: (segment, member) })
    }

    /// Has the controller do something, and takes what it returns.
    #[track_caller]
    pub(crate) fn does(&mut self, what: &str, arguments: Value) -> Value {
        self.controller.ask(what, arguments).unwrap().returned()
    }

    /// The load balancer as `tests/octavia/models.py` takes it.
    pub(crate) fn load_balancer(&self) -> Value {
        let [first, additional @ ..] = self.case.families else { panic!("a VIP has a family") };
        let amphora = |(amphora, n): (&Amphora, u8)| {
            let fixed_ip = |family: &Family| {
                let (network, member) = (MEMBER_NETWORK[*family as usize], MEMBER[*family as usize]);
                let ip = format!("{}{}", &member[..member.len() - 1], n + 10); // beside the member
                json!({ "ip_address": ip, "cidr": network, "gateway_ip": null })
            };
            json!({
                "id": amphora.id(), "lb_network_ip": amphora.management(Family::V4),
                "vrrp_ip": amphora.frontend(*first), "mac_address": amphora.frontend_mac(),
                "priority": if n == 1 { 100 } else { 90 },
                "member_port": {
                    "mac_address": member_mac(n),
                    "fixed_ips": self.case.families.iter().map(fixed_ip).collect::<Vec<_>>(),
                },
            })
        };
        json!({
            "id": LB,
            "topology": self.case.topology(),
            "vnic_type": if self.case.sriov { "direct" } else { "normal" },
            "vip": self.vip_of(*first),
            "additional_vips": additional.iter().map(|f| self.vip_of(*f)).collect::<Vec<_>>(),
            "amphorae": self.fabric.amphorae.iter().zip(1..).map(amphora).collect::<Vec<_>>(),
            "members": self.case.families.iter().map(|f| MEMBER[*f as usize]).collect::<Vec<_>>(),
        })
    }

    /// The VIP with the subnet of the front-end IPs. A routed one is of no subnet there: that is what a ToR here accepts.
    fn vip_of(&self, family: Family) -> Value {
        json!({
            "ip_address": self.case.vip(family), "cidr": FRONTEND.of(family),
            "gateway_ip": FRONTEND.host(tor_host(0)).of(family),
        })
    }

    /// Waits until clients several hops away are answered by the member through every one of these listeners, in every
    /// family that is reachable.
    #[track_caller]
    pub(crate) fn wait_served(&self, ports: &[u16]) {
        for (family, port) in self.case.reachable().flat_map(|family| ports.iter().map(move |port| (family, *port))) {
            let vip = self.case.vip(family);
            let look = || match port {
                443 => self.asks_by_tls(vip),
                _ => self.asks(SocketAddr::new(vip, port)),
            };
            wait_for(&format!("{} port {port} is answered", self.case.vip(family)), PATIENCE, look).unwrap();
        }
    }

    /// Waits until nobody answers on these ports.
    #[track_caller]
    pub(crate) fn wait_silent(&self, ports: &[u16]) {
        for (family, port) in self.case.reachable().flat_map(|family| ports.iter().map(move |port| (family, *port))) {
            let to = SocketAddr::new(self.case.vip(family), port);
            let look = || if self.asks(to).is_ok() { Err("an answer") } else { Ok(()) };
            wait_for(&format!("{to} is silent"), PATIENCE, look).unwrap();
        }
    }

    fn asks(&self, to: SocketAddr) -> Result<(), String> {
        let split = traffic::connect(&self.fabric.client, to, 1).map_err(|error| error.to_string())?;
        if split.answers.contains_key("member") { Ok(()) } else { Err(split.to_string()) }
    }

    /// By both of the listener's certificates, each for its own name.
    fn asks_by_tls(&self, vip: IpAddr) -> Result<(), String> {
        let vip = if vip.is_ipv6() { format!("[{vip}]") } else { vip.to_string() };
        for name in ["www.example.com", "shop.example.com"] {
            let (resolve, url) = (format!("{name}:443:{vip}"), format!("https://{name}/"));
            let curl = ["curl", "-sSf", "--max-time", "5", "--cacert", CA, "--resolve", &resolve, &url];
            let answer = self.fabric.client.run(curl).map_err(|error| error.to_string())?;
            if answer != "member" {
                return Err(format!("{name}: {answer}"));
            }
        }
        Ok(())
    }
}

impl Case {
    pub(crate) fn topology(self) -> &'static str {
        if self.standby { "ACTIVE_STANDBY" } else { "SINGLE" }
    }

    pub(crate) fn vip(self, family: Family) -> IpAddr {
        if self.anycast { addresses::vip(7).of(family) } else { FRONTEND.host(77).of(family) }
    }

    /// The families in which clients reach the VIP: a routed one needs a front-end IP of its family, and the stock
    /// controller gives an amphora one only in the VIP's first family.
    pub(crate) fn reachable(self) -> impl Iterator<Item = Family> {
        let count = if self.anycast { 1 } else { self.families.len() };
        self.families.iter().take(count).copied()
    }
}

fn member_mac(n: u8) -> String {
    format!("fa:16:3e:00:09:{n:02x}")
}

/// As the controller configures it at its birth, and our own sections beside it.
fn configure(case: Case, fabric: &Fabric, amphora: &Amphora) {
    const FILE: &str = "/etc/octavia/amphora-agent.conf";
    let node = amphora.node();
    let text = node.read_file(FILE).unwrap();
    let topology = format!("loadbalancer_topology = {}", case.topology());
    node.write_file(FILE, text.replace("loadbalancer_topology = ACTIVE_STANDBY", &topology), 0o600).unwrap();
    // A machine of the size amphorae have: Octavia gives half of the memory that is free to haproxy's TLS sessions.
    node.write_file("/run/meminfo", MEMINFO, 0o444).unwrap();
    node.run(["mount", "--bind", "/run/meminfo", "/proc/meminfo"]).unwrap();
    if case.anycast {
        let sections = amphora.distributor_sections() + &fabric.tors[0].peer_section(Family::V4);
        amphora.write_config(&sections).unwrap();
    } else {
        node.run(["mkdir", "-p", "/etc/octavia/amphora-agent.conf.d"]).unwrap();
    }
}

/// A machine that answers "member" to whoever asks by HTTP.
fn member(fabric: &Fabric, segment: &Segment) -> Node {
    let node = Node::new(&fabric.workdir, "member").unwrap();
    segment.plug(&node, "eth0", None).unwrap();
    let address = |family: usize| {
        let (_, length) = MEMBER_NETWORK[family].split_once('/').unwrap();
        format!("{}/{length}", MEMBER[family]).parse().unwrap()
    };
    up(&node, "eth0", &[address(0), address(1)]).unwrap();
    let text = "defaults\n  mode http\n  timeout connect 5s\n  timeout client 10s\n  timeout server 10s\nfrontend one\n  \
                bind :::80 v4v6\n  http-request return status 200 content-type text/plain string member\n";
    node.write_file("/etc/haproxy/member.cfg", text, 0o644).unwrap();
    node.spawn("haproxy", &mut command(["haproxy", "-db", "-f", "/etc/haproxy/member.cfg"])).unwrap();
    node
}
