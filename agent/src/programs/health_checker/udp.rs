//! UDP has no handshake: a member is down when the network says so (ICMP port unreachable), else it is taken for up.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use super::{Verdict, is_refusal, is_timeout};

/// How often it is asked: a datagram or the answer to it may be lost, and routers limit how many they answer.
const TRIES: u32 = 3;

pub(super) fn check(member: SocketAddr, timeout: Duration) -> io::Result<Verdict> {
    let any = if member.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.connect(member)?;
    let start = Instant::now();
    for attempt in 1..=TRIES {
        // As netcat does. An empty datagram would do, but there are services that it ends.
        match socket.send(b"X") {
            Err(error) if is_refusal(&error) => return Ok(Verdict::Refused),
            sent => sent?,
        };
        let until = timeout * attempt / TRIES;
        while let Some(left) = until.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
            socket.set_read_timeout(Some(left))?;
            match socket.recv(&mut [0; 1]) {
                Ok(_) => return Ok(Verdict::Up),
                Err(error) if is_timeout(&error) => {}
                Err(error) if is_refusal(&error) => return Ok(Verdict::Refused),
                Err(error) => return Err(error),
            }
        }
    }
    Ok(Verdict::Up)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_port_is_down_and_silence_is_up() {
        let patience = Duration::from_millis(300);
        for ip in ["127.0.0.1", "::1"] {
            let member = UdpSocket::bind((ip, 0)).unwrap();
            let address = member.local_addr().unwrap();
            assert_eq!(check(address, patience).unwrap(), Verdict::Up, "{address}");
            drop(member);
            assert_eq!(check(address, Duration::from_mins(1)).unwrap(), Verdict::Refused, "{address}");
        }
    }
}
