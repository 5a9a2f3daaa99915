//! Half of an SCTP handshake (RFC 9260 section 5.1) on a raw socket: INIT, and whether an INIT ACK comes. The kernel
//! need not know SCTP.

use std::{
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, Socket, Type};

use super::{Verdict, is_refusal, is_timeout};

/// `IPPROTO_SCTP`
const SCTP: i32 = 132;
/// Chunk types, RFC 9260 section 3.2.
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const ABORT: u8 = 6;
/// How long one look at the socket takes.
const LOOK: Duration = Duration::from_millis(200);
/// The common header: ports, verification tag, checksum.
const HEADER: usize = 12;

pub(super) fn check(member: SocketAddr, timeout: Duration) -> io::Result<Verdict> {
    let domain = if member.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let mut socket = Socket::new(domain, Type::RAW, Some(Protocol::from(SCTP)))?;
    socket.set_read_timeout(Some(LOOK))?;
    // A raw socket has no ports; connected, it hears of nobody else.
    socket.connect(&SocketAddr::new(member.ip(), 0).into())?;
    let (tag, ports) = (random_not_zero(), (1024 + (random_not_zero() % 64_000) as u16, member.port()));
    println!("Sending INIT packet to {member}");
    socket.write_all(&init(ports, tag, random_not_zero()))?;
    let start = Instant::now();
    while start.elapsed() < timeout {
        let mut packet = [0; 1500];
        let length = match socket.read(&mut packet) {
            Ok(length) => length,
            Err(error) if is_timeout(&error) => continue,
            Err(error) if is_refusal(&error) => return Ok(Verdict::Refused),
            Err(error) => return Err(error),
        };
        let Some(chunk) = reply(&packet[..length], member, tag) else { continue };
        if chunk == ABORT {
            println!("Received ABORT");
            return Ok(Verdict::Refused);
        }
        // A kernel with SCTP knows nothing of this handshake and ends it by itself.
        if !kernel_has_sctp() {
            println!("Sending ABORT packet");
            socket.write_all(&abort(ports, tag))?;
        }
        if chunk == INIT_ACK {
            println!("Received INIT ACK");
            return Ok(Verdict::Up);
        }
        println!("Received {chunk} Type chunk");
        return Ok(Verdict::Unexpected);
    }
    println!("Timeout after {} seconds.", timeout.as_secs());
    Ok(Verdict::Timeout)
}

/// The type of the first chunk of an answer to our INIT; `None` for a packet that is none. An IPv4 raw socket gives the IP
/// header too (raw(7)), an IPv6 one not.
fn reply(packet: &[u8], member: SocketAddr, tag: u32) -> Option<u8> {
    let start = if member.is_ipv4() { usize::from(packet.first()? & 0xf) * 4 } else { 0 };
    let packet = packet.get(start..)?;
    let (header, chunk) = packet.split_at_checked(HEADER)?;
    (header[4..8] == tag.to_be_bytes() && chunk.len() >= 4).then(|| chunk[0])
}

fn init(ports: (u16, u16), tag: u32, tsn: u32) -> Vec<u8> {
    let mut value = Vec::new();
    value.extend(tag.to_be_bytes());
    value.extend(106_496_u32.to_be_bytes()); // receiver window, as Octavia's checker says
    value.extend(10_u16.to_be_bytes()); // outbound streams
    value.extend(u16::MAX.to_be_bytes()); // inbound streams
    value.extend(tsn.to_be_bytes());
    packet(ports, 0, [INIT, 0], &value) // an INIT goes with tag 0
}

/// With the T bit, which says that the tag is our own (RFC 9260 section 8.5.1).
fn abort(ports: (u16, u16), tag: u32) -> Vec<u8> {
    packet(ports, tag, [ABORT, 1], &[])
}

fn packet((from, to): (u16, u16), tag: u32, kind: [u8; 2], value: &[u8]) -> Vec<u8> {
    let mut packet = Vec::with_capacity(HEADER + 4 + value.len());
    packet.extend(from.to_be_bytes());
    packet.extend(to.to_be_bytes());
    packet.extend(tag.to_be_bytes());
    packet.extend([0; 4]);
    packet.extend(kind); // type and flags
    let length = u16::try_from(4 + value.len()).expect("a chunk of ours is short");
    packet.extend(length.to_be_bytes());
    packet.extend(value);
    // The least significant byte first: RFC 9260 appendix A.
    let checksum = crc32c(&packet).to_le_bytes();
    packet[8..HEADER].copy_from_slice(&checksum);
    packet
}

/// `CRC32c` (RFC 9260 appendix A), bit by bit: it is over three dozen bytes.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 })
    })
}

fn kernel_has_sctp() -> bool {
    let protocols = std::fs::read_to_string("/proc/thread-self/net/protocols").unwrap_or_default();
    protocols.lines().any(|line| line.starts_with("SCTP"))
}

/// For tags, which must differ from one check to the next and need not be secret.
fn random_not_zero() -> u32 {
    use std::hash::{BuildHasher as _, RandomState};
    // A RandomState differs each time and is seeded by the kernel's randomness.
    let number = RandomState::new().hash_one(std::process::id());
    u32::try_from(number >> 32).unwrap_or_default().max(1)
}

#[cfg(test)]
mod tests;
