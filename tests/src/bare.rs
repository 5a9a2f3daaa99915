//! An amphora without an agent: a bare gobgpd announces a VIP that was bound by hand. For the lab's own tests, and as the
//! floor that benches measure the agent against.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use ipnet::IpNet;

use crate::addresses::{Dual, FRONTEND, Family, tor_host};
use crate::amphora::{Amphora, FRONTEND_NIC, HAPROXY_NETNS};
use crate::error::{Result, io};
use crate::fabric::{Fabric, Options};
use crate::place::command;
use crate::process::Proc;
use crate::speaker::{SOCKET, gobgp};
use crate::tor::Tor;
use crate::wait::wait_for;

/// How long sessions may take: gobgpd 3.10 dials for the first time after 5-9 s.
pub const SESSION_TIME: Duration = Duration::from_secs(20);
/// How long a route may take from announcement to kernel.
pub const ROUTE_TIME: Duration = Duration::from_secs(5);

/// A neighbour of a bare gobgpd.
#[derive(Clone, Debug)]
pub struct Neighbour {
    /// The ToR's address.
    pub address: IpAddr,
    /// The ToR's AS.
    pub asn: u32,
    /// TCP MD5.
    pub password: Option<String>,
    /// GTSM: the least TTL accepted; 255 for one hop.
    pub ttl_min: Option<u8>,
    /// eBGP over several hops.
    pub multihop: bool,
}

impl Neighbour {
    /// A ToR as an amphora would configure it, agreeing with it in everything.
    #[must_use]
    pub fn of(tor: &Tor, session: Family) -> Self {
        Self {
            address: tor.peering_address(session),
            asn: tor.options().asn,
            password: tor.options().password.clone(),
            ttl_min: tor.options().ttl_hops.map(|hops| u8::MAX - hops + 1),
            multihop: tor.is_multihop(),
        }
    }
}

/// Builds a fabric whose amphorae all serve and announce `vip` without an agent, and waits for every route.
pub fn fabric(name: &str, options: &Options, session: Family, vip: Dual) -> Result<Fabric> {
    let fabric = Fabric::new(name, options)?;
    for amphora in &fabric.amphorae {
        plug(amphora, vip)?;
        fabric.tors.iter().try_for_each(|tor| meet(amphora, tor))?;
        amphora.start_haproxy(&[vip.v4.into(), vip.v6.into()], 80)?;
        let neighbours: Vec<_> = fabric.tors.iter().map(|tor| Neighbour::of(tor, session)).collect();
        start_speaker(amphora, &neighbours)?;
        announce(amphora, vip)?;
    }
    for tor in &fabric.tors {
        for amphora in &fabric.amphorae {
            tor.wait_established(amphora.management(session), SESSION_TIME)?;
        }
        for family in [Family::V4, Family::V6] {
            let hops: Vec<IpAddr> = fabric.amphorae.iter().map(|amphora| amphora.frontend(family)).collect();
            tor.wait_next_hops(IpNet::from(vip.of(family)), &hops, ROUTE_TIME)?;
        }
    }
    Ok(fabric)
}

/// Does by hand what plugging does: the NIC into the namespace, the VIP on `lo`, replies through the gateway.
pub fn plug(amphora: &Amphora, vip: Dual) -> Result<()> {
    let node = amphora.node();
    node.run(["ip", "netns", "add", HAPROXY_NETNS])?;
    node.run(["ip", "link", "set", FRONTEND_NIC, "netns", HAPROXY_NETNS, "name", "eth1"])?;
    let inside = amphora.haproxy_netns()?;
    // While the NIC's link-local address is tentative the kernel sends no neighbour solicitation for replies from an
    // address of another interface (ndisc_solicit, net/ipv6/ndisc.c): the first IPv6 answers would wait for a second.
    inside.sysctl("net/ipv6/conf/eth1/accept_dad", "0")?;
    let gateway = FRONTEND.host(tor_host(0));
    inside.ip(&format!(
        "link set lo up
link set eth1 up
addr add {}/{} dev eth1
addr add {}/{} dev eth1 nodad
addr add {}/32 dev lo
addr add {}/128 dev lo nodad
route add 0.0.0.0/0 via {}
route add ::/0 via {}",
        amphora.frontend(Family::V4),
        FRONTEND.v4.prefix_len(),
        amphora.frontend(Family::V6),
        FRONTEND.v6.prefix_len(),
        vip.v4,
        vip.v6,
        gateway.v4,
        gateway.v6
    ))
}

