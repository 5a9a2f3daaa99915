//! The words of a BGP speaker as values that cannot be wrong.
//!
//! gobgpd accepts nearly anything (host bits, hold times that never come up, passwords it then
//! cuts), so whatever reaches it has been through one of these types.

use std::{fmt, net::IpAddr, num::NonZeroU8, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{Attributes, NextHop, Prefix};

/// Why a value is not what BGP, or this speaker, can take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// An AS number outside 1-4294967295, or one of those RFC 7607 and RFC 7300 reserve.
    #[error("not an AS number from 1 to 4294967294 (RFC 7300 reserves 65535 and 4294967295)")]
    Asn,
    /// A name for a peer that is empty, too long or not plain.
    #[error("not a peer name: 1 to 64 letters, digits, `-`, `_` or `.`")]
    PeerId,
    /// The kernel's TCP MD5 key is at most 80 bytes (`TCP_MD5SIG_MAXKEYLEN`).
    #[error("an MD5 password has 1 to 80 printable ASCII characters; this one has {0}")]
    Md5Length(usize),
    /// A character a router's configuration could not carry.
    #[error("an MD5 password has printable ASCII characters only")]
    Md5Character,
    /// RFC 4271 section 4.2 asks for at least three seconds. It also allows zero (never), which
    /// gobgpd cannot be told: in its API a zero is "not set" and becomes 90.
    #[error("a hold time is 3 to 65535 seconds, not {0}; gobgpd cannot be told 0 (never)")]
    HoldTime(u64),
    /// RFC 4724 section 3: twelve bits of seconds.
    #[error("a graceful restart time is 1 to 4095 seconds, not {0}")]
    RestartTime(u64),
    /// Not a community in the `N:N` form, nor by a name of the registry.
    #[error("not a community: two numbers from 0 to 65535, as in 64512:100, or a name, as in no-export")]
    Community,
    /// An address nobody can be reached at.
    #[error("{0} cannot be a next hop: it must be one host's unicast address")]
    NextHop(IpAddr),
    /// An address that is not one host's.
    #[error("{0} cannot be announced: it must be a unicast host address")]
    Prefix(IpAddr),
    /// Two peers whose names hash to the same number.
    #[error("peers `{0}` and `{1}` clash; rename one of them")]
    PeerTag(PeerId, PeerId),
    /// A session without an address family carries nothing.
    #[error("peer `{0}` has no address family; give it `ipv4`, `ipv6` or both")]
    NoFamily(PeerId),
    /// gobgp speaks RFC 5881 and not RFC 5883.
    #[error("peer `{0}` is several hops away, and BFD is for one hop")]
    BfdMultihop(PeerId),
    /// A TCP connection has both ends in one address family.
    #[error("peer `{0}` cannot be reached from {1}: the other address family")]
    LocalAddress(PeerId, IpAddr),
    /// RFC 5549 lets an IPv6 next hop carry IPv4, not the other way round.
    #[error("{0} cannot have the IPv4 next hop {1}")]
    NextHopFamily(Prefix, NextHop),
    /// More of our AS in one `AS_PATH` than the speaker can be told.
    #[error("AS_PATH can be prepended {max} times at most, not {0}", max = crate::Attributes::MAX_PREPEND)]
    Prepend(u8),
    /// gobgp's policies take 0 for "leave it".
    #[error("peer `{0}` cannot have LOCAL_PREF 0; 1 is the least")]
    LocalPref(PeerId),
    /// Two peers at one address: BGP has one session between two addresses.
    #[error("peers `{0}` and `{1}` have the same address")]
    PeerAddress(PeerId, PeerId),
}

/// An autonomous system number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Asn(u32);

impl Asn {
    /// The number on the wire.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Asn {
    type Error = Invalid;
    fn try_from(number: u32) -> Result<Self, Invalid> {
        match number {
            0 | 65_535 | u32::MAX => Err(Invalid::Asn),
            n => Ok(Self(n)),
        }
    }
}

impl FromStr for Asn {
    type Err = Invalid;
    fn from_str(s: &str) -> Result<Self, Invalid> {
        s.parse::<u32>().map_err(|_| Invalid::Asn)?.try_into()
    }
}

