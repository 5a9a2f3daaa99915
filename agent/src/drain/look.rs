//! The connections of clients to VIPs, as the kernel of the namespace has them.

use std::{
    collections::{BTreeSet, HashSet},
    io,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use netns::{Connection, Namespace};

use crate::{
    api::error::with_causes,
    keepalivedlvs::{files, table},
};

/// By whom and where to: what tells one connection from another.
pub(super) type Ends = (SocketAddr, SocketAddr);

/// What one look found.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    /// Every connection to one of the VIPs, those that are ending among them.
    pub(super) connections: Vec<Connection>,
    /// The VIPs whose UDP or SCTP cannot be counted.
    pub(super) uncounted: BTreeSet<IpAddr>,
    /// What was accepted in this namespace; absent where the kernel does not count it.
    pub(super) accepted: Option<Accepted>,
}

/// What a namespace has accepted: connections of clients that came and went between two looks are known by this alone.
#[derive(Clone, Debug, Default)]
pub(super) struct Accepted {
    /// How many since it was made, whatever the address, just before and just after the connections were listed.
    count: (u64, u64),
    /// Those that are no client's, as far as they can be seen: haproxy's peers, and what asks haproxy for its figures. They
    /// stay listed while they last and, closed in order, for another minute at one end.
    others: HashSet<Ends>,
}

impl Accepted {
    /// Whether a client came since an earlier look. One that is no client's counts too if it left no trace.
    pub(super) fn a_client_since(&self, earlier: &Self) -> bool {
        let others = self.others.difference(&earlier.others).count() as u64;
        self.count.1.saturating_sub(earlier.count.0) > others
    }
}

/// Looks. Blocks for as long as the kernel takes to list its connections.
pub(super) fn look(inside: &Namespace, base: &Path, vips: &BTreeSet<IpAddr>) -> Result<Found, String> {
    let before = inside.run(accepted).map_err(|error| with_causes(&error))?;
    let mut connections = inside.connections().map_err(|error| with_causes(&error))?;
    let has_lvs = files::directory(base).is_dir();
    let read = || (accepted(), has_lvs.then(lvs));
    let (after, lvs) = inside.run(read).map_err(|error| with_causes(&error))?;
    let listening = inside.listening().map_err(|error| with_causes(&error))?;
    let others = others(&connections, &listening, vips);
    let accepted = before.zip(after).map(|count| Accepted { count, others });
    connections.retain(|c| vips.contains(&c.local.ip()));
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

/// The connections that were accepted here and are to no VIP, each by its client first. Of one within the namespace either
/// end may be all that is left.
fn others(connections: &[Connection], listening: &[SocketAddr], vips: &BTreeSet<IpAddr>) -> HashSet<Ends> {
    let accepts = |at: SocketAddr| {
        let on =
            |l: &SocketAddr| l.port() == at.port() && (l.ip().is_unspecified() || l.ip().to_canonical() == at.ip());
        !vips.contains(&at.ip()) && listening.iter().any(on)
    };
    let mut others = HashSet::new();
    for Connection { local, remote, .. } in connections {
        if accepts(*local) {
            others.insert((*remote, *local));
        } else if (remote.ip().is_loopback() || remote.ip() == local.ip()) && accepts(*remote) {
            others.insert((*local, *remote));
        }
    }
    others
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
    fn what_is_accepted_beside_the_vips_is_no_client_while_it_is_there_and_after() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let vips = BTreeSet::from([IpAddr::from([203, 0, 113, 7])]);
        let listening = [at("203.0.113.7:80"), at("192.0.2.10:1025"), at("127.0.0.1:9101")];
        let connection = |local: &str, remote: &str| Connection { local: at(local), remote: at(remote), open: true };
        let found = |connections: &[Connection]| others(connections, &listening, &vips);
        let client = connection("203.0.113.7:80", "198.51.100.1:4000");
        let to_member = connection("192.0.2.10:40000", "198.51.100.9:80");
        let peer = connection("192.0.2.10:1025", "192.0.2.11:5000");
        let scrape = connection("127.0.0.1:40001", "127.0.0.1:9101");
        let its_other_end = connection("127.0.0.1:9101", "127.0.0.1:40001");
        assert_eq!(found(&[client, to_member]), [].into());
        let all = found(&[client, to_member, peer, scrape]);
        assert_eq!(all.len(), 2, "{all:?}");
        assert_eq!(found(&[peer, scrape, its_other_end]), all);

        let look = |before, after, others: &HashSet<Ends>| Accepted { count: (before, after), others: others.clone() };
        let first = look(10, 10, &[].into());
        assert!(!look(10, 10, &[].into()).a_client_since(&first));
        assert!(!look(12, 12, &all).a_client_since(&first), "a peer and a scrape");
        assert!(look(13, 13, &all).a_client_since(&first), "and a client");
        assert!(look(13, 13, &all).a_client_since(&look(12, 12, &all)));
        assert!(look(12, 13, &all).a_client_since(&look(12, 12, &all)), "while it was looked");
    }

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