/// Resolves a ToR, which makes the ToR know the amphora too. A Linux router that does not yet moves flows about
/// meanwhile: nexthop_select_path (net/ipv4/nexthop.c) passes over a next hop whose neighbour is incomplete, so that a SYN
/// and the ACK after it may reach different amphorae, and the second answers with a reset.
pub fn meet(amphora: &Amphora, tor: &Tor) -> Result<()> {
    let inside = amphora.haproxy_netns()?;
    for family in [Family::V4, Family::V6] {
        let discard = SocketAddr::new(tor.frontend(family), 9);
        let own = SocketAddr::new(amphora.frontend(family), 0);
        inside
            .within(|| UdpSocket::bind(own)?.send_to(b"hello", discard))?
            .map_err(io(format!("{}: send to the ToR", inside.name())))?;
        wait_for("the ToR is known", ROUTE_TIME, || {
            let neighbour = inside.run(["ip", "neigh", "show", "to", &discard.ip().to_string()]);
            match neighbour.map_err(|error| error.to_string())? {
                neighbour if neighbour.contains("REACHABLE") => Ok(()),
                neighbour => Err(neighbour),
            }
        })?;
    }
    Ok(())
}

/// Announces the VIP with the front-end IPs as next hops.
pub fn announce(amphora: &Amphora, vip: Dual) -> Result<()> {
    for (family, name) in [(Family::V4, "ipv4"), (Family::V6, "ipv6")] {
        let (prefix, hop) = (IpNet::from(vip.of(family)).to_string(), amphora.frontend(family).to_string());
        gobgp(amphora.node(), &["global", "rib", "add", "-a", name, &prefix, "nexthop", &hop])?;
    }
    Ok(())
}

/// Withdraws what [`announce`] announced in one family.
pub fn withdraw(amphora: &Amphora, vip: IpAddr) -> Result<()> {
    let name = if vip.is_ipv4() { "ipv4" } else { "ipv6" };
    gobgp(amphora.node(), &["global", "rib", "del", "-a", name, &IpNet::from(vip).to_string()]).map(drop)
}

/// Starts a gobgpd, and waits until it answers [`gobgp`].
pub fn start_speaker(amphora: &Amphora, neighbours: &[Neighbour]) -> Result<Proc> {
    let node = amphora.node();
    node.write_file("/etc/gobgpd-bare.toml", speaker_config(amphora, neighbours), 0o600)?;
    node.run(["mkdir", "-p", "-m", "0700", "/run/gobgpd"])?;
    node.run(["rm", "-f", SOCKET])?; // gobgpd refuses to start where a killed one left its socket
    let api = format!("unix://{SOCKET}");
    let argv = ["gobgpd", "--api-hosts", &api, "--pprof-disable", "-p", "-f", "/etc/gobgpd-bare.toml"];
    let gobgpd = node.spawn("gobgpd", &mut command(argv))?;
    wait_for("gobgpd answers", Duration::from_secs(10), || {
        if !gobgpd.is_running() {
            return Err("it ended".to_owned());
        }
        gobgp(node, &["global"]).map_err(|error| error.to_string())
    })?;
    Ok(gobgpd)
}

fn speaker_config(amphora: &Amphora, neighbours: &[Neighbour]) -> String {
    let router_id = amphora.management(Family::V4);
    let mut text = format!("[global.config]\nas = {}\nrouter-id = \"{router_id}\"\n", amphora.asn());
    for neighbour in neighbours {
        text += "[[neighbors]]\n[neighbors.config]\n";
        let _ = writeln!(text, "neighbor-address = \"{}\"\npeer-as = {}", neighbour.address, neighbour.asn);
        if let Some(password) = &neighbour.password {
            let _ = writeln!(text, "auth-password = \"{password}\"");
        }
        text += "[neighbors.timers.config]\nconnect-retry = 5\nhold-time = 9\nkeepalive-interval = 3\n";
        if let Some(ttl_min) = neighbour.ttl_min {
            let _ = writeln!(text, "[neighbors.ttl-security.config]\nenabled = true\nttl-min = {ttl_min}");
        } else if neighbour.multihop {
            text += "[neighbors.ebgp-multihop.config]\nenabled = true\nmultihop-ttl = 4\n";
        }
        for family in ["ipv4-unicast", "ipv6-unicast"] {
            let _ =
                writeln!(text, "[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"{family}\"");
        }
    }
    text
}