impl fmt::Display for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of a peer, as in `[bgp_peer:NAME]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PeerId(String);

impl PeerId {
    /// The name itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PeerId {
    type Err = Invalid;
    fn from_str(s: &str) -> Result<Self, Invalid> {
        let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
        if s.is_empty() || s.len() > 64 || !s.bytes().all(plain) {
            return Err(Invalid::PeerId);
        }
        Ok(Self(s.to_owned()))
    }
}

impl TryFrom<String> for PeerId {
    type Error = Invalid;
    fn try_from(s: String) -> Result<Self, Invalid> {
        s.parse()
    }
}

impl From<PeerId> for String {
    fn from(id: PeerId) -> Self {
        id.0
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A TCP MD5 password (RFC 2385). Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Md5Password(String);

impl Md5Password {
    /// The password, for the speaker alone.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl FromStr for Md5Password {
    type Err = Invalid;
    fn from_str(s: &str) -> Result<Self, Invalid> {
        if s.is_empty() || s.len() > 80 {
            return Err(Invalid::Md5Length(s.len()));
        }
        if !s.bytes().all(|c| (0x20..0x7f).contains(&c)) {
            return Err(Invalid::Md5Character);
        }
        Ok(Self(s.to_owned()))
    }
}

impl fmt::Debug for Md5Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A hold time in seconds, three at least (RFC 4271 section 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldTime(u16);

impl HoldTime {
    /// Seconds.
    #[must_use]
    pub const fn seconds(self) -> u16 {
        self.0
    }
}

impl TryFrom<u64> for HoldTime {
    type Error = Invalid;
    fn try_from(seconds: u64) -> Result<Self, Invalid> {
        match u16::try_from(seconds) {
            Ok(s) if s >= 3 => Ok(Self(s)),
            _ => Err(Invalid::HoldTime(seconds)),
        }
    }
}

/// How long peers keep our routes while the speaker is away (RFC 4724), in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartTime(u16);

impl RestartTime {
    /// Seconds.
    #[must_use]
    pub const fn seconds(self) -> u16 {
        self.0
    }
}

impl TryFrom<u64> for RestartTime {
    type Error = Invalid;
    fn try_from(seconds: u64) -> Result<Self, Invalid> {
        match u16::try_from(seconds) {
            Ok(s @ 1..=4095) => Ok(Self(s)),
            _ => Err(Invalid::RestartTime(seconds)),
        }
    }
}

/// How far away the peer may be. GTSM and multihop exclude each other (gobgp refuses both).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distance {
    /// One hop for eBGP, any for iBGP: BGP's default.
    Default,
    /// `ttl_hops`: packets from further away are dropped (GTSM, RFC 5082).
    TtlSecurity(NonZeroU8),
    /// `ebgp_multihop`: the TTL our packets leave with.
    Multihop(NonZeroU8),
}

/// How a peer's silence is noticed sooner than by the hold time: BFD (RFC 5880) over one hop (RFC 5881).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bfd {
    /// From one packet to the next, in either direction: what we send at, and the least we take.
    pub interval: Duration,
    /// So many of our packets may be missing before the peer takes us for gone. We go by its own number.
    pub multiplier: NonZeroU8,
}

/// A standard community (RFC 1997).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Community(pub u32);

/// The names of IANA's registry that routers have too (RFC 1997, RFC 3765, RFC 7999, RFC 8326).
const WELL_KNOWN: [(&str, u32); 6] = [
    ("graceful-shutdown", 0xffff_0000),
    ("blackhole", 0xffff_029a),
    ("no-export", 0xffff_ff01),
    ("no-advertise", 0xffff_ff02),
    ("no-export-subconfed", 0xffff_ff03),
    ("no-peer", 0xffff_ff04),
];

impl FromStr for Community {
    type Err = Invalid;
    fn from_str(s: &str) -> Result<Self, Invalid> {
        if let Some((_, number)) = WELL_KNOWN.iter().find(|(name, _)| *name == s) {
            return Ok(Self(*number));
        }
        let (high, low) = s.split_once(':').ok_or(Invalid::Community)?;
        let part = |p: &str| p.parse::<u16>().map_err(|_| Invalid::Community);
        Ok(Self(u32::from(part(high)?) << 16 | u32::from(part(low)?)))
    }
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0 >> 16, self.0 & 0xffff)
    }
}

/// One address family of unicast routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4 unicast.
    Ipv4,
    /// IPv6 unicast.
    Ipv6,
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub const fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self::Ipv4,
            IpAddr::V6(_) => Self::Ipv6,
        }
    }
}

/// What a session is asked to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name in our configuration and API.
    pub id: PeerId,
    /// The neighbor's address; also the family of the session's transport.
    pub address: IpAddr,
    /// The neighbor's AS.
    pub remote_as: Asn,
    /// TCP MD5.
    pub password: Option<Md5Password>,
    /// GTSM or multihop.
    pub distance: Distance,
    /// Proposed hold time; the smaller of both sides holds.
    pub hold_time: HoldTime,
    /// Keepalive interval in seconds; 0 is a third of the hold time.
    pub keepalive: u16,
    /// Only accept, never dial.
    pub passive: bool,
    /// The address to dial from; by route when absent.
    pub local_address: Option<IpAddr>,
    /// The routes exchanged; at least one.
    pub families: Vec<Family>,
    /// Pause between attempts.
    pub connect_retry: Duration,
    /// Not across routers ([`Distance::Multihop`]). gobgpd before 4.6 has none: the session is then without.
    pub bfd: Option<Bfd>,
    /// What every route sent to it carries besides the route's own. Communities and prepends of both
    /// add up; where a route has a MED or `LOCAL_PREF`, it stands.
    pub attributes: Attributes,
}

#[cfg(test)]
mod tests;
