//! What the stock controller asks of a `SINGLE` amphora, and with `PEER=1` the same of Octavia's own Python agent beside
//! it, in an amphora of its own.

mod calls;
mod idle;
mod load;

use std::{fs, net::SocketAddr, sync::Arc};

use lab::{
    Amphora, Fabric, Family, Options, Peer, TorKind,
    addresses::{CONTROLLER_HOST, FRONTEND, MANAGEMENT, amphora_host},
    amphora::API_PORT,
    heartbeats::{self, KEY, Receiver},
};
use rustls::pki_types::ServerName;

use crate::{
    Result,
    client::{Connection, Server},
    report::Reports,
    with_peer,
};

const LB: &str = "6f4b2f0e-4a4e-4c1b-9f0a-0d3b7a1c2d3e";
/// Seconds.
const HEARTBEATS: u32 = 3;

/// The amphorae: ours, and with `PEER=1` the Python agent's.
struct Stock {
    fabric: Fabric,
    _peer: Option<Peer>,
    /// Gets the heartbeats of both.
    _manager: Receiver,
}

/// Everything in this part.
pub(crate) fn stock(reports: &mut Reports) -> Result<()> {
    let stock = Stock::new()?;
    calls::plug_vip(&stock, &mut reports.peer)?;
    calls::start_listener(&stock, reports)?;
    load::details(&stock, reports)?;
    load::sixteen_clients(&stock, reports)?;
    idle::beside_the_peer(&stock, &mut reports.peer)?;
    calls::plug_network(&stock, &mut reports.peer)?;
    load::large_body(&stock, reports)
}

impl Stock {
    fn new() -> Result<Self> {
        let mut options = Options::new(TorKind::Bird);
        options.amphorae = if with_peer() { 2 } else { 1 };
        options.state_on_disk = true;
        let fabric = Fabric::new("bench-stock", &options)?;
        let manager = Receiver::new(&fabric.controller, "0.0.0.0:0".parse()?)?;
        let target = format!("{}:{}", MANAGEMENT.host(CONTROLLER_HOST).v4, manager.address()?.port());
        for amphora in &fabric.amphorae {
            let node = amphora.node();
            let path = "/etc/octavia/amphora-agent.conf";
            let text = node.read_file(path)?.replace("ACTIVE_STANDBY", "SINGLE");
            node.write_file(path, text, 0o600)?;
            node.run(["mkdir", "-p", "/etc/octavia/amphora-agent.conf.d"])?;
            lab::peer::write_user_group(amphora)?;
            heartbeats::configure(amphora, std::slice::from_ref(&target), HEARTBEATS, KEY)?;
        }
        let peer = fabric.amphorae.get(1).map(Peer::start).transpose()?;
        fabric.amphorae[0].start_agent(&[])?;
        for amphora in &fabric.amphorae {
            amphora.wait_api(std::time::Duration::from_mins(1))?;
        }
        Ok(Self { fabric, _peer: peer, _manager: manager })
    }

    fn ours(&self) -> &Amphora {
        &self.fabric.amphorae[0]
    }

    fn peer(&self) -> Option<&Amphora> {
        self.fabric.amphorae.get(1)
    }

    fn server(&self, amphora: &Amphora, address: Option<SocketAddr>) -> Result<Server> {
        let pki = Arc::clone(&self.fabric.pki);
        let address = address.unwrap_or(SocketAddr::new(amphora.management(Family::V4), API_PORT));
        let tls = pki.client(Some(pki.controller()))?;
        Ok(Server { address, name: ServerName::try_from(amphora.id().to_owned())?, tls })
    }

    /// Runs `f` on a thread in the controller's network.
    fn as_controller<T: Send>(&self, f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.fabric.controller.within(f)?
    }

    /// One request on a connection of its own, and its answer.
    fn call(&self, amphora: &Amphora, request: &[u8]) -> Result<Vec<u8>> {
        let server = self.server(amphora, None)?;
        self.as_controller(|| Ok(Connection::open(&server)?.exchange(request)?.to_vec()))
    }

    /// The VIP of that amphora, on its front-end network.
    fn vip(&self, amphora: &Amphora) -> std::net::IpAddr {
        let index = self.fabric.amphorae.iter().position(|a| a.id() == amphora.id()).expect("one of them");
        FRONTEND.host(60 + amphora_host(index)).v4.into()
    }
}

/// The processes of an amphora, as this program sees their ids, but for those that are not the agent's own: the agent, its
/// watcher, its proxy for metrics. By their node, for the Python agent's change their names.
fn processes(amphora: &Amphora) -> Result<Vec<u32>> {
    const OTHERS: [&str; 3] = ["lab-init", "haproxy", "curl"];
    let node = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let here = node(amphora.node().pid());
    let all = fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let of_agent = |pid: &u32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        node(*pid) == here && !OTHERS.contains(&name.trim())
    };
    Ok(all.filter(of_agent).collect())
}

/// A line of a file of each of these processes in `/proc` together, in MiB.
fn memory(amphora: &Amphora, file: &str, key: &str) -> Result<f64> {
    let mut sum = 0.0;
    for pid in processes(amphora)? {
        let text = fs::read_to_string(format!("/proc/{pid}/{file}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix(key)).ok_or("no such line in /proc")?;
        sum += line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0;
    }
    Ok(sum)
}
