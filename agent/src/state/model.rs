//! What an operator has asked for: plugs and registrations, and the changes that lead there.
//!
//! Only values that passed the API's checks get in, so whoever reads them need not check again.

use std::{collections::BTreeMap, net::IpAddr};

use bgp::{NextHop, PeerId, Prefix};
use ipnet::IpNet;
use netns::{IfName, Mac};
use serde::{Deserialize, Serialize};

use super::{Drain, Entry, Stage, log::OLDEST};

/// Where a VIP lives and who answers ARP and NDP for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum VipMode {
    /// On the front-end NIC; this amphora answers. Octavia's own way.
    Interface,
    /// On `lo`; nobody answers: the VIP is routed here by BGP.
    Anycast,
    /// On `lo` and never announced: the distributor in front answers.
    Noarp,
}

/// One address of a load balancer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vip {
    /// The address itself.
    pub ip: IpAddr,
    /// The subnet the controller names with it. In `interface` mode the VIP's own; in the others that of
    /// the front-end network, where no `frontend_ips` entry says otherwise.
    pub subnet: IpNet,
    /// The gateway of that subnet.
    pub gateway: Option<IpAddr>,
    /// Static routes of that subnet.
    pub host_routes: Vec<HostRoute>,
}

/// A route a tenant set on a Neutron subnet. It may be nonsense, which must not fail a plug.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HostRoute {
    /// Where to.
    pub destination: IpNet,
    /// Through whom.
    pub nexthop: IpAddr,
}

/// One address of the front-end NIC: what we announce as next hop, and how replies leave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frontend {
    /// The NIC's address (`vrrp_ip` in Octavia's words).
    pub ip: IpAddr,
    /// Its subnet, on-link.
    pub subnet: IpNet,
    /// The way to everybody else.
    pub gateway: Option<IpAddr>,
}

/// One accepted `POST /1.0/plug/vip/{vip}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plug {
    /// The front-end NIC.
    pub mac: Mac,
    /// Its name inside the namespace.
    pub interface: IfName,
    /// Where the VIPs live.
    pub mode: VipMode,
    /// The VIP of the path first, then `additional_vips`; never empty.
    pub vips: Vec<Vip>,
    /// The NIC's static addresses, at most one a family.
    pub frontends: Vec<Frontend>,
    /// The NIC's MTU in bytes.
    pub mtu: Option<u32>,
    /// The NIC is a virtual function.
    #[serde(default)]
    pub is_sriov: bool,
    /// In `interface` mode keepalived holds the VIPs: `loadbalancer_topology` was `ACTIVE_STANDBY` when they were plugged.
    /// The configuration may say something else later, an amphora's load balancer never does. Absent in a state of an
    /// older release, until the agent starts.
    #[serde(default)]
    pub keepalived: Option<bool>,
    /// The caller was told 202. A plug that was not acknowledged is completed by a retry; one that was
    /// answers 409 to it.
    pub acknowledged: bool,
}

impl Plug {
    /// The VIP it was plugged by.
    #[must_use]
    pub fn primary(&self) -> IpAddr {
        self.vips[0].ip
    }

    /// Whether `ip` is one of its VIPs.
    #[must_use]
    pub fn has_vip(&self, ip: IpAddr) -> bool {
        self.vips.iter().any(|v| v.ip == ip)
    }
}

/// One address of a member network, as its Neutron port has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FixedIp {
    /// The address.
    pub ip: IpAddr,
    /// Its subnet, on-link.
    pub subnet: IpNet,
    /// The gateway of that subnet. Used only on the VIP's NIC.
    pub gateway: Option<IpAddr>,
    /// Static routes of that subnet.
    pub host_routes: Vec<HostRoute>,
}

/// One accepted `POST /1.0/plug/network`. Its NIC may also be the one of a [`Plug`]: then members are reached through
/// the VIP's port, and it holds what is needed over and above the VIP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkPlug {
    /// The NIC.
    pub mac: Mac,
    /// Its name inside the namespace.
    pub interface: IfName,
    /// Its addresses. None: the network gives it some itself, by DHCP and router advertisements.
    pub fixed_ips: Vec<FixedIp>,
    /// The NIC's MTU in bytes.
    pub mtu: Option<u32>,
    /// The NIC is a virtual function.
    pub is_sriov: bool,
    /// The caller was told 202: the next call of this NIC is an update.
    pub acknowledged: bool,
}

