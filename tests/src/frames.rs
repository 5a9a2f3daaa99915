//! Frames made by hand: questions for a neighbour's address in every form a host or router asks them, also those a
//! kernel asks only in states that are hard to bring about.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, bind, send, socket};

use crate::addresses::Dual;
use crate::error::{Error, Result, io};
use crate::place::Place;

/// A MAC address.
pub type Mac = [u8; 6];

const BROADCAST: Mac = [0xff; 6];

/// A NIC that asks. What it is answered is seen by a capture, and by the kernel that owns the NIC.
#[derive(Debug)]
pub struct Asker {
    socket: OwnedFd,
    mac: Mac,
    own: Dual,
}

impl Asker {
    /// Asks from `nic` with these addresses as its own.
    pub fn open(place: &Place, nic: &str, own: Dual) -> Result<Self> {
        let what = || format!("{}: a packet socket on {nic}", place.name());
        let open = || -> nix::Result<_> {
            let link = getifaddrs()?
                .filter(|interface| interface.interface_name == nic)
                .find_map(|interface| interface.address?.as_link_addr().copied());
            let Some(link) = link else { return Ok(None) };
            let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
            bind(socket.as_raw_fd(), &link)?; // its protocol is 0: it sends, and receives nothing
            Ok(link.addr().map(|mac| (socket, mac)))
        };
        let Some((socket, mac)) = place.within(open)?.map_err(io(what()))? else {
            return Err(Error::Missing(format!("{}: no such NIC", what())));
        };
        Ok(Self { socket, mac, own })
    }

    /// Asks who has `target`, twice: everybody, and then `holder` alone, as a kernel does that has known the answer.
    pub fn ask(&self, target: IpAddr, holder: Mac) -> Result<()> {
        self.send(&match target {
            IpAddr::V4(target) => [self.arp(BROADCAST, self.own.v4, target), self.arp(holder, self.own.v4, target)],
            IpAddr::V6(target) => {
                let (to_group, group) = solicited_node(target);
                [
                    self.solicitation(to_group, self.own.v6, group, target),
                    self.solicitation(holder, self.own.v6, target, target),
                ]
            }
        })
    }

    /// Asks everybody from no address, as somebody does who is about to take `target` for their own (RFC 5227, 4862). A
    /// kernel whose IPv6 address is tentative takes that for a conflict, and gives the address up.
    pub fn probe(&self, target: IpAddr) -> Result<()> {
        self.send(&[match target {
            IpAddr::V4(target) => self.arp(BROADCAST, Ipv4Addr::UNSPECIFIED, target),
            IpAddr::V6(target) => {
                let (to_group, group) = solicited_node(target);
                self.solicitation(to_group, Ipv6Addr::UNSPECIFIED, group, target)
            }
        }])
    }

    fn send(&self, frames: &[Vec<u8>]) -> Result<()> {
        for frame in frames {
            send(self.socket.as_raw_fd(), frame, MsgFlags::empty()).map_err(io("send a frame"))?;
        }
        Ok(())
    }

    /// An ARP request (RFC 826).
    fn arp(&self, to: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
        let mut frame = [to, self.mac].concat();
        frame.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1]);
        frame.extend(self.mac);
        frame.extend(sender.octets());
        frame.extend([0; 6]);
        frame.extend(target.octets());
        frame
    }

    /// A neighbour solicitation (RFC 4861 section 4.3), with our MAC in it unless it comes from no address.
    fn solicitation(&self, to: Mac, source: Ipv6Addr, destination: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
        let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
        message.extend(target.octets());
        if !source.is_unspecified() {
            message.extend([1, 1]);
            message.extend(self.mac);
        }
        let length = u8::try_from(message.len()).expect("24 or 32 bytes");
        let pseudo = [&source.octets()[..], &destination.octets(), &[0, 0, 0, length, 0, 0, 0, 58]].concat();
        let sum = checksum(&[pseudo, message.clone()].concat());
        message[2..4].copy_from_slice(&sum.to_be_bytes());

        let mut frame = [to, self.mac].concat();
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, length, 58, 255]);
        frame.extend(source.octets());
        frame.extend(destination.octets());
        frame.extend(message);
        frame
    }
}

/// The group that everybody with this address listens to (RFC 4291 section 2.7.1), with its MAC (RFC 2464 section 7).
fn solicited_node(target: Ipv6Addr) -> (Mac, Ipv6Addr) {
    let group = Ipv6Addr::from_bits(0xff02_0000_0000_0000_0000_0001_ff00_0000 | target.to_bits() & 0xff_ffff);
    let [.., a, b, c, d] = group.octets();
    ([0x33, 0x33, a, b, c, d], group)
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
