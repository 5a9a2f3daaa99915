//! Route changes of a ToR's kernel with the time each was heard: straight from the netlink socket, for `ip monitor` and
//! its pipe take as long as a fast router.

use std::{
    net::IpAddr,
    os::fd::{AsRawFd as _, OwnedFd},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use lab::Place;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, setsockopt, socket,
    sockopt::RcvBufForce,
};

use crate::Result;

/// `RTMGRP_IPV4_ROUTE` and `RTMGRP_IPV6_ROUTE` (linux/rtnetlink.h).
const GROUPS: u32 = 0x40 | 0x400;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTA_DST: u16 = 1;
/// `struct nlmsghdr` and `struct rtmsg`.
const HEADERS: usize = 16 + 12;

/// A host route came or went.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) at: Instant,
    pub(crate) added: bool,
    pub(crate) destination: IpAddr,
}

/// Follows a kernel's routes. Its thread ends with the program.
#[derive(Debug)]
pub(crate) struct Routes(Receiver<Event>);

impl Routes {
    /// From now on.
    pub(crate) fn follow(place: &Place) -> Result<Self> {
        let open = || -> nix::Result<OwnedFd> {
            let (kind, flags) = (SockType::Raw, SockFlag::SOCK_CLOEXEC);
            let socket = socket(AddressFamily::Netlink, kind, flags, SockProtocol::NetlinkRoute)?;
            setsockopt(&socket, RcvBufForce, &(64 << 20))?; // 10,000 routes come at once
            bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
            Ok(socket)
        };
        let socket = place.within(open)??;
        let (sender, events) = channel();
        thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(read) = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                let at = Instant::now();
                for (added, destination) in messages(&buffer[..read]) {
                    if sender.send(Event { at, added, destination }).is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Self(events))
    }

    /// When the route was added, or with `added` false removed; other events are passed over.
    pub(crate) fn wait(&self, destination: IpAddr, added: bool) -> Result<Instant> {
        loop {
            let event = self.0.recv_timeout(Duration::from_secs(20));
            let event = event.map_err(|e| format!("the route to {destination} (added: {added}): {e}"))?;
            if event.destination == destination && event.added == added {
                return Ok(event.at);
            }
        }
    }

    /// When the last of so many more routes was added.
    pub(crate) fn wait_for_many(&self, number: usize) -> Result<Instant> {
        let mut seen = std::collections::HashSet::new();
        loop {
            let event = self.0.recv_timeout(Duration::from_secs(30));
            let event = event.map_err(|e| format!("{number} routes, so far {}: {e}", seen.len()))?;
            if event.added && seen.insert(event.destination) && seen.len() == number {
                return Ok(event.at);
            }
        }
    }

    /// Forgets what has been heard.
    pub(crate) fn clear(&self) {
        while self.0.try_recv().is_ok() {}
    }
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// The host routes in a datagram of netlink messages.
fn messages(mut datagram: &[u8]) -> Vec<(bool, IpAddr)> {
    let mut found = Vec::new();
    while let (Some(length), Some(kind)) = (datagram.get(..4), half(datagram, 4)) {
        let length = u32::from_ne_bytes(length.try_into().expect("four bytes")) as usize;
        let Some(message) = datagram.get(..length.max(16)) else { break };
        if matches!(kind, RTM_NEWROUTE | RTM_DELROUTE) {
            found.extend(destination(message).map(|ip| (kind == RTM_NEWROUTE, ip)));
        }
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

fn destination(message: &[u8]) -> Option<IpAddr> {
    let mut attributes = message.get(HEADERS..)?;
    while let (Some(length), Some(kind)) = (half(attributes, 0).map(usize::from), half(attributes, 2)) {
        if kind == RTA_DST {
            return match attributes.get(4..length)? {
                v4 if v4.len() == 4 => Some(IpAddr::from(<[u8; 4]>::try_from(v4).ok()?)),
                v6 => Some(IpAddr::from(<[u8; 16]>::try_from(v6).ok()?)),
            };
        }
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
    None
}
