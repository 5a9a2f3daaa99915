//! A top-of-rack router: a real FRR or BIRD that amphorae peer with, and what it makes of their announcements.

pub mod bird;
pub mod frr;
pub mod path;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::addresses::{Dual, FRONTEND, Family, MANAGEMENT, PEERING, amphora_host, tor_host};
use crate::error::Result;
use crate::node::Node;
use crate::process::Proc;
use crate::routes::{RouteWatch, next_hops};
use crate::wait::wait_for;
pub use path::Path;

/// The routing daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TorKind {
    /// FRR's zebra and bgpd.
    Frr,
    /// BIRD 2.
    Bird,
}

/// Who opens the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbours {
    /// The ToR takes whoever calls from the management network: it never dials.
    Range,
    /// The ToR knows every amphora's management address of this family, and dials as well as listens.
    Each(Family),
}

/// How a ToR is set up.
#[derive(Clone, Debug)]
pub struct TorOptions {
    /// The daemon.
    pub kind: TorKind,
    /// Its AS; the amphorae's own for iBGP.
    pub asn: u32,
    /// Who dials.
    pub neighbours: Neighbours,
    /// The TCP MD5 password it demands (RFC 2385).
    pub password: Option<String>,
    /// GTSM (RFC 5082): how many hops away an amphora may be.
    pub ttl_hops: Option<u8>,
    /// Whether it filters as it should: in, only /32 and /128 inside the anycast networks; out, nothing. Without, it
    /// takes everything, and tells everything including its connected networks.
    pub filters: bool,
    /// Whether it watches the amphorae by BFD: a packet every 300 ms either way, gone after three.
    pub bfd: bool,
}

impl TorOptions {
    /// One hop, eBGP from AS 64500, dialled by the amphorae, no password, filtered.
    #[must_use]
    pub fn new(kind: TorKind) -> Self {
        Self {
            kind,
            asn: 64500,
            neighbours: Neighbours::Range,
            password: None,
            ttl_hops: None,
            filters: true,
            bfd: false,
        }
    }
}

/// What a daemon's configuration is made of.
#[derive(Debug)]
pub(crate) struct Config<'a> {
    options: &'a TorOptions,
    router_id: std::net::Ipv4Addr,
    amphora_as: u32,
    multihop: bool,
    /// The amphorae's management addresses, when the ToR is to know them.
    neighbours: Vec<IpAddr>,
}

impl Config<'_> {
    fn is_external(&self) -> bool {
        self.options.asn != self.amphora_as
    }
}

/// A ToR of the fabric.
#[derive(Debug)]
pub struct Tor {
    node: Node,
    index: usize,
    options: TorOptions,
    multihop: bool,
    peering_port: String,
    daemons: Vec<Proc>,
}

impl Tor {
    pub(crate) fn new(node: Node, index: usize, options: TorOptions, multihop: bool, peering_port: String) -> Self {
        Self { node, index, options, multihop, peering_port, daemons: Vec::new() }
    }

    /// Starts the daemons, also once more after they have ended, and waits until they answer.
    pub fn start(&mut self, amphora_as: u32, amphorae: usize) -> Result<()> {
        let neighbours = match self.options.neighbours {
            Neighbours::Range => Vec::new(),
            Neighbours::Each(family) => (0..amphorae).map(|i| MANAGEMENT.host(amphora_host(i)).of(family)).collect(),
        };
        let router_id = self.peering().v4;
        let config = Config { options: &self.options, router_id, amphora_as, multihop: self.multihop, neighbours };
        self.daemons = match self.options.kind {
            TorKind::Frr => frr::start(&self.node, &config)?,
            TorKind::Bird => bird::start(&self.node, &config)?,
        };
        Ok(())
    }

    /// The machine.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Its name, which is also the `peer_id` amphorae know it by: `tor-0` and so on.
    #[must_use]
    pub fn name(&self) -> &str {
        self.node.name()
    }

    /// How it is set up.
    #[must_use]
    pub fn options(&self) -> &TorOptions {
        &self.options
    }

    /// Whether a router lies between it and the amphorae's management network.
    #[must_use]
    pub fn is_multihop(&self) -> bool {
        self.multihop
    }

    /// The port of the NIC where it speaks BGP, on that segment's switch.
    #[must_use]
    pub fn peering_port(&self) -> &str {
        &self.peering_port
    }

    /// The daemons: zebra and bgpd (and bfdd), or bird.
    #[must_use]
    pub fn daemons(&self) -> &[Proc] {
        &self.daemons
    }

    /// The address amphorae peer with.
    #[must_use]
    pub fn peering_address(&self, family: Family) -> IpAddr {
        self.peering().of(family)
    }

    /// Its address on the front-end network.
    #[must_use]
    pub fn frontend(&self, family: Family) -> IpAddr {
        FRONTEND.host(tor_host(self.index)).of(family)
    }

