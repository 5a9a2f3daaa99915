//! The connections of clients to VIPs, as the kernel of the namespace has them.

use std::{collections::BTreeSet, io, net::IpAddr, path::Path};

use netns::{Connection, Namespace};

use crate::{
    api::error::with_causes,
    keepalivedlvs::{files, table},
};

/// What one look found.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    /// Every connection to one of the VIPs, those that are ending among them.
    pub(super) connections: Vec<Connection>,
    /// The VIPs whose UDP or SCTP cannot be counted.
    pub(super) uncounted: BTreeSet<IpAddr>,
    /// Connections that were accepted in this namespace since it was made, whatever the address.
    pub(super) accepted: Option<u64>,
}

/// Looks. Blocks for as long as the kernel takes to list its connections.
pub(super) fn look(inside: &Namespace, base: &Path, vips: &BTreeSet<IpAddr>) -> Result<Found, String> {
    let mut connections = inside.connections().map_err(|error| with_causes(&error))?;
    connections.retain(|c| vips.contains(&c.local.ip()));
    let has_lvs = files::directory(base).is_dir();
    let read = || (accepted(), has_lvs.then(lvs));
    let (accepted, lvs) = inside.run(read).map_err(|error| with_causes(&error))?;
    let mut found = Found { connections, accepted, ..Found::default() };
    match lvs {
        None => {}
        Some(Ok((services, conns))) => {
            let served: BTreeSet<_> = table::table(&services).into_keys().map(|(_, at)| at.ip()).collect();
            found.uncounted = served.into_iter().filter(|ip| conns.is_none() && vips.contains(ip)).collect();
            let of = conns.as_deref().map(table::connections).unwrap_or_default().into_iter();
            let of = of.map(|(remote, local)| Connection { local, remote, open: true });
            found.connections.extend(of.filter(|c| vips.contains(&c.local.ip())));
        }
        Some(Err(_)) => found.uncounted.clone_from(vips),
    }
    Ok(found)
}

/// IPVS's services, and its connections where the kernel tells of them; without IPVS there are none.
fn lvs() -> io::Result<(String, Option<String>)> {
    let read = |name: &str| match std::fs::read_to_string(format!("/proc/thread-self/net/{name}")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        text => text.map(Some),
    };
    Ok((read("ip_vs")?.unwrap_or_default(), read("ip_vs_conn")?))
}

/// `Tcp: PassiveOpens` (RFC 4022, `tcpPassiveOpens`) of the thread's network.
fn accepted() -> Option<u64> {
    passive_opens(&std::fs::read_to_string("/proc/thread-self/net/snmp").ok()?)
}

/// Each protocol has a line of names, then one of values.
fn passive_opens(text: &str) -> Option<u64> {
    let mut tcp = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (tcp.next()?, tcp.next()?);
    let at = names.split_whitespace().position(|name| name == "PassiveOpens")?;
    values.split_whitespace().nth(at)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_connections_are_counted_by_the_kernel() {
        let before = accepted().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        listener.accept().unwrap();
        assert!(accepted().unwrap() > before);
        assert_eq!(passive_opens("Tcp: ActiveOpens PassiveOpens\nTcp: 5 7\n"), Some(7));
        assert_eq!(passive_opens("Udp: InDatagrams\nUdp: 5\n"), None);
    }
}
