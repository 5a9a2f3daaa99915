//! One step of the plan on the kernel's network.

use std::{
    net::IpAddr,
    sync::{PoisonError, atomic::Ordering},
};

use netns::{Error, Kind, Mac, NewAddress, NewRoute, NewRule};

use super::{Kernel, RULE_PRIORITY, duplicate::Detection, filter, no_device, silence};
use crate::{
    crash, firewall,
    plan::{Address, Device, Path, RouteKey, Rule, Step},
    resolve::MAIN_TABLE,
};

/// What a step came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It changed something.
    Changed,
    /// It was so already, or is passed over.
    Same,
    /// It has to wait for something that ends by itself, and by an event.
    NotYet(String),
}

impl From<bool> for Applied {
    fn from(changed: bool) -> Self {
        if changed { Self::Changed } else { Self::Same }
    }
}

impl Kernel {
    /// Does one step of the kernel's part.
    pub async fn apply(&self, step: &Step) -> Result<Applied, Error> {
        if let Step::AddRoute(_, Path { nic, source: Some(source @ IpAddr::V6(_)), .. }) = step {
            // The kernel refuses it as a source till then (EINVAL, "Invalid source address").
            match self.detection(*nic, *source).await? {
                Detection::Running => {
                    let why = format!("{source} is tentative (duplicate address detection is running)");
                    return Ok(Applied::NotYet(why));
                }
                // The other family, and what is served by the NIC's other addresses, do not wait for it.
                Detection::Failed => return Ok(Applied::Same),
                Detection::Over => {}
            }
        }
        self.change(step).await.map(Applied::from)
    }

    /// Whether it changed anything.
    async fn change(&self, step: &Step) -> Result<bool, Error> {
        crash::point("kernel: before a step");
        let net = &self.inside;
        match step {
            Step::Withdraw(_) | Step::Announce(_) => Ok(false), // the speaker's
            Step::LoUp => match net.loopback().await? {
                Some(lo) => net.set_up(lo.index).await,
                None => Ok(false),
            },
            Step::Silence => silence::begin(net.namespace()),
            Step::Unsilence => silence::end(net).await,
            Step::Filter(rules) => {
                self.filtered.store(true, Ordering::Release);
                filter::apply(net.namespace(), rules.text()).await
            }
            Step::Unfilter => filter::apply(net.namespace(), firewall::REMOVAL).await,
            Step::Adopt(mac, name) => match self.outside.link_by_mac(mac).await? {
                Some(link) if !self.is_inside(*mac).await? => {
                    self.outside.move_link(&link, net.namespace(), Some(name)).await
                }
                _ => net.rename(self.index(*mac).await?, name).await,
            },
            Step::SetMtu(mac, mtu) => self.set_mtu(*mac, *mtu).await,
            Step::Autoconf(mac) => self.set_autoconf(*mac).await,
            Step::SetUp(mac) => net.set_up(self.index(*mac).await?).await,
            Step::AddAddress(address) => {
                let new = self.address(address).await?;
                if !self.may_detect_again(address, &new).await? {
                    return Ok(false);
                }
                net.add_address(&new).await
            }
            Step::DeleteAddress(address) => match self.address(address).await {
                Ok(new) => net.delete_address(new.index, new.ip, new.prefix_len).await,
                Err(error) if error.kind == Kind::NoDevice => Ok(false),
                Err(error) => Err(error),
            },
            Step::AddRoute(key, path) => match net.add_route(&self.route(key, path).await?).await {
                // A default of somebody else's (a router advertisement) in `main` does for packets that are
                // not the VIP's.
                Err(error) if key.table == MAIN_TABLE && matches!(error.kind, Kind::Conflict { ours: false, .. }) => {
                    tracing::debug!(%error, "left as it is");
                    Ok(false)
                }
                result => result,
            },
            Step::AddHostRoute(key, path) => {
                let result = net.add_route(&self.route(key, path).await?).await;
                let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(match result {
                    Ok(changed) => {
                        refused.remove(key);
                        changed
                    }
                    Err(error) => {
                        if refused.insert(*key) {
                            tracing::warn!(%error, "a host route of the subnet is not usable and is passed over");
                        }
                        false
                    }
                })
            }
            Step::DeleteRoute(key, path) => match self.route(key, path).await {
                Ok(route) => net.delete_route(&route).await,
                Err(error) if error.kind == Kind::NoDevice => Ok(false),
                Err(error) => Err(error),
            },
            Step::AddRule(from) => net.add_rule(&rule(*from)).await,
            Step::DeleteRule(from) => net.delete_rule(&rule(*from)).await,
        }
    }

    async fn is_inside(&self, mac: Mac) -> Result<bool, Error> {
        Ok(self.inside.link_by_mac(&mac).await?.is_some())
    }

    pub(super) async fn address(&self, address: &Address) -> Result<NewAddress, Error> {
        let index = match address.device {
            Device::Nic(mac) => self.index(mac).await?,
            Device::Lo => {
                let lo = self.inside.loopback().await?;
                lo.ok_or_else(|| no_device("lo"))?.index
            }
        };
        // A VIP on `lo` belongs to every amphora: asking whether it is a duplicate, or choosing it as the
        // source of our own connections, would both be wrong.
        let anycast = address.device == Device::Lo;
        let nodad = anycast && address.ip.is_ipv6();
        Ok(NewAddress { index, ip: address.ip, prefix_len: address.length, nodad, deprecated: anycast })
    }

    pub(super) async fn route(&self, key: &RouteKey, path: &Path) -> Result<NewRoute, Error> {
        Ok(NewRoute {
            table: key.table,
            destination: key.destination,
            metric: 0,
            gateway: path.gateway,
            device: Some(self.index(path.nic).await?),
            source: path.source,
            onlink: path.gateway.is_some(),
        })
    }
}

pub(super) fn rule(rule: Rule) -> NewRule {
    NewRule { from: rule.from.into(), table: rule.table, priority: RULE_PRIORITY }
}