    fn peering(&self) -> Dual {
        let network = if self.multihop { PEERING } else { MANAGEMENT };
        network.host(tor_host(self.index))
    }

    /// The agent's `[bgp_peer:...]` section for this ToR, over a session of that family. `ttl_hops` and the password are
    /// the ToR's own, so that the two agree.
    #[must_use]
    pub fn peer_section(&self, family: Family) -> String {
        let mut text = format!(
            "[bgp_peer:{}]\npeer_ip = {}\nremote_as = {}\n",
            self.name(),
            self.peering_address(family),
            self.options.asn
        );
        if let Some(password) = &self.options.password {
            text += &format!("auth_type = md5\nauth_password = {password}\n");
        }
        match self.options.ttl_hops {
            Some(hops) => text += &format!("ttl_hops = {hops}\n"),
            None if self.multihop => text += "ebgp_multihop = 4\n",
            None => {}
        }
        text
    }

    /// Asks the daemon: `vtysh -c`, or `birdc`.
    pub fn ask(&self, question: &str) -> Result<String> {
        match self.options.kind {
            TorKind::Frr => self.node.run(["env", "HOME=/run", "vtysh", "-c", question]),
            TorKind::Bird => self.node.run(["birdc", question]),
        }
    }

    /// The daemon's name and version, in its own words.
    pub fn version(&self) -> Result<String> {
        let said = self.ask(match self.options.kind {
            TorKind::Frr => "show version",
            TorKind::Bird => "show status",
        })?;
        Ok(said.lines().next().unwrap_or_default().to_owned())
    }

    /// The BGP neighbours it has a session with.
    pub fn established(&self) -> Result<Vec<IpAddr>> {
        match self.options.kind {
            TorKind::Frr => frr::established(&self.ask("show bgp summary json")?),
            TorKind::Bird => Ok(bird::established(&self.ask("show protocols all")?)),
        }
    }

    /// Waits for a session with `peer`, and returns how long that took.
    pub fn wait_established(&self, peer: IpAddr, within: Duration) -> Result<Duration> {
        wait_for(&format!("{} has a session with {peer}", self.name()), within, || match self.established() {
            Ok(peers) if peers.contains(&peer) => Ok(()),
            Ok(peers) => Err(format!("sessions with {peers:?}")),
            Err(error) => Err(error.to_string()),
        })
        .map(|((), took)| took)
    }

    /// Whether its BGP table has exactly this prefix from a neighbour, used or not. With [`TorOptions::filters`] off this
    /// shows whatever an amphora lets through.
    pub fn has_learned(&self, prefix: IpNet) -> Result<bool> {
        match self.options.kind {
            TorKind::Frr => {
                let family = if prefix.addr().is_ipv6() { "ipv6" } else { "ipv4" };
                frr::has_learned(&self.ask(&format!("show bgp {family} unicast {prefix} json"))?)
            }
            TorKind::Bird => {
                // Asked for one prefix, birdc ends with an error where there is none.
                let table = if prefix.addr().is_ipv6() { "master6" } else { "master4" };
                let routes = self.ask(&format!("show route table {table} where source = RTS_BGP"))?;
                Ok(routes.lines().any(|line| line.starts_with(&format!("{prefix} "))))
            }
        }
    }

    /// The paths its neighbours announced `prefix` with, used or not, by next hop; none where there is no route.
    pub fn paths(&self, prefix: IpNet) -> Result<BTreeMap<IpAddr, Path>> {
        match self.options.kind {
            TorKind::Frr => {
                let family = if prefix.addr().is_ipv6() { "ipv6" } else { "ipv4" };
                path::of_frr(&self.ask(&format!("show bgp {family} unicast {prefix} json"))?)
            }
            // Asked for a prefix it has no route to, birdc ends with an error.
            TorKind::Bird if !self.has_learned(prefix)? => Ok(BTreeMap::new()),
            TorKind::Bird => path::of_bird(&self.ask(&format!("show route {prefix} all"))?),
        }
    }

    /// The next hops of exactly `prefix` in the kernel's routing table, sorted; none where there is no route.
    pub fn kernel_routes(&self, prefix: IpNet) -> Result<Vec<IpAddr>> {
        next_hops(&self.node, prefix)
    }

    /// Waits until the kernel has exactly these next hops for `prefix`, and returns how long that took.
    pub fn wait_next_hops(&self, prefix: IpNet, want: &[IpAddr], within: Duration) -> Result<Duration> {
        let mut want = want.to_vec();
        want.sort();
        let what = format!("{} routes {prefix} to {want:?}", self.name());
        let look = || match self.kernel_routes(prefix) {
            Ok(have) if have == want => Ok(()),
            Ok(have) => Err(format!("{have:?}")),
            Err(error) => Err(error.to_string()),
        };
        wait_for(&what, within, look).map(|((), took)| took)
    }

    /// Follows the kernel's routing table from now on.
    pub fn watch_routes(&self) -> Result<RouteWatch> {
        RouteWatch::start(&self.node)
    }
}
