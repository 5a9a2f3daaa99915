//! The kernel's network as the plan sees it: what is there, and one step at a time.
//!
//! Translates between the plan's words (a NIC is its MAC) and those of the `netns` crate (a link is an
//! index in a namespace). Keeps nothing but open handles: every look is a fresh one.

mod claim;
mod duplicate;
mod filter;
mod nic;
mod silence;
mod step;
mod sysctls;

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use ipnet::IpNet;
use netns::{Error, Kind, Link, Mac, Namespace, Network};

use crate::{
    api::error::with_causes,
    converge::Unready,
    plan::{Address, Device, Have, HaveNic, Path, RouteKey, Rule, Want},
    resolve::{Facts, NicAddress},
};

pub use step::Applied;
pub use sysctls::prepare;

/// Octavia's namespace, where VIPs, front-end NICs, haproxy and keepalived live.
pub const NAMESPACE: &str = "amphora-haproxy";

/// Where our rules stand: before the kernel's own for `main` (32766), after whatever an operator sets.
pub const RULE_PRIORITY: u32 = 32_000;

/// Where a NIC is.
#[derive(Clone, Debug)]
pub enum Place {
    /// In the agent's own namespace.
    Outside(Link),
    /// In `amphora-haproxy`.
    Inside(Link),
    /// In neither.
    Nowhere,
}

/// The two namespaces, open.
#[derive(Clone, Debug)]
pub struct Kernel {
    inside: Network,
    outside: Network,
    /// Host routes the kernel refused, so that each is told once.
    refused: Arc<Mutex<BTreeSet<RouteKey>>>,
    /// The same for MTUs, in bytes.
    refused_mtus: Arc<Mutex<HashMap<Mac, u32>>>,
    /// IPv6 addresses of ours that somebody else has too, with when that was last found out.
    duplicates: Arc<Mutex<HashMap<Address, Instant>>>,
    /// There may be a firewall.
    filtered: Arc<AtomicBool>,
}

/// What one look found.
#[derive(Debug, Default)]
pub struct Seen {
    /// What the plan compares with; the speaker's part is empty.
    pub have: Have,
    /// The addresses of each NIC.
    pub facts: Facts,
    /// The NICs that could not be looked at, and why.
    pub troubles: HashMap<Mac, Unready>,
}

impl Kernel {
    /// Opens both namespaces, making `amphora-haproxy` where it is missing.
    pub fn open() -> Result<Self, Error> {
        let inside = Namespace::create(NAMESPACE)?;
        prepare(&inside);
        Ok(Self {
            inside: inside.network()?,
            outside: Namespace::current()?.network()?,
            refused: Arc::default(),
            refused_mtus: Arc::default(),
            duplicates: Arc::default(),
            // One of an earlier agent, or of a Python one.
            filtered: Arc::new(AtomicBool::new(true)),
        })
    }

    /// Whether the namespace that is open is the one of that name: somebody may have deleted and made it anew.
    pub fn is_current(&self) -> Result<bool, Error> {
        Ok(Namespace::find(NAMESPACE)?.as_ref() == Some(self.inside.namespace()))
    }

    /// The netlink of `amphora-haproxy`.
    #[must_use]
    pub fn inside(&self) -> &Network {
        &self.inside
    }

    /// The netlink of the agent's own namespace.
    #[must_use]
    pub fn outside(&self) -> &Network {
        &self.outside
    }

    /// Where the NIC with this MAC is. A namespace that has it twice (a bridge on top) is an error.
    pub async fn locate(&self, mac: Mac) -> Result<Place, Error> {
        if let Some(link) = self.inside.link_by_mac(&mac).await? {
            return Ok(Place::Inside(link));
        }
        if let Some(link) = self.outside.link_by_mac(&mac).await? {
            return Ok(Place::Outside(link));
        }
        // It may have been moved in between the two looks.
        Ok(self.inside.link_by_mac(&mac).await?.map_or(Place::Nowhere, Place::Inside))
    }

    /// Those of `nics` that are in neither namespace.
    pub async fn missing(&self, nics: &[Mac]) -> Result<Vec<Mac>, Error> {
        let mut missing = Vec::new();
        for nic in nics {
            if matches!(self.locate(*nic).await?, Place::Nowhere) {
                missing.push(*nic);
            }
        }
        Ok(missing)
    }

    /// The interface names that are taken inside.
    pub async fn names_inside(&self) -> Result<BTreeSet<String>, Error> {
        Ok(self.inside.links().await?.into_iter().map(|l| l.name).collect())
    }

    /// The name of the interface inside that has `ip`.
    pub async fn interface_of(&self, ip: IpAddr) -> Result<Option<String>, Error> {
        let Some(found) = self.inside.addresses().await?.into_iter().find(|a| a.ip == ip) else { return Ok(None) };
        Ok(self.inside.links().await?.into_iter().find(|l| l.index == found.index).map(|l| l.name))
    }

