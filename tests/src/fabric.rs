//! The whole fabric: a client, a router, ToRs, a controller and amphorae, wired as [`crate::addresses`] draws it.

use std::sync::Arc;

use crate::addresses::{
    ANYCAST, CLIENT, CONTROLLER_HOST, FRONTEND, Family, MANAGEMENT, PEERING, PEERING_ROUTER_HOST, amphora_host,
    tor_host, transit,
};
use crate::amphora::{Amphora, FRONTEND_NIC, MANAGEMENT_NIC, frontend_mac};
use crate::error::Result;
use crate::net::{Segment, route, up, wire};
use crate::node::Node;
use crate::pki::Pki;
use crate::speaker::Gobgpd;
use crate::tor::{Tor, TorKind, TorOptions};
use crate::workdir::Workdir;

/// The NICs' names on routers and ToRs.
const TRANSIT_NIC: &str = "transit";
/// A ToR's NIC on the front-end network.
pub const TOR_FRONTEND_NIC: &str = "frontend";
/// A ToR's NIC on the network where it speaks BGP.
pub const TOR_PEERING_NIC: &str = "peering";

/// What to build.
#[derive(Clone, Debug)]
pub struct Options {
    /// The ToRs, at least one. The first is the amphorae's front-end gateway.
    pub tors: Vec<TorOptions>,
    /// How many amphorae.
    pub amphorae: usize,
    /// Their AS.
    pub amphora_as: u32,
    /// Whether a router lies between the ToRs and the management network.
    pub multihop: bool,
    /// The amphorae's gobgpd.
    pub gobgpd: Gobgpd,
    /// Whether `/var/lib/octavia` is on this machine's disk rather than in memory: for what measures fsync.
    pub state_on_disk: bool,
}

impl Options {
    /// One ToR of that kind, three amphorae of AS 64512, one hop, the installed gobgpd.
    #[must_use]
    pub fn new(tor: TorKind) -> Self {
        Self {
            tors: vec![TorOptions::new(tor)],
            amphorae: 3,
            amphora_as: 64512,
            multihop: false,
            gobgpd: Gobgpd::Installed,
            state_on_disk: false,
        }
    }
}

/// A running fabric. Dropping it ends every process in it.
#[derive(Debug)]
pub struct Fabric {
    /// Several hops away from every amphora.
    pub client: Node,
    /// Between client and ToRs; it spreads over the ToRs.
    pub router: Node,
    /// The ToRs.
    pub tors: Vec<Tor>,
    /// The amphorae.
    pub amphorae: Vec<Amphora>,
    /// On the management network, where the controller would be.
    pub controller: Node,
    /// Where the front-end NICs are.
    pub frontend: Segment,
    /// The management network.
    pub management: Segment,
    /// Where the ToRs speak BGP in a multihop fabric, and the router in between.
    pub peering: Option<(Segment, Node)>,
    /// The certificates.
    pub pki: Arc<Pki>,
    /// The lab's directory.
    pub workdir: Workdir,
}

impl Fabric {
    /// Builds the fabric and starts the ToRs. `name` is for the logs' directory. Agents are started by the caller.
    pub fn new(name: &str, options: &Options) -> Result<Self> {
        let workdir = Workdir::new(name)?;
        let pki = Arc::new(Pki::new()?);
        let frontend = Segment::new(&workdir, "net-frontend")?;
        let management = Segment::new(&workdir, "net-management")?;
        let peering = if options.multihop { Some(peering(&workdir, &management)?) } else { None };
        let client = Node::new(&workdir, "client")?;
        let router = Node::new(&workdir, "router")?;
        router.forward()?;
        wire(&client, "eth0", &router, "clients")?;
        up(&router, "clients", &CLIENT.on_nic(1))?;
        up(&client, "eth0", &CLIENT.on_nic(2))?;
        for (default, family) in [("0.0.0.0/0", Family::V4), ("::/0", Family::V6)] {
            route(&client, default.parse().expect("a prefix"), &[CLIENT.host(1).of(family)])?;
        }
        let controller = Node::new(&workdir, "controller")?;
        management.plug(&controller, "eth0", None)?;
        up(&controller, "eth0", &MANAGEMENT.on_nic(CONTROLLER_HOST))?;

        let mut fabric = Self {
            client,
            router,
            tors: Vec::new(),
            amphorae: Vec::new(),
            controller,
            frontend,
            management,
            peering,
            pki,
            workdir,
        };
        for (index, tor) in options.tors.iter().enumerate() {
            fabric.add_tor(index, tor, options)?;
        }
        for family in [Family::V4, Family::V6] {
            let tors: Vec<_> = (0..options.tors.len()).map(|index| transit(index).host(2).of(family)).collect();
            route(&fabric.router, ANYCAST.of(family), &tors)?;
            route(&fabric.router, FRONTEND.of(family), &tors)?;
        }
        for index in 0..options.amphorae {
            fabric.add_amphora(index, options)?;
        }
        Ok(fabric)
    }

