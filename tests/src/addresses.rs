//! The fabric's addresses: the same in every lab, for no lab can see another. Documentation ranges only (RFC 5737, 3849).
//!
//! ```text
//! client --.192/26-- router --.128/30..-- tor-0..k --192.0.2.0/25 (front-end)----- amphora-0..n
//!                                           '--------198.51.100.0/25 (management)--'  controller
//! ```
//! With a multihop fabric the ToRs are on a peering segment instead of the management segment, behind one more router.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// A dual-stack network; hosts have the same number in both families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// The IPv4 prefix.
    pub v4: Ipv4Net,
    /// The IPv6 prefix.
    pub v6: Ipv6Net,
}

/// A host's address in each family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dual {
    /// The IPv4 address.
    pub v4: Ipv4Addr,
    /// The IPv6 address.
    pub v6: Ipv6Addr,
}

impl Dual {
    /// The address of one family.
    #[must_use]
    pub fn of(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.v4.into(),
            Family::V6 => self.v6.into(),
        }
    }
}

impl Network {
    /// Host number `n`: its IPv6 address ends in the same digits as its IPv4 address, `.11` and `::11`.
    #[must_use]
    pub fn host(&self, n: u8) -> Dual {
        let n = u32::from(n);
        let same_digits = ((n / 100) << 8) | ((n / 10 % 10) << 4) | (n % 10);
        Dual {
            v4: Ipv4Addr::from_bits(self.v4.addr().to_bits() + n),
            v6: Ipv6Addr::from_bits(self.v6.addr().to_bits() + u128::from(same_digits)),
        }
    }

    /// Host number `n` with the networks' prefix lengths, as a NIC gets it.
    #[must_use]
    pub fn on_nic(&self, n: u8) -> [IpNet; 2] {
        let host = self.host(n);
        [
            Ipv4Net::new(host.v4, self.v4.prefix_len()).expect("a length taken from a prefix").into(),
            Ipv6Net::new(host.v6, self.v6.prefix_len()).expect("a length taken from a prefix").into(),
        ]
    }

    /// The prefix of one family.
    #[must_use]
    pub fn of(&self, family: Family) -> IpNet {
        match family {
            Family::V4 => self.v4.into(),
            Family::V6 => self.v6.into(),
        }
    }
}

const fn network(v4: [u8; 4], len4: u8, v6: [u16; 4], len6: u8) -> Network {
    Network {
        v4: Ipv4Net::new_assert(Ipv4Addr::new(v4[0], v4[1], v4[2], v4[3]), len4),
        v6: Ipv6Net::new_assert(Ipv6Addr::new(v6[0], v6[1], v6[2], v6[3], 0, 0, 0, 0), len6),
    }
}

/// Where the front-end NICs are; a ToR is its gateway.
pub const FRONTEND: Network = network([192, 0, 2, 0], 25, [0x2001, 0xdb8, 2, 0], 64);
/// Where the agents' API and, on one hop, BGP is.
pub const MANAGEMENT: Network = network([198, 51, 100, 0], 25, [0x2001, 0xdb8, 0x51, 0], 64);
/// Where the ToRs speak BGP in a multihop fabric.
pub const PEERING: Network = network([198, 51, 100, 128], 25, [0x2001, 0xdb8, 0x52, 0], 64);
/// Where the client is.
pub const CLIENT: Network = network([192, 0, 2, 192], 26, [0x2001, 0xdb8, 0xc, 0], 64);
/// Where VIPs are taken from: what a ToR accepts.
pub const ANYCAST: Network = network([203, 0, 113, 0], 24, [0x2001, 0xdb8, 0x100, 0], 48);

/// The wire between the router and ToR `index` (at most 16 of them): the router is host 1, the ToR host 2.
///
/// # Panics
/// With more than 16 ToRs.
#[must_use]
pub fn transit(index: usize) -> Network {
    let index = u8::try_from(index).ok().filter(|index| *index < 16).expect("at most 16 ToRs");
    network([192, 0, 2, 128 + 4 * index], 30, [0x2001, 0xdb8, 7, u16::from(index)], 64)
}

/// ToR `index`'s host number on the front-end, management and peering networks.
///
/// # Panics
/// With more than 8 ToRs.
#[must_use]
pub fn tor_host(index: usize) -> u8 {
    u8::try_from(index + 1).ok().filter(|host| *host < PEERING_ROUTER_HOST).expect("at most 8 ToRs")
}

/// The host number of the router between management and peering, on both.
pub const PEERING_ROUTER_HOST: u8 = 9;
/// The controller's host number on the management network.
pub const CONTROLLER_HOST: u8 = 10;

/// Amphora `index`'s host number on the management and front-end networks.
///
/// # Panics
/// With more than 100 amphorae.
#[must_use]
pub fn amphora_host(index: usize) -> u8 {
    u8::try_from(index + 11).ok().filter(|host| *host < 112).expect("at most 100 amphorae")
}

/// VIP number `n` in each family.
#[must_use]
pub fn vip(n: u8) -> Dual {
    ANYCAST.host(n)
}