    /// Has the kernel look for PCI devices again: a NIC that Nova plugged may have escaped it. That can take
    /// seconds, so nobody waits for it, and there is one at a time.
    pub fn rescan(&self) {
        static RUNNING: AtomicBool = AtomicBool::new(false);
        let file = std::path::Path::new("/sys/bus/pci/rescan");
        if !file.exists() || RUNNING.swap(true, Ordering::AcqRel) {
            return;
        }
        tokio::task::spawn_blocking(move || {
            if let Err(error) = std::fs::write(file, "1") {
                tracing::warn!(%error, "cannot have the PCI bus scanned again");
            }
            RUNNING.store(false, Ordering::Release);
        });
    }

    /// Looks at everything `want` speaks of, and at all that is ours.
    pub async fn look(&self, want: &Want) -> Result<Seen, Error> {
        let mut seen = Seen::default();
        let links = self.inside.links().await?;
        seen.have.lo_up = links.iter().any(|l| l.loopback && l.up);
        let namespace = self.inside.namespace();
        seen.have.silent = netns::is_silent(namespace)?;
        seen.have.silenced = silence::is_ours(namespace);
        // Nobody but the agent makes that table, so one that was never wanted is not looked for.
        if want.filter.is_some() || self.filtered.load(Ordering::Acquire) {
            seen.have.filter = match filter::look(namespace).await {
                Err(error) if want.filter.is_none() => {
                    tracing::debug!(%error, "whether there is a firewall cannot be told");
                    None
                }
                other => other?,
            };
            self.filtered.store(seen.have.filter.is_some(), Ordering::Release);
        }
        let device = |index: u32| {
            let link = links.iter().find(|l| l.index == index)?;
            if link.loopback { Some(Device::Lo) } else { link.mac.map(Device::Nic) }
        };
        for (mac, wanted) in &want.nics {
            let (inside, link) = match self.locate(*mac).await {
                Ok(Place::Inside(link)) => (true, link),
                Ok(Place::Outside(link)) => (false, link),
                // Nova takes the NIC of a member network away without a word to the agent. An event tells when it is back.
                Ok(Place::Nowhere) => {
                    seen.troubles.insert(*mac, Unready::Failed(with_causes(&no_device(mac))));
                    continue;
                }
                // One NIC nobody can make out is no reason to neglect the others.
                Err(error) => {
                    seen.troubles.insert(*mac, Unready::Failed(with_causes(&error)));
                    continue;
                }
            };
            let autoconf = wanted.autoconf && inside && nic::takes_advertisements(namespace, &link.name)?;
            let nic = HaveNic { inside, name: link.name, mtu: link.mtu, up: link.up, autoconf };
            seen.have.nics.insert(*mac, nic);
        }
        for a in self.inside.addresses().await? {
            let Some(device) = device(a.index) else { continue };
            let address = Address { device, ip: a.ip, length: a.prefix_len };
            // Somebody else's address serves as well, if it is the very one.
            // Ours that is a duplicate is of no use: it is tried again.
            let wanted = want.addresses.contains(&address);
            if wanted && a.ours && a.dad_failed {
                tracing::debug!(?address, "a duplicate");
            } else if a.ours || wanted {
                seen.have.addresses.insert(address);
            }
            if let (Device::Nic(mac), netns::Scope::Global | netns::Scope::Link) = (device, a.scope)
                && let Ok(net) = IpNet::new(a.ip, a.prefix_len)
            {
                let known = NicAddress { net, ours: a.ours, tentative: a.tentative, duplicate: a.dad_failed };
                seen.facts.entry(mac).or_default().push(known);
            }
        }
        for r in self.inside.routes().await? {
            let Some(Device::Nic(nic)) = r.device.and_then(device) else { continue };
            let key = RouteKey { table: r.table, destination: r.destination };
            let path = Path { nic, gateway: r.gateway, source: r.source };
            let wanted = |routes: &std::collections::BTreeMap<RouteKey, Path>| routes.get(&key) == Some(&path);
            if r.ours || (r.plain && (wanted(&want.routes) || wanted(&want.host_routes))) {
                seen.have.routes.insert(key, path);
            }
        }
        let rules = self.inside.rules().await?.into_iter().filter(|r| r.ours);
        seen.have.rules = rules.filter_map(|r| Some(Rule { from: r.from?.addr(), table: r.table })).collect();
        Ok(seen)
    }

    /// Has the kernel learn the MACs of these neighbours. Nothing waits for it and nothing depends on it: it
    /// spares the first clients a wait.
    pub async fn resolve(&self, neighbours: &[(Mac, IpAddr)]) {
        for (mac, ip) in neighbours {
            let asked = match self.index(*mac).await {
                Ok(index) => self.inside.resolve(index, *ip).await,
                Err(error) => Err(error),
            };
            if let Err(error) = asked {
                tracing::debug!(error = &error as &dyn std::error::Error, "a gateway could not be asked for");
            }
        }
    }

    pub(crate) async fn index(&self, mac: Mac) -> Result<u32, Error> {
        match self.inside.link_by_mac(&mac).await? {
            Some(link) => Ok(link.index),
            None => Err(no_device(mac)),
        }
    }
}

fn no_device(which: impl std::fmt::Display) -> Error {
    Error { operation: "find link", object: which.to_string(), kind: Kind::NoDevice, source: None }
}
