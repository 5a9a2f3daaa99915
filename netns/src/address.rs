//! Addresses on links.

use std::{fmt, net::IpAddr, time::Duration};

use futures_util::StreamExt as _;
use rtnetlink::{
    packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::{
            AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol, AddressScope,
            CacheInfo,
        },
    },
};

use crate::{Error, Kind, Network, OURS, Result, network::FAMILIES};

/// How far an address is good (`RT_SCOPE_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Anywhere (`RT_SCOPE_UNIVERSE`).
    Global,
    /// On its link only, as `fe80::/10`.
    Link,
    /// In this namespace only, as `127.0.0.1`.
    Host,
    /// Another number.
    Other(u8),
}

/// An address as the kernel shows it.
#[expect(clippy::struct_excessive_bools, reason = "they are the kernel's flags")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The link it is on.
    pub index: u32,
    /// The address.
    pub ip: IpAddr,
    /// Length of its network's prefix, in bits.
    pub prefix_len: u8,
    /// Carries our mark.
    pub ours: bool,
    /// IPv6: not known yet to be without a duplicate, and not usable until then (RFC 4862).
    pub tentative: bool,
    /// IPv6: a duplicate was found.
    pub dad_failed: bool,
    /// Its preferred lifetime is over: IPv6 does not choose it as a source (RFC 6724 rule 3).
    pub deprecated: bool,
    /// Valid forever: set by somebody, rather than leased or learned from a router.
    pub permanent: bool,
    /// IPv4: behind another of the same network on the link, with which it may go.
    pub secondary: bool,
    /// How far it is good.
    pub scope: Scope,
}

/// An address to be put on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NewAddress {
    /// The link.
    pub index: u32,
    /// The address.
    pub ip: IpAddr,
    /// Length of its network's prefix, in bits.
    pub prefix_len: u8,
    /// IPv6: usable at once, without duplicate address detection and the solicitations that it sends.
    pub nodad: bool,
    /// Valid forever, and never a source by the kernel's choice: its preferred lifetime is zero. IPv4 does not heed
    /// that (`inet_select_addr`), but passes over addresses of host scope, so there it is that as well.
    pub deprecated: bool,
}

impl fmt::Display for NewAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} on link {}", self.ip, self.prefix_len, self.index)
    }
}

impl Address {
    /// Whether this is what `wanted` asks for, whoever owns it.
    #[must_use]
    pub fn is(&self, wanted: &NewAddress) -> bool {
        (self.index, self.ip, self.prefix_len, self.deprecated)
            == (wanted.index, wanted.ip, wanted.prefix_len, wanted.deprecated)
    }

    fn parse(message: &AddressMessage) -> Option<Self> {
        let mut flags = AddressFlags::from_bits_retain(u32::from(message.header.flags.bits()));
        let (mut local, mut address, mut ours) = (None, None, false);
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Local(ip) => local = Some(*ip),
                AddressAttribute::Address(ip) => address = Some(*ip),
                AddressAttribute::Flags(all) => flags = *all,
                AddressAttribute::Protocol(protocol) => ours = u8::from(*protocol) == OURS,
                _ => {}
            }
        }
        Some(Self {
            index: message.header.index,
            ip: local.or(address)?, // with a peer, `Address` is the peer's
            prefix_len: message.header.prefix_len,
            ours,
            tentative: flags.contains(AddressFlags::Tentative),
            dad_failed: flags.contains(AddressFlags::Dadfailed),
            deprecated: flags.contains(AddressFlags::Deprecated),
            permanent: flags.contains(AddressFlags::Permanent),
            secondary: flags.contains(AddressFlags::Secondary),
            scope: match message.header.scope {
                AddressScope::Universe => Scope::Global,
                AddressScope::Link => Scope::Link,
                AddressScope::Host => Scope::Host,
                other => Scope::Other(other.into()),
            },
        })
    }
}

impl NewAddress {
    fn message(&self) -> AddressMessage {
        let mut message = AddressMessage::default();
        let v4 = self.ip.is_ipv4();
        message.header.family = if v4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
        message.header.index = self.index;
        message.header.prefix_len = self.prefix_len;
        message.attributes.extend([
            AddressAttribute::Local(self.ip),
            AddressAttribute::Address(self.ip),
            AddressAttribute::Protocol(AddressProtocol::Other(OURS)),
        ]);
        if self.nodad && !v4 {
            message.header.flags = AddressHeaderFlags::Nodad;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        if self.deprecated {
            let mut lifetimes = CacheInfo::default();
            lifetimes.ifa_preferred = 0;
            lifetimes.ifa_valid = u32::MAX; // forever
            message.attributes.push(AddressAttribute::CacheInfo(lifetimes));
            if v4 {
                message.header.scope = AddressScope::Host;
            }
        }
        message
    }
}

impl Network {
    /// All addresses of both families on all links.
    pub async fn addresses(&self) -> Result<Vec<Address>> {
        let mut all = Vec::new();
        for family in FAMILIES {
            let mut message = AddressMessage::default();
            message.header.family = family;
            for found in self.dump("list addresses of", &RouteNetlinkMessage::GetAddress(message)).await? {
                if let RouteNetlinkMessage::NewAddress(message) = found {
                    all.extend(Address::parse(&message));
                }
            }
        }
        Ok(all)
    }