/// A protocol a firewall rule speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// Transmission Control Protocol.
    Tcp,
    /// User Datagram Protocol.
    Udp,
    /// Stream Control Transmission Protocol.
    Sctp,
    /// Virtual Router Redundancy Protocol (IP protocol 112), which has no ports. The controller writes this one in lower
    /// case (`VRRP` in `octavia/common/constants.py`).
    #[serde(rename = "vrrp", alias = "VRRP")]
    Vrrp,
}

/// Who may reach a port of the VIP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirewallRule {
    /// By which protocol.
    pub protocol: Protocol,
    /// From where; anybody when absent.
    pub cidr: Option<IpNet>,
    /// Which port.
    pub port: u16,
}

/// The firewall of a SR-IOV VIP, whose packets no security group of Neutron's filters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Firewall {
    /// The NIC whose packets the rules are for.
    pub interface: IfName,
    /// What is let in.
    pub rules: Vec<FirewallRule>,
}

/// Who serves a registered VIP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Server {
    /// The amphora of this id.
    Amphora(String),
    /// An end point that is no amphora (`/1.0/distributor/vips`).
    EndPoint,
}

/// One accepted registration: announce this VIP with that next hop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// The VIP.
    pub vip: Prefix,
    /// Where the fabric shall send its packets.
    pub nexthop: NextHop,
    /// Who serves it.
    pub server: Server,
    /// The only peer to hear of it; all of them when absent.
    pub peer: Option<PeerId>,
}

/// One step from a desired state to the next. Applying one twice is the same as once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Take this plug, in place of one with the same primary VIP.
    Plug(Box<Plug>),
    /// Forget the plug of this primary VIP.
    Unplug(IpAddr),
    /// Take this registration, in place of one of the same VIP.
    Register(Registration),
    /// Forget the registration of this VIP.
    Unregister(Prefix),
    /// Take this member network, in place of one on the same NIC.
    PlugNetwork(Box<NetworkPlug>),
    /// Forget the member network on this NIC.
    UnplugNetwork(Mac),
    /// Take this firewall, in place of the one before.
    Firewall(Firewall),
    /// Whether `vrrp/stop` was the last word of the two: `true` withdraws this amphora's own VIPs.
    Silence(bool),
    /// Take this drain, in place of one of the same VIP.
    Drain(Drain),
    /// Forget the drain of this VIP.
    Undrain(Prefix),
}

/// The format of drains.
const DRAINS: u32 = 3;

impl Entry for Change {
    fn format(&self) -> u32 {
        match self {
            Self::Drain(_) | Self::Undrain(_) => DRAINS,
            _ => OLDEST,
        }
    }
}

/// Everything asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// By primary VIP.
    pub plugs: BTreeMap<IpAddr, Plug>,
    /// By VIP: one speaker holds one next hop per prefix.
    pub registrations: BTreeMap<Prefix, Registration>,
    /// The member networks, by NIC.
    pub networks: BTreeMap<Mac, NetworkPlug>,
    /// What may reach the VIP; everything when absent and the VIP's NIC is no virtual function.
    pub firewall: Option<Firewall>,
    /// `vrrp/stop` was called and no `vrrp/start` since: none of this amphora's own VIPs is announced.
    pub silenced: bool,
    /// What is being drained, by VIP. Each is plugged here, or registered for the amphora that is drained.
    pub drains: BTreeMap<Prefix, Drain>,
}

