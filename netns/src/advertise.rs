//! Telling the neighbours where an address is now, unasked: gratuitous ARP and unsolicited neighbour advertisements.
//!
//! The frames are the ones Octavia sends (`ip_advertisement.py`). They are written whole, Ethernet header and all: a
//! socket bound to the address itself could not be had while IPv6 still checks it for duplicates.

use std::{
    net::{IpAddr, Ipv6Addr},
    os::fd::AsRawFd as _,
};

use nix::{
    errno::Errno,
    ifaddrs::getifaddrs,
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, bind, send, socket},
};

use crate::{Error, Kind, Mac, Namespace, Result};

const BROADCAST: [u8; 6] = [0xff; 6];
/// All nodes on the link (RFC 4291 section 2.7.1), and the MAC of that group (RFC 2464 section 7).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

/// Tells everybody on the link `name` that `ip` is at its MAC. Never for an anycast address: it is at many.
pub fn advertise(namespace: &Namespace, name: &str, ip: IpAddr) -> Result<()> {
    let operation = "advertise";
    let object = || format!("{ip} on {name}");
    let sent = namespace.run(|| {
        let link = getifaddrs()?
            .filter(|interface| interface.interface_name == name)
            .find_map(|interface| interface.address?.as_link_addr().copied());
        let Some((link, mac)) = link.and_then(|link| Some((link, Mac::new(link.addr()?).ok()?))) else {
            return Err(Errno::ENODEV);
        };
        let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
        bind(socket.as_raw_fd(), &link)?; // its protocol is 0: it sends, and receives nothing
        send(socket.as_raw_fd(), &frame(mac, ip), MsgFlags::empty())
    })?;
    match sent {
        Ok(_) => Ok(()),
        Err(Errno::ENODEV | Errno::ENXIO) => Err(Error::new(operation, object(), Kind::NoDevice)),
        Err(Errno::ENETDOWN) => Err(Error::new(operation, object(), Kind::LinkDown)),
        Err(errno) => Err(Error::io(operation, object(), errno.into())),
    }
}

fn frame(mac: Mac, ip: IpAddr) -> Vec<u8> {
    let mac = mac.bytes();
    match ip {
        IpAddr::V4(ip) => {
            let mut frame = [BROADCAST, mac].concat();
            // ARP; Ethernet and IPv4, 6 and 4 bytes long; a request (RFC 826), of ourselves (RFC 5944 section 4.6).
            frame.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1]);
            frame.extend(mac);
            frame.extend(ip.octets());
            frame.extend(BROADCAST);
            frame.extend(ip.octets());
            frame
        }
        IpAddr::V6(ip) => {
            // Type 136, router and override (RFC 4861 section 4.4), then the target's link-layer address.
            let mut message = vec![136, 0, 0, 0, 0xa0, 0, 0, 0];
            message.extend(ip.octets());
            message.extend([2, 1]);
            message.extend(mac);
            let length = u8::try_from(message.len()).expect("32 bytes");
            let pseudo = [&ip.octets()[..], &ALL_NODES.octets(), &[0, 0, 0, length, 0, 0, 0, 58]].concat();
            let sum = checksum(&[pseudo, message.clone()].concat());
            message[2..4].copy_from_slice(&sum.to_be_bytes());

            let mut frame = [ALL_NODES_MAC, mac].concat();
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, length, 58, 255]);
            frame.extend(ip.octets());
            frame.extend(ALL_NODES.octets());
            frame.extend(message);
            frame
        }
    }
}

/// The Internet checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.as_chunks::<2>().0.iter().map(|word| u32::from(u16::from_be_bytes(*word)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded above")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frames_are_octavias() {
        let mac: Mac = "fa:16:3e:00:00:01".parse().unwrap();
        let arp = frame(mac, "192.0.2.7".parse().unwrap());
        assert_eq!(arp.len(), 42);
        assert_eq!(arp[28..32], [192, 0, 2, 7]);
        assert_eq!(arp[32..], [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 192, 0, 2, 7]);
        let advertisement = frame(mac, "2001:db8::7".parse().unwrap());
        assert_eq!(advertisement.len(), 14 + 40 + 32);
        assert_eq!((advertisement[20], advertisement[21]), (58, 255), "ICMPv6, from this very link");
        // A packet with its checksum in place sums up to nothing.
        let packet = &advertisement[14..];
        let pseudo = [&packet[8..40], &[0, 0, 0, 32, 0, 0, 0, 58]].concat();
        assert_eq!(checksum(&[&pseudo[..], &packet[40..]].concat()), 0);
    }
}