    /// Writes each amphora's configuration: an active-active amphora that peers with every ToR over that family.
    pub fn write_configs(&self, session: Family) -> Result<()> {
        let peers: String = self.tors.iter().map(|tor| tor.peer_section(session)).collect();
        self.amphorae.iter().try_for_each(|amphora| amphora.write_config(&(amphora.distributor_sections() + &peers)))
    }

    fn add_tor(&mut self, index: usize, tor: &TorOptions, options: &Options) -> Result<()> {
        let node = Node::new(&self.workdir, &format!("tor-{index}"))?;
        node.forward()?;
        let to_tor = format!("tor{index}");
        wire(&self.router, &to_tor, &node, TRANSIT_NIC)?;
        up(&self.router, &to_tor, &transit(index).on_nic(1))?;
        up(&node, TRANSIT_NIC, &transit(index).on_nic(2))?;
        self.frontend.plug(&node, TOR_FRONTEND_NIC, None)?;
        up(&node, TOR_FRONTEND_NIC, &FRONTEND.on_nic(tor_host(index)))?;
        let (segment, network) = match &self.peering {
            Some((segment, _)) => (segment, PEERING),
            None => (&self.management, MANAGEMENT),
        };
        let port = segment.plug(&node, TOR_PEERING_NIC, None)?;
        up(&node, TOR_PEERING_NIC, &network.on_nic(tor_host(index)))?;
        for family in [Family::V4, Family::V6] {
            route(&node, CLIENT.of(family), &[transit(index).host(1).of(family)])?;
            if options.multihop {
                route(&node, MANAGEMENT.of(family), &[PEERING.host(PEERING_ROUTER_HOST).of(family)])?;
            }
        }
        let mut tor = Tor::new(node, index, tor.clone(), options.multihop, port);
        tor.start(options.amphora_as, options.amphorae)?;
        self.tors.push(tor);
        Ok(())
    }

    fn add_amphora(&mut self, index: usize, options: &Options) -> Result<()> {
        let node = Node::new(&self.workdir, &format!("amphora-{index}"))?;
        let management = self.management.plug(&node, MANAGEMENT_NIC, None)?;
        up(&node, MANAGEMENT_NIC, &MANAGEMENT.on_nic(amphora_host(index)))?;
        if options.multihop {
            for family in [Family::V4, Family::V6] {
                route(&node, PEERING.of(family), &[MANAGEMENT.host(PEERING_ROUTER_HOST).of(family)])?;
            }
        }
        // As Nova leaves it: there, down, with nothing on it. The agent finds it by MAC.
        let frontend = self.frontend.plug(&node, FRONTEND_NIC, Some(&frontend_mac(index)))?;
        let ports = [management, frontend];
        let (controller, pki) = ((*self.controller).clone(), Arc::clone(&self.pki));
        let amphora = Amphora::new(node, index, options.amphora_as, controller, pki, ports);
        amphora.prepare(options.gobgpd, options.state_on_disk.then_some(&self.workdir))?;
        self.amphorae.push(amphora);
        Ok(())
    }
}

fn peering(workdir: &Workdir, management: &Segment) -> Result<(Segment, Node)> {
    let segment = Segment::new(workdir, "net-peering")?;
    let node = Node::new(workdir, "peering-router")?;
    node.forward()?;
    segment.plug(&node, "tors", None)?;
    up(&node, "tors", &PEERING.on_nic(PEERING_ROUTER_HOST))?;
    management.plug(&node, "amphorae", None)?;
    up(&node, "amphorae", &MANAGEMENT.on_nic(PEERING_ROUTER_HOST))?;
    Ok((segment, node))
}
