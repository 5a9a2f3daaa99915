//! What peers have not acknowledged yet, from the kernel's table of sockets.
//!
//! gobgpd takes a withdrawal and says so before it is on the wire; and until the hold time is over it takes a session for
//! up whose other end is gone. Only TCP knows what has arrived. gobgpd's sockets are in the agent's own network namespace.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv6Addr},
};

/// The port of BGP in the table.
const BGP: &str = ":00B3";
/// `TCP_ESTABLISHED`, `include/net/tcp_states.h`.
const ESTABLISHED: &str = "01";

/// The addresses of peers that have not acknowledged all they were sent.
pub(super) fn unacknowledged() -> io::Result<BTreeSet<IpAddr>> {
    let mut found = BTreeSet::new();
    for table in ["tcp", "tcp6"] {
        match std::fs::read_to_string(format!("/proc/self/net/{table}")) {
            Ok(table) => found.extend(table.lines().filter_map(peer)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {} // without IPv6
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// The other end of a BGP connection with bytes in its sending queue (proc(5), `/proc/net/tcp`).
fn peer(line: &str) -> Option<IpAddr> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let [local, remote, state, queues] = [fields.next()?, fields.next()?, fields.next()?, fields.next()?];
    let sending = u64::from_str_radix(queues.split_once(':')?.0, 16).ok()?;
    let ours = state == ESTABLISHED && (local.ends_with(BGP) || remote.ends_with(BGP));
    (ours && sending > 0).then(|| address(remote.split_once(':')?.0))?
}

/// Words of 32 bits in the machine's order, each 8 hexadecimal digits: one, or four.
fn address(digits: &str) -> Option<IpAddr> {
    let word = |at: usize| Some(u32::from_str_radix(digits.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    if digits.len() == 8 {
        return Some(word(0)?.into());
    }
    let bytes = [word(0)?, word(8)?, word(16)?, word(24)?].concat();
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn lines_as_the_kernel_writes_them() {
        let line = |local: &str, remote: &str, state: &str, queues: &str| {
            peer(&format!("  12: {local} {remote} {state} {queues} 01:00000014 00000000 59179 0 24412 2"))
        };
        let (ours, theirs) = ("0B6433C6:00B3", "016433C6:C1EC");
        let tor = Some("198.51.100.1".parse().unwrap());
        assert_eq!(line(ours, theirs, "01", "00000017:00000000"), tor);
        assert_eq!(line("0B6433C6:C1EC", "016433C6:00B3", "01", "00000017:00000000"), tor, "dialled");
        assert_eq!(line(ours, theirs, "01", "00000000:00000017"), None, "only received");
        assert_eq!(line(ours, theirs, "06", "00000017:00000000"), None, "no session");
        assert_eq!(line("0B6433C6:24E3", theirs, "01", "00000017:00000000"), None, "not BGP");
        let mapped = ["0000000000000000FFFF00000B6433C6:00B3", "0000000000000000FFFF0000016433C6:C1EC"];
        assert_eq!(line(mapped[0], mapped[1], "01", "00000001:00000000"), tor);
        let six = line(mapped[0], "B80D0120000000000000000001000000:C1EC", "01", "00000001:00000000");
        assert_eq!(six, Some("2001:db8::1".parse().unwrap()));
        assert_eq!(peer("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt"), None);
    }
}
