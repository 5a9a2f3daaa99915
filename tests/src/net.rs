//! Wires: veth pairs between nodes, and segments, each a node that is a switch.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use ipnet::IpNet;

use crate::error::Result;
use crate::node::Node;
use crate::workdir::Workdir;

/// Wires two nodes together. Both ends are made inside, never among this machine's links, and come up only when they get
/// an address (see [`up`]).
pub fn wire(a: &Node, a_nic: &str, b: &Node, b_nic: &str) -> Result<()> {
    a.ip(&format!("link add {a_nic} type veth peer name {b_nic} netns {}", b.pid()))
}

/// Brings a NIC up with addresses. IPv6 ones are usable at once (no duplicate address detection).
pub fn up(node: &Node, nic: &str, addresses: &[IpNet]) -> Result<()> {
    node.sysctl(&format!("net/ipv6/conf/{nic}/accept_ra"), "0")?;
    node.sysctl(&format!("net/ipv6/conf/{nic}/accept_dad"), "0")?;
    let mut batch = format!("link set {nic} up\n");
    for address in addresses {
        let flag = if address.addr().is_ipv6() { " nodad" } else { "" };
        batch += &format!("addr add {address} dev {nic}{flag}\n");
    }
    node.ip(&batch)
}

/// Adds a route with one or more next hops.
pub fn route(node: &Node, to: IpNet, via: &[IpAddr]) -> Result<()> {
    let keyword = if via.len() > 1 { "nexthop via" } else { "via" };
    let hops: String = via.iter().map(|hop| format!(" {keyword} {hop}")).collect();
    node.ip(&format!("route add {to}{hops}"))
}

/// An Ethernet segment: a node with nothing but a bridge. It has no address, no spanning tree (no forwarding delay) and
/// no multicast snooping (neighbour discovery reaches everybody).
#[derive(Debug)]
pub struct Segment {
    switch: Node,
    ports: AtomicU32,
}

impl Segment {
    /// Makes a segment.
    pub fn new(workdir: &Workdir, name: &str) -> Result<Self> {
        let switch = Node::new(workdir, name)?;
        switch.sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
        switch.ip("link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0\nlink set br0 up")?;
        Ok(Self { switch, ports: AtomicU32::new(0) })
    }

    /// Gives `node` a NIC on this segment, down and without address, and returns the switch's port.
    pub fn plug(&self, node: &Node, nic: &str, mac: Option<&str>) -> Result<String> {
        let port = format!("port{}", self.ports.fetch_add(1, Ordering::Relaxed));
        let mac = mac.map(|mac| format!(" address {mac}")).unwrap_or_default();
        self.switch.ip(&format!(
            "link add {port} type veth peer name {nic}{mac} netns {}\nlink set {port} master br0 up",
            node.pid()
        ))?;
        Ok(port)
    }

    /// Cuts (or mends) the wire at a port: both ends lose carrier, nobody gets a message.
    pub fn set_port(&self, port: &str, connected: bool) -> Result<()> {
        self.switch.ip(&format!("link set {port} {}", if connected { "up" } else { "down" }))
    }

    /// Makes a port swallow every frame while both ends keep their carrier: the silent failure.
    pub fn isolate_port(&self, port: &str) -> Result<()> {
        self.switch.ip(&format!("link set {port} nomaster"))
    }

    /// Ends that.
    pub fn join_port(&self, port: &str) -> Result<()> {
        self.switch.ip(&format!("link set {port} master br0"))
    }

    /// The switch, to capture on.
    #[must_use]
    pub fn switch(&self) -> &Node {
        &self.switch
    }
}