    /// Puts an address on a link, marked as ours; `false` if it is there, whoever put it there.
    ///
    /// The same address on the link with another prefix length, or deprecated where it should not be or the other way
    /// round, is [`Kind::Conflict`], and stays.
    pub async fn add_address(&self, new: &NewAddress) -> Result<bool> {
        let operation = "add address";
        if let Some(there) = self.addresses().await?.into_iter().find(|a| a.index == new.index && a.ip == new.ip) {
            if there.is(new) {
                return Ok(false);
            }
            let word = if there.deprecated { " (deprecated)" } else { "" };
            let description = format!("{}/{}{word}", there.ip, there.prefix_len);
            return Err(Error::new(operation, new, Kind::Conflict { there: description, ours: there.ours }));
        }
        let message = RouteNetlinkMessage::NewAddress(new.message());
        self.change(message, NLM_F_CREATE | NLM_F_EXCL).await.map_err(|refusal| refusal.of(operation, new))?;
        Ok(true)
    }

    /// Marks an address that somebody else has put on a link for ever as ours, in one step and without taking it away
    /// (`inet_rtm_newaddr` and `inet6_addr_modify` set the mark of the one that is there); `false` if there is none that
    /// is exactly `new`, or it is ours.
    pub async fn claim_address(&self, new: &NewAddress) -> Result<bool> {
        if !self.addresses().await?.iter().any(|a| a.is(new) && a.permanent && !a.ours) {
            return Ok(false);
        }
        let message = RouteNetlinkMessage::NewAddress(new.message());
        self.change(message, NLM_F_REPLACE).await.map_err(|refusal| refusal.of("mark address", new))?;
        Ok(true)
    }

    /// Takes an address of ours off a link; `false` if it is not there. Another owner's is [`Kind::NotOurs`].
    ///
    /// With an IPv4 address the kernel also drops the others of the same network on the link that came after it, unless
    /// the link's sysctl `promote_secondaries` is 1. If that would hit one that is not ours, it is [`Kind::Conflict`].
    pub async fn delete_address(&self, index: u32, ip: IpAddr, prefix_len: u8) -> Result<bool> {
        let operation = "delete address";
        let key = NewAddress { index, ip, prefix_len, nodad: false, deprecated: false };
        let all = self.addresses().await?;
        let Some(there) = all.iter().find(|a| a.index == index && a.ip == ip && a.prefix_len == prefix_len) else {
            return Ok(false);
        };
        if !there.ours {
            return Err(Error::new(operation, key, Kind::NotOurs));
        }
        let network = ipnet::IpNet::new(ip, prefix_len).ok();
        let behind = |a: &&Address| {
            a.secondary
                && !a.ours
                && a.index == index
                && a.prefix_len == prefix_len
                && network.is_some_and(|n| n.contains(&a.ip))
        };
        if !there.secondary
            && let Some(lost) = all.iter().find(behind)
            && !self.promotes_secondaries(index).await?
        {
            let there = format!("{}/{}, which would go with it,", lost.ip, lost.prefix_len);
            return Err(Error::new(operation, key, Kind::Conflict { there, ours: false }));
        }
        match self.change(RouteNetlinkMessage::DelAddress(key.message()), 0).await {
            Ok(()) => Ok(true),
            Err(refusal) if matches!(refusal.kind, Kind::Missing | Kind::NoDevice) => Ok(false),
            Err(refusal) => Err(refusal.of(operation, key)),
        }
    }

    /// Waits until an IPv6 address has passed duplicate address detection; any other address has no need to.
    ///
    /// [`Kind::DuplicateAddress`] if it failed, [`Kind::Missing`] if the address is not there (any more), and
    /// [`Kind::TimedOut`]: detection does not begin before the link has a carrier.
    pub async fn wait_not_tentative(&self, index: u32, ip: IpAddr, timeout: Duration) -> Result<()> {
        let fail = |kind| Error::new("wait for address", format!("{ip} on link {index}"), kind);
        let mut events = self.watch()?;
        let settled = async {
            loop {
                match self.addresses().await?.into_iter().find(|a| a.index == index && a.ip == ip) {
                    None => return Err(fail(Kind::Missing)),
                    Some(address) if address.dad_failed => return Err(fail(Kind::DuplicateAddress)),
                    Some(address) if !address.tentative => return Ok(()),
                    Some(_) => {}
                }
                if events.next().await.is_none() {
                    return Err(fail(Kind::Disconnected));
                }
            }
        };
        tokio::time::timeout(timeout, settled).await.unwrap_or_else(|_| Err(fail(Kind::TimedOut)))
    }

    async fn promotes_secondaries(&self, index: u32) -> Result<bool> {
        let Some(link) = self.links().await?.into_iter().find(|link| link.index == index) else { return Ok(true) };
        for which in ["all", &link.name] {
            if self.namespace().sysctl(&format!("net.ipv4.conf.{which}.promote_secondaries"))? != "0" {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
