//! What the kernel's IPVS holds: `/proc/net/ip_vs` for the members, `ipvsadm` for the counters of each service, which are
//! in no file.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use netns::Namespace;

use super::config::Protocol;

/// A virtual service.
pub type Service = (Protocol, SocketAddr);

/// A real server as the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Its share of new connections; 0 gets none.
    pub weight: u64,
    /// Connections there are.
    pub active: u64,
}

/// The real servers of each service.
pub type Table = BTreeMap<Service, BTreeMap<SocketAddr, Destination>>;

/// A service's counters since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections.
    pub connections: u64,
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Bytes to clients.
    pub bytes_out: u64,
}

/// What the kernel holds in this namespace; nothing where it has no IPVS. Blocks for the time of a file read.
///
/// # Errors
/// The system's.
pub fn read(namespace: &Namespace) -> io::Result<Table> {
    // Per thread: /proc/net is the main thread's.
    let read = || std::fs::read_to_string("/proc/thread-self/net/ip_vs");
    match namespace.run(read).map_err(io::Error::other)? {
        Ok(text) => Ok(table(&text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Table::new()),
        Err(error) => Err(error),
    }
}

/// Reads `/proc/net/ip_vs` (`ip_vs_info_seq_show` of `net/netfilter/ipvs/ip_vs_ctl.c`): addresses and ports are
/// hexadecimal, an IPv6 address stands in brackets.
#[must_use]
pub fn table(text: &str) -> Table {
    let mut table = Table::new();
    let mut service = None;
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["->", address, _forward, weight, active, ..] => {
                let Some(members) = service.and_then(|s| table.get_mut(&s)) else { continue };
                let (Some(address), Ok(weight), Ok(active)) = (hexadecimal(address), weight.parse(), active.parse())
                else {
                    continue; // the head of the columns, for one
                };
                members.insert(address, Destination { weight, active });
            }
            [protocol, address, ..] => {
                service = Protocol::named(protocol).zip(hexadecimal(address));
                table.extend(service.map(|s| (s, BTreeMap::new())));
            }
            _ => {}
        }
    }
    table
}

/// Reads the output of `ipvsadm -Ln --stats --exact`. Without `--exact` counters above 99,999,999 come as `100M`.
#[must_use]
pub fn counters(text: &str) -> BTreeMap<Service, Counters> {
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [protocol, address, connections, _packets_in, _packets_out, bytes_in, bytes_out] = words[..] else {
            return None;
        };
        let counters = Counters {
            connections: connections.parse().ok()?,
            bytes_in: bytes_in.parse().ok()?,
            bytes_out: bytes_out.parse().ok()?,
        };
        Some(((Protocol::named(protocol)?, address.parse().ok()?), counters))
    };
    text.lines().filter_map(line).collect()
}

/// The clients of `/proc/net/ip_vs_conn` (`ip_vs_conn_seq_show` of `net/netfilter/ipvs/ip_vs_conn.c`), each with the service
/// it came to. Here addresses and ports are columns of their own, and an IPv6 address has no brackets.
#[must_use]
pub fn connections(text: &str) -> Vec<(SocketAddr, SocketAddr)> {
    let at = |ip: &str, port: &str| {
        let bracketed = if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") };
        hexadecimal(&bracketed)
    };
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_protocol, client, client_port, service, port, ..] = words[..] else { return None };
        at(client, client_port).zip(at(service, port))
    };
    text.lines().filter_map(line).collect()
}

fn hexadecimal(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.rsplit_once(':')?;
    let ip = match ip.strip_prefix('[') {
        Some(v6) => IpAddr::V6(v6.strip_suffix(']')?.parse::<Ipv6Addr>().ok()?),
        None if ip.len() == 8 => IpAddr::V4(Ipv4Addr::from_bits(u32::from_str_radix(ip, 16).ok()?)),
        None => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_read_with_client_and_service() {
        let text = "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData
UDP C6336405 9C40 CB007107 0035 0A000005 0035 UDP             297
UDP 2001:0db8:0000:0000:0000:0000:0000:0005 9C41 2001:0db8:0100:0000:0000:0000:0000:0007 0035 \
fd00:0000:0000:0000:0000:0000:0000:0005 0035 UDP             297
";
        let expected = [("198.51.100.5:40000", "203.0.113.7:53"), ("[2001:db8::5]:40001", "[2001:db8:100::7]:53")];
        let expected = expected.map(|(from, to)| (from.parse().unwrap(), to.parse().unwrap()));
        assert_eq!(connections(text), expected);
    }
}
