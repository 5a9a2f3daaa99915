//! One echo request, as `ping -n -w 1 -c 1` sends it, by a socket that needs no privilege (`ping_group_range`).

use std::{
    io::{self, Read as _},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, Socket, Type};

use super::{Verdict, is_refusal, is_timeout};

/// The types of RFC 792 and RFC 4443: request and reply.
const ECHO_V4: (u8, u8) = (8, 0);
const ECHO_V6: (u8, u8) = (128, 129);

pub(super) fn check(ip: IpAddr, timeout: Duration) -> io::Result<Verdict> {
    let (domain, protocol, (request, reply)) = match ip {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, ECHO_V4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, ECHO_V6),
    };
    let mut socket = Socket::new(domain, Type::DGRAM, Some(protocol))?;
    socket.connect(&SocketAddr::new(ip, 0).into())?;
    // Identifier and checksum are the kernel's (net/ipv4/ping.c), and only answers to this socket's come to it.
    socket.send(&[request, 0, 0, 0, 0, 0, 0, 1])?;
    let start = Instant::now();
    while let Some(left) = timeout.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
        socket.set_read_timeout(Some(left))?;
        let mut answer = [0; 64];
        match socket.read(&mut answer) {
            Ok(_) if answer[0] == reply => return Ok(Verdict::Up),
            Ok(_) => {}
            Err(error) if is_timeout(&error) => {}
            Err(error) if is_refusal(&error) => return Ok(Verdict::Refused),
            Err(error) => return Err(error),
        }
    }
    Ok(Verdict::Timeout)
}
