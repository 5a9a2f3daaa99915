//! An amphora of the fabric: its NICs as Nova leaves them, its files where the agent looks, its agent, its haproxy.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::Signal;
use rustls::ClientConfig;
use serde_json::{Value, json};

use crate::addresses::{ANYCAST, Dual, FRONTEND, Family, MANAGEMENT, amphora_host, tor_host};
use crate::api::Api;
use crate::error::{Result, chain, io};
use crate::lock;
use crate::node::Node;
use crate::pki::Pki;
use crate::place::{Place, command};
use crate::process::Proc;
use crate::speaker::Gobgpd;
use crate::wait::wait_for;
use crate::workdir::{Workdir, built_program};

/// The namespace where VIP, front-end NIC and haproxy live.
pub const HAPROXY_NETNS: &str = "amphora-haproxy";
/// The front-end NIC's name while it is still in the amphora's root namespace.
pub const FRONTEND_NIC: &str = "ens7";
/// The management NIC's name.
pub const MANAGEMENT_NIC: &str = "eth0";
/// The port of the agent's API.
pub const API_PORT: u16 = 9443;

const CERTS: &str = "/etc/octavia/certs";

/// An amphora.
#[derive(Debug)]
pub struct Amphora {
    node: Node,
    index: usize,
    id: String,
    asn: u32,
    controller: Place,
    pki: Arc<Pki>,
    agent: Mutex<Option<Proc>>,
    /// The switches' ports of the management and the front-end NIC.
    ports: [String; 2],
}

impl Amphora {
    pub(crate) fn new(
        node: Node,
        index: usize,
        asn: u32,
        controller: Place,
        pki: Arc<Pki>,
        ports: [String; 2],
    ) -> Self {
        let id = format!("00000000-0000-4000-8000-{:012}", index + 1);
        Self { node, index, id, asn, controller, pki, agent: Mutex::default(), ports }
    }

    /// Writes certificates and base configuration, and puts the speaker in place.
    pub(crate) fn prepare(&self, gobgpd: Gobgpd, state_on_disk: Option<&Workdir>) -> Result<()> {
        gobgpd.install(&self.node)?;
        let addresses = [self.management(Family::V4), self.management(Family::V6)];
        let server = self.pki.server(&self.id, &addresses)?;
        self.node.write_file(&format!("{CERTS}/server.pem"), server.certificate + &server.key, 0o600)?;
        self.node.write_file(&format!("{CERTS}/client_ca.pem"), self.pki.ca(), 0o644)?;
        self.node.run(["mkdir", "-p", "/var/lib/octavia"])?;
        if let Some(workdir) = state_on_disk {
            let real = workdir.path().join(format!("{}-state", self.name()));
            std::fs::create_dir(&real).map_err(io(real.display().to_string()))?;
            self.node.run(["mount", "--bind", &real.to_string_lossy(), "/var/lib/octavia"])?;
        }
        let base = format!(
            "[DEFAULT]
debug = False
[haproxy_amphora]
base_path = /var/lib/octavia
base_cert_dir = /var/lib/octavia/certs
bind_host = {}
bind_port = {API_PORT}
[health_manager]
controller_ip_port_list =
heartbeat_interval = 10
heartbeat_key = lab-heartbeat-key
[amphora_agent]
agent_server_ca = {CERTS}/client_ca.pem
agent_server_cert = {CERTS}/server.pem
agent_tls_protocol = TLSv1.2
amphora_id = {}
[controller_worker]
loadbalancer_topology = ACTIVE_STANDBY
",
            self.management(Family::V4),
            self.id
        );
        self.node.write_file("/etc/octavia/amphora-agent.conf", base, 0o600)
    }

    /// The machine.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// `amphora-0` and so on: the node's name and haproxy's answer.
    #[must_use]
    pub fn name(&self) -> &str {
        self.node.name()
    }

    /// Its amphora id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its AS.
    #[must_use]
    pub fn asn(&self) -> u32 {
        self.asn
    }

    /// Its address on the management network.
    #[must_use]
    pub fn management(&self, family: Family) -> IpAddr {
        MANAGEMENT.host(amphora_host(self.index)).of(family)
    }

