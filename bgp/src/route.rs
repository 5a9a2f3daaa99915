//! What is announced, as values that cannot be wrong.

use std::{collections::BTreeSet, fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

use crate::{Attributes, Invalid, PeerId};

/// Whom an announcement is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Audience {
    /// Every peer, those of the future too.
    All,
    /// These peers and no other.
    Peers(BTreeSet<PeerId>),
}

/// One host route, /32 or /128: the only thing this speaker ever announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "IpAddr", into = "IpAddr")]
pub struct Prefix(IpAddr);

impl Prefix {
    /// The address; the length is always the family's longest.
    #[must_use]
    pub const fn address(self) -> IpAddr {
        self.0
    }

    /// 32 or 128.
    #[must_use]
    pub const fn length(self) -> u8 {
        match self.0 {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        }
    }
}

impl TryFrom<IpAddr> for Prefix {
    type Error = Invalid;
    fn try_from(ip: IpAddr) -> Result<Self, Invalid> {
        is_host(ip).then_some(Self(ip)).ok_or(Invalid::Prefix(ip))
    }
}

impl From<Prefix> for IpAddr {
    fn from(p: Prefix) -> Self {
        p.0
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0, self.length())
    }
}

/// An explicit next hop. Never `0.0.0.0` or `::`, which gobgpd reads as "myself".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "IpAddr", into = "IpAddr")]
pub struct NextHop(IpAddr);

impl NextHop {
    /// The address.
    #[must_use]
    pub const fn address(self) -> IpAddr {
        self.0
    }
}

impl TryFrom<IpAddr> for NextHop {
    type Error = Invalid;
    fn try_from(ip: IpAddr) -> Result<Self, Invalid> {
        is_host(ip).then_some(Self(ip)).ok_or(Invalid::NextHop(ip))
    }
}

impl From<NextHop> for IpAddr {
    fn from(n: NextHop) -> Self {
        n.0
    }
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A unicast address that can stand in a route between hosts: neither unspecified, loopback,
/// multicast, broadcast nor link-local, and not an IPv4 address in IPv6 clothes.
fn is_host(ip: IpAddr) -> bool {
    !ip.is_unspecified()
        && !ip.is_multicast()
        && !ip.is_loopback()
        && match ip {
            IpAddr::V4(v4) => !v4.is_broadcast() && !v4.is_link_local() && v4.octets()[0] < 240,
            IpAddr::V6(v6) => !v6.is_unicast_link_local() && v6.to_ipv4_mapped().is_none(),
        }
}

/// What one prefix is announced with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The host route.
    pub prefix: Prefix,
    /// Its next hop, as the peers will see it.
    pub next_hop: NextHop,
    /// Who hears of it.
    pub audience: Audience,
    /// What its peers see on it, besides what all of a peer's routes carry ([`crate::Peer::attributes`]).
    pub attributes: Attributes,
}

impl Announcement {
    /// That its parts fit together and can be sent; [`crate::Speaker::apply`] checks it too.
    pub fn check(&self) -> Result<(), Invalid> {
        if self.attributes.prepend > Attributes::MAX_PREPEND {
            return Err(Invalid::Prepend(self.attributes.prepend));
        }
        match (self.prefix.address(), self.next_hop.address()) {
            (IpAddr::V6(_), IpAddr::V4(_)) => Err(Invalid::NextHopFamily(self.prefix, self.next_hop)),
            _ => Ok(()),
        }
    }
}