impl Desired {
    /// Takes one change.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Plug(plug) => {
                let before = self.plugs.insert(plug.primary(), *plug);
                self.forget_drains(before.as_ref());
            }
            Change::Unplug(vip) => {
                let gone = self.plugs.remove(&vip);
                // It is about that VIP's listeners.
                self.firewall.take_if(|f| gone.as_ref().is_some_and(|p| p.interface == f.interface));
                self.forget_drains(gone.as_ref());
            }
            Change::Register(registration) => {
                self.registrations.insert(registration.vip, registration);
                self.forget_drains(None);
            }
            Change::Unregister(vip) => {
                self.registrations.remove(&vip);
                self.forget_drains(None);
            }
            Change::PlugNetwork(network) => {
                self.networks.insert(network.mac, *network);
            }
            Change::UnplugNetwork(mac) => {
                self.networks.remove(&mac);
            }
            Change::Firewall(firewall) => self.firewall = Some(firewall),
            Change::Silence(silenced) => self.silenced = silenced,
            Change::Drain(drain) => drop(self.drains.insert(drain.vip, drain)),
            Change::Undrain(vip) => drop(self.drains.remove(&vip)),
        }
    }

    /// A drain ends with what it is about: the registration of its amphora, and where that is this one the plug here, which
    /// was `gone` or changed just now. The next plug is a new one, whether a registration has outlived the last or not.
    fn forget_drains(&mut self, gone: Option<&Plug>) {
        if self.drains.is_empty() {
            return;
        }
        let mut drains = std::mem::take(&mut self.drains);
        drains.retain(|vip, drain| {
            let plugged = self.plug_of(vip.address()).is_some();
            if drain.own && !plugged && gone.is_some_and(|gone| gone.has_vip(vip.address())) {
                return false;
            }
            match self.registrations.get(vip).map(|r| &r.server) {
                Some(Server::Amphora(id)) => *id == drain.amphora,
                Some(Server::EndPoint) => false,
                None => drain.own && plugged,
            }
        });
        self.drains = drains;
    }

    /// The fewest changes that lead here from nothing.
    #[must_use]
    pub fn changes(&self) -> Vec<Change> {
        let plugs = self.plugs.values().cloned().map(|p| Change::Plug(Box::new(p)));
        let registrations = self.registrations.values().cloned().map(Change::Register);
        let networks = self.networks.values().cloned().map(|n| Change::PlugNetwork(Box::new(n)));
        let firewall = self.firewall.iter().cloned().map(Change::Firewall);
        let silenced = self.silenced.then_some(Change::Silence(true));
        // Last, for they are about plugs and registrations.
        let drains = self.drains.values().cloned().map(Change::Drain);
        plugs.chain(registrations).chain(networks).chain(firewall).chain(silenced).chain(drains).collect()
    }

    /// The oldest format of the log that can hold it.
    #[must_use]
    pub fn format(&self) -> u32 {
        if self.drains.is_empty() { OLDEST } else { DRAINS }
    }

    /// How far the drain of this VIP has come, if there is one.
    #[must_use]
    pub fn draining(&self, vip: IpAddr) -> Option<Stage> {
        let vip = Prefix::try_from(vip).ok()?;
        self.drains.get(&vip).map(|drain| drain.stage)
    }

    /// Whether this VIP is not to be bound here, by a drain of this amphora that is through.
    #[must_use]
    pub fn is_drained(&self, vip: IpAddr) -> bool {
        let drain = Prefix::try_from(vip).ok().and_then(|vip| self.drains.get(&vip));
        drain.is_some_and(|drain| drain.own && drain.stage == Stage::Drained)
    }

    /// The plug that has this VIP, primary or additional.
    #[must_use]
    pub fn plug_of(&self, vip: IpAddr) -> Option<&Plug> {
        self.plugs.get(&vip).or_else(|| self.plugs.values().find(|p| p.has_vip(vip)))
    }

    /// The plug of this NIC.
    #[must_use]
    pub fn plug_on(&self, mac: Mac) -> Option<&Plug> {
        self.plugs.values().find(|p| p.mac == mac)
    }

    /// Every NIC that was asked for, with its name inside; one that a VIP and members share comes twice.
    pub fn nics(&self) -> impl Iterator<Item = (Mac, &IfName)> {
        let plugs = self.plugs.values().map(|p| (p.mac, &p.interface));
        plugs.chain(self.networks.values().map(|n| (n.mac, &n.interface)))
    }
}