    /// Its front-end IP: the next hop of what it announces. The lab reserves it; plugging configures it.
    #[must_use]
    pub fn frontend(&self, family: Family) -> IpAddr {
        FRONTEND.host(amphora_host(self.index)).of(family)
    }

    /// The front-end NIC's MAC.
    #[must_use]
    pub fn frontend_mac(&self) -> String {
        frontend_mac(self.index)
    }

    /// Its `amphora-haproxy` namespace, once there is one.
    pub fn haproxy_netns(&self) -> Result<Place> {
        self.node.in_netns(HAPROXY_NETNS)
    }

    /// The sections of an active-active amphora, without peers: append [`crate::tor::Tor::peer_section`]s.
    #[must_use]
    pub fn distributor_sections(&self) -> String {
        format!(
            "[distributor]
vip_mode = anycast
announce = api
allowed_prefixes = {}, {}
allowed_nexthops = {}, {}
[bgp]
local_as = {}
speaker = unix://{}
",
            ANYCAST.v4,
            ANYCAST.v6,
            FRONTEND.v4,
            FRONTEND.v6,
            self.asn,
            crate::speaker::SOCKET
        )
    }

    /// Writes our own sections, replacing those of an earlier call.
    pub fn write_config(&self, sections: &str) -> Result<()> {
        self.node.write_file("/etc/octavia/amphora-agent.conf.d/50-lab.conf", sections, 0o600)
    }

    /// Starts the agent with its production paths; `env` is added to its environment. Does not wait: see
    /// [`Amphora::wait_api`].
    ///
    /// # Errors
    /// [`crate::Error::Missing`] where it has not been built. `AMPHORA_AGENT` names another.
    pub fn start_agent(&self, env: &[(&str, &str)]) -> Result<Proc> {
        let program = match std::env::var_os("AMPHORA_AGENT") {
            Some(path) => PathBuf::from(path),
            None => built_program("amphora-agent")?,
        };
        self.start_program(&program, env)
    }

    /// As [`Amphora::start_agent`], another program at a path of the node.
    pub fn start_program(&self, program: &Path, env: &[(&str, &str)]) -> Result<Proc> {
        let mut agent = command([program]);
        agent.args(["--config-file", "/etc/octavia/amphora-agent.conf"]);
        agent.args(["--config-dir", "/etc/octavia/amphora-agent.conf.d"]).envs(env.iter().copied());
        let agent = self.node.spawn("agent", &mut agent)?;
        self.set_agent(agent.clone());
        Ok(agent)
    }

    /// Makes another program this amphora's agent: see [`crate::peer::Peer`].
    pub(crate) fn set_agent(&self, agent: Proc) {
        *lock(&self.agent) = Some(agent);
    }

    /// The agent's process, if it was started.
    #[must_use]
    pub fn agent(&self) -> Option<Proc> {
        lock(&self.agent).clone()
    }

    /// Kills the agent with SIGKILL.
    pub fn kill_agent(&self) -> Result<()> {
        self.agent().map_or(Ok(()), |agent| agent.kill_and_wait().map(drop))
    }

    /// Stops the agent with SIGTERM, and waits for it up to 10 seconds.
    pub fn stop_agent(&self) -> Result<()> {
        let Some(agent) = self.agent() else { return Ok(()) };
        agent.kill(Signal::SIGTERM)?;
        agent.wait(Duration::from_secs(10)).map(drop)
    }

    /// The controller's client of this agent.
    pub fn api(&self) -> Result<Api> {
        self.api_as(self.pki.client(Some(self.pki.controller()))?)
    }

    /// A client with a TLS configuration of the caller's.
    pub fn api_as(&self, tls: Arc<ClientConfig>) -> Result<Api> {
        let to = SocketAddr::new(self.management(Family::V4), API_PORT);
        Api::new(self.controller.clone(), to, &self.id, tls)
    }

    /// Waits until the agent answers, and returns a client with how long it took.
    pub fn wait_api(&self, within: Duration) -> Result<(Api, Duration)> {
        let mut api = self.api()?;
        let ((), took) = wait_for(&format!("{}'s agent answers", self.name()), within, || {
            if self.agent().is_some_and(|agent| !agent.is_running()) {
                return Err("the agent has ended".to_owned());
            }
            match api.get("/") {
                Ok(reply) if reply.status == 200 => Ok(()),
                Ok(reply) => Err(format!("{} {}", reply.status, reply.text())),
                Err(error) => Err(chain(&error)),
            }
        })?;
        Ok((api, took))
    }

