//! What concerns one NIC and its neighbours: addresses from router advertisements, duplicate address detection, and
//! telling where an address is.

use std::{net::IpAddr, sync::PoisonError, time::Duration};

use netns::{Error, Kind, Mac, Namespace};

use super::{Kernel, no_device};

/// How long a link that was brought up takes at most until frames leave by it.
const CARRIER: Duration = Duration::from_secs(5);
/// When addresses are advertised once more: a switch may have been slower than the link.
const AGAIN: Duration = Duration::from_secs(1);

/// What makes a link take addresses from router advertisements (`_ipv6auto_up` in upstream's `interface.py`).
const AUTOCONF: [(&str, &str); 2] = [("accept_ra", "2"), ("autoconf", "1")];

/// Whether a link does; also where the kernel has no IPv6, for then nothing can be done about it.
pub(super) fn takes_advertisements(namespace: &Namespace, link: &str) -> Result<bool, Error> {
    for (key, value) in AUTOCONF {
        match namespace.sysctl(&format!("net.ipv6.conf.{link}.{key}")) {
            Ok(is) if is == value => {}
            Ok(_) => return Ok(false),
            Err(error) if error.kind == Kind::Missing => return Ok(true),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

impl Kernel {
    /// Also with forwarding on, which the image has for LVS: hence 2 (`accept_ra`, Documentation/networking/ip-sysctl).
    pub(super) async fn set_autoconf(&self, mac: Mac) -> Result<bool, Error> {
        let link = self.inside.link_by_mac(&mac).await?.ok_or_else(|| no_device(mac))?;
        let mut changed = false;
        for (key, value) in AUTOCONF {
            changed |= self.inside.namespace().set_sysctl(&format!("net.ipv6.conf.{}.{key}", link.name), value)?;
        }
        Ok(changed)
    }

    /// An MTU the device does not take is logged once and passed over: a network's MTU may be raised above what the
    /// host gave the NIC when it was made, and the NIC works as it did.
    pub(super) async fn set_mtu(&self, mac: Mac, mtu: u32) -> Result<bool, Error> {
        let set = self.inside.set_mtu(self.index(mac).await?, mtu).await;
        let mut refused = self.refused_mtus.lock().unwrap_or_else(PoisonError::into_inner);
        match set {
            Err(error) if matches!(error.kind, Kind::Invalid(_)) => {
                if refused.insert(mac, mtu) != Some(mtu) {
                    tracing::warn!(%error, "the MTU of the network is none of the NIC's, which keeps its own");
                }
                Ok(false)
            }
            other => {
                refused.remove(&mac);
                other
            }
        }
    }

    /// The addresses of a NIC inside; none where it is not there.
    pub async fn addresses_of(&self, mac: Mac) -> Result<Vec<IpAddr>, Error> {
        let Some(link) = self.inside.link_by_mac(&mac).await? else { return Ok(Vec::new()) };
        let all = self.inside.addresses().await?;
        Ok(all.into_iter().filter(|a| a.index == link.index).map(|a| a.ip).collect())
    }

    /// Whether a NIC inside has an IPv4 address by DHCP: one that ends with its lease, unlike a VIP of keepalived's.
    pub async fn has_lease(&self, mac: Mac) -> bool {
        let (Ok(index), Ok(addresses)) = (self.index(mac).await, self.inside.addresses().await) else { return false };
        let leased = |a: &netns::Address| a.ip.is_ipv4() && !a.ours && !a.permanent && a.scope == netns::Scope::Global;
        addresses.iter().any(|a| a.index == index && leased(a))
    }

    /// Tells the neighbours that these addresses are here, each on the interface that has it: gratuitous ARP, unsolicited
    /// neighbour advertisement. An address on `lo` is anycast or local, and passed over. Nobody waits for it, and what
    /// fails is logged, as upstream has it.
    pub fn advertise(&self, ips: Vec<IpAddr>) {
        let kernel = self.clone();
        tokio::spawn(async move {
            for pause in [Duration::ZERO, AGAIN] {
                tokio::time::sleep(pause).await;
                for ip in &ips {
                    if let Err(error) = kernel.advertise_one(*ip).await {
                        tracing::warn!(error = &error as &dyn std::error::Error, "an address could not be advertised");
                    }
                }
            }
        });
    }

    async fn advertise_one(&self, ip: IpAddr) -> Result<(), Error> {
        let usable = |a: &netns::Address| a.ip == ip && !a.tentative && !a.dad_failed;
        let Some(on) = self.inside.addresses().await?.into_iter().find(usable).map(|a| a.index) else { return Ok(()) };
        let until = tokio::time::Instant::now() + CARRIER;
        loop {
            let Some(link) = self.inside.links().await?.into_iter().find(|l| l.index == on) else { return Ok(()) };
            if link.loopback {
                return Ok(());
            }
            // What is sent before that is dropped without a word (`noop_qdisc`).
            if link.running || tokio::time::Instant::now() > until {
                return netns::advertise(self.inside.namespace(), &link.name, ip);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until these IPv6 addresses of a NIC are known to be without a duplicate, at most `patience`. One that is
    /// not is logged and no failure, as upstream has it.
    pub async fn settle(&self, mac: Mac, ips: &[IpAddr], patience: Duration) {
        let Ok(index) = self.index(mac).await else { return };
        let until = tokio::time::Instant::now() + patience;
        for ip in ips.iter().filter(|ip| ip.is_ipv6()) {
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            if let Err(error) = self.inside.wait_not_tentative(index, *ip, left).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "an address is not usable");
            }
        }
    }
}