    /// A plug call's body for a dual-stack VIP: the IPv4 one is in the path, the IPv6 one rides along, and each has a
    /// front-end IP. The front-end gateway is ToR 0.
    #[must_use]
    pub fn plug_body(&self, vip: Dual) -> Value {
        let gateway = FRONTEND.host(tor_host(0));
        let frontend = |family| {
            json!({
                "ip_address": self.frontend(family),
                "subnet_cidr": FRONTEND.of(family),
                "gateway": gateway.of(family),
            })
        };
        json!({
            "subnet_cidr": FRONTEND.v4,
            "gateway": gateway.v4,
            "mac_address": self.frontend_mac(),
            "vrrp_ip": self.frontend(Family::V4),
            "mtu": 1500,
            "host_routes": [],
            "additional_vips": [{
                "ip_address": vip.v6,
                "subnet_cidr": FRONTEND.v6,
                "gateway": gateway.v6,
                "host_routes": [],
            }],
            "frontend_ips": [frontend(Family::V4), frontend(Family::V6)],
        })
    }

    /// Starts a real haproxy in `amphora-haproxy` that answers on `vips` with this amphora's name, and waits for it.
    pub fn start_haproxy(&self, vips: &[IpAddr], port: u16) -> Result<Proc> {
        let mut text = "global\n  maxconn 2000\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 10s\n  \
                        timeout server 10s\nfrontend vip\n"
            .to_owned();
        for vip in vips {
            let _ = writeln!(text, "  bind {}", SocketAddr::new(*vip, port));
        }
        let name = self.name();
        let _ = writeln!(text, "  http-request return status 200 content-type text/plain string {name}");
        self.node.write_file("/etc/haproxy/lab.cfg", text, 0o644)?;
        let place = self.haproxy_netns()?;
        let haproxy = place.spawn("haproxy", &mut command(["haproxy", "-db", "-f", "/etc/haproxy/lab.cfg"]))?;
        wait_for(&format!("{name}'s haproxy listens"), Duration::from_secs(10), || {
            if !haproxy.is_running() {
                return Err("it ended".to_owned());
            }
            let filter = format!("sport = :{port}");
            let listeners = place.run(["ss", "-Hltn", &filter]).map_err(|error| error.to_string())?;
            if listeners.lines().count() >= vips.len() { Ok(()) } else { Err(listeners) }
        })?;
        Ok(haproxy)
    }

    /// The ids, inside the node, of its processes of that name.
    pub fn pids(&self, program: &str) -> Result<Vec<u32>> {
        self.node.within(|| {
            let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
            let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
            // `1 (name) S ...`: proc_pid_stat(5). One that has ended and is not reaped yet does not count.
            let named = |pid: &u32| {
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                let name = stat.split_once('(').zip(stat.rsplit_once(") "));
                name.is_some_and(|((_, name), (_, state))| {
                    name.starts_with(&format!("{program}) ")) && !state.starts_with('Z')
                })
            };
            pids.filter(named).collect()
        })
    }

    /// Kills every process of that name in the node, and returns how many there were. Processes of the agent's making
    /// are known to the lab only by name.
    pub fn kill_program(&self, program: &str, signal: Signal) -> Result<usize> {
        let pids = self.pids(program)?;
        for pid in &pids {
            let number = signal as i32;
            // haproxy's worker may have followed its master.
            self.node.run(["sh", "-c", &format!("kill -{number} {pid} || [ ! -e /proc/{pid} ]")])?;
        }
        Ok(pids.len())
    }

    /// The management NIC's port on its segment's switch.
    #[must_use]
    pub fn management_port(&self) -> &str {
        &self.ports[0]
    }

    /// The front-end NIC's port on its segment's switch.
    #[must_use]
    pub fn frontend_port(&self) -> &str {
        &self.ports[1]
    }
}

/// Amphora `index`'s front-end MAC.
pub(crate) fn frontend_mac(index: usize) -> String {
    format!("fa:16:3e:00:00:{:02x}", amphora_host(index))
}
