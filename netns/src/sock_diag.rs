//! The sockets of a namespace, asked of the kernel (`sock_diag(7)`) rather than read from `/proc/net/tcp`, which lists
//! every connection to find the few sockets that listen, and as text.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use nix::sys::{
    socket::{setsockopt, sockopt::ReceiveTimeout},
    time::TimeVal,
};
use rtnetlink::sys::{Socket, SocketAddr as Netlink, protocols::NETLINK_SOCK_DIAG};

use crate::{Error, Namespace, Result};

/// The kernel has answered when the request is sent; this is for one that does not.
const DEADLINE: Duration = Duration::from_secs(2);

// include/uapi/linux/sock_diag.h, inet_diag.h, netlink.h and include/net/tcp_states.h
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const IPPROTO_TCP: u8 = 6;
const TCP_ESTABLISHED: u8 = 1;
const TCP_CLOSE: u8 = 7;
const TCP_CLOSE_WAIT: u8 = 8;
const TCP_LISTEN: u8 = 10;
/// One more than the last state (`TCP_MAX_STATES`, with `TCP_BOUND_INACTIVE` before it).
const TCP_MAX_STATES: u8 = 14;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// `struct nlmsghdr`
const HEADER: usize = 16;
/// `struct nlmsghdr` and `struct inet_diag_req_v2`
const REQUEST: usize = HEADER + 56;
/// `struct inet_diag_msg`
const ANSWER: usize = 72;

/// A TCP connection as one of its ends has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Connection {
    /// This end.
    pub local: SocketAddr,
    /// The other one.
    pub remote: SocketAddr,
    /// This end may still send: it is established, whether the other end has finished sending or not.
    pub open: bool,
}

impl Namespace {
    /// The TCP sockets that listen here, sorted; one address may be there for each process that shares it.
    pub fn listening(&self) -> Result<Vec<SocketAddr>> {
        let fail = |error| Error::io("list the sockets of", self.label(), error);
        let listening = |family| sockets(family, 1 << TCP_LISTEN, |s| s.local);
        let mut all = self.run(|| Ok([listening(AF_INET)?, listening(AF_INET6)?].concat()))?.map_err(fail)?;
        all.sort_unstable();
        Ok(all)
    }

    /// The TCP connections there are, those that are being made or are ending among them, in no order. An IPv4 connection
    /// to an IPv6 socket has IPv4 addresses.
    pub fn connections(&self) -> Result<Vec<Connection>> {
        let fail = |error| Error::io("list the connections of", self.label(), error);
        let states = ((1 << TCP_MAX_STATES) - 1) & !((1 << TCP_LISTEN) | (1 << TCP_CLOSE));
        let connection = |s: SocketOf| {
            let plain = |at: SocketAddr| SocketAddr::new(at.ip().to_canonical(), at.port());
            let open = matches!(s.state, TCP_ESTABLISHED | TCP_CLOSE_WAIT);
            Connection { local: plain(s.local), remote: plain(s.remote), open }
        };
        let all = |family| sockets(family, states, connection);
        self.run(|| Ok([all(AF_INET)?, all(AF_INET6)?].concat()))?.map_err(fail)
    }
}

/// What an answer says of a socket.
struct SocketOf {
    state: u8,
    local: SocketAddr,
    remote: SocketAddr,
}

fn sockets<T>(family: u8, states: u32, take: impl Fn(SocketOf) -> T) -> io::Result<Vec<T>> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    let deadline = TimeVal::new(DEADLINE.as_secs().cast_signed(), 0);
    setsockopt(&socket, ReceiveTimeout, &deadline)?;
    socket.bind_auto()?;
    socket.send_to(&request(family, states), &Netlink::new(0, 0), 0)?;
    let mut found = Vec::new();
    loop {
        let mut batch = Vec::with_capacity(32 * 1024); // as much as the kernel puts into one (`NLMSG_GOODSIZE` and up)
        let length = socket.recv(&mut batch, 0)?;
        if length > batch.len() {
            return Err(io::Error::other("an answer of the kernel's was cut short"));
        }
        if read(&batch, |s| found.push(take(s)))? {
            return Ok(found);
        }
    }
}

/// A dump of the sockets of one family in one of `states`, each a bit.
fn request(family: u8, states: u32) -> [u8; REQUEST] {
    let mut bytes = [0; REQUEST];
    bytes[0..4].copy_from_slice(&u32::try_from(REQUEST).unwrap_or_default().to_ne_bytes());
    bytes[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes[6..8].copy_from_slice(&NLM_F_REQUEST_DUMP.to_ne_bytes());
    bytes[HEADER] = family;
    bytes[HEADER + 1] = IPPROTO_TCP;
    bytes[HEADER + 4..HEADER + 8].copy_from_slice(&states.to_ne_bytes());
    bytes
}

/// Takes a batch of answers apart; whether it was the last.
fn read(mut batch: &[u8], mut found: impl FnMut(SocketOf)) -> io::Result<bool> {
    let malformed = || io::Error::other("an answer of the kernel's makes no sense");
    while !batch.is_empty() {
        let (length, kind) = header(batch).ok_or_else(malformed)?;
        let message = batch.get(HEADER..length).ok_or_else(malformed)?;
        match kind {
            NLMSG_DONE | NLMSG_ERROR => {
                let code = message.first_chunk::<4>().map_or(0, |code| i32::from_ne_bytes(*code));
                return if code < 0 { Err(io::Error::from_raw_os_error(-code)) } else { Ok(true) };
            }
            SOCK_DIAG_BY_FAMILY => found(socket(message).ok_or_else(malformed)?),
            _ => {}
        }
        batch = batch.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// The length and the type of a netlink message.
fn header(bytes: &[u8]) -> Option<(usize, u16)> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?);
    Some((usize::try_from(length).ok()?, u16::from_ne_bytes([*bytes.get(4)?, *bytes.get(5)?])))
}

/// The socket of a `struct inet_diag_msg`; ports and addresses are in the network's order.
fn socket(message: &[u8]) -> Option<SocketOf> {
    let message = message.get(..ANSWER)?;
    let end = |port: usize, ip: usize| {
        let port = u16::from_be_bytes([message[port], message[port + 1]]);
        let ip: IpAddr = if message[0] == AF_INET {
            Ipv4Addr::from(*message[ip..].first_chunk::<4>()?).into()
        } else {
            Ipv6Addr::from(*message[ip..].first_chunk::<16>()?).into()
        };
        Some(SocketAddr::new(ip, port))
    };
    Some(SocketOf { state: message[1], local: end(4, 8)?, remote: end(6, 24)? })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn sockets_that_listen_are_found_and_connections_are_not() {
        let here = Namespace::current().unwrap();
        let (v4, v6) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("[::1]:0").unwrap());
        let (v4_at, v6_at) = (v4.local_addr().unwrap(), v6.local_addr().unwrap());
        let client = std::net::TcpStream::connect(v4_at).unwrap();
        let found = here.listening().unwrap();
        assert!(found.contains(&v4_at) && found.contains(&v6_at), "{found:?}");
        assert!(!found.contains(&client.local_addr().unwrap()), "{found:?}");
        drop((v4, v6));
        let found = here.listening().unwrap();
        assert!(!found.contains(&v4_at) && !found.contains(&v6_at), "{found:?}");
    }

    #[test]
    fn connections_are_found_from_both_ends_and_a_closed_one_is_not_open() {
        let here = Namespace::current().unwrap();
        let listener = TcpListener::bind("[::]:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let open = |local: SocketAddr| {
            let all = here.connections().unwrap();
            let found = all.iter().filter(|c| c.local == local || c.remote == local);
            found.map(|c| (c.local.port() == port, c.open)).collect::<std::collections::BTreeSet<_>>()
        };
        for to in ["127.0.0.1", "::1"] {
            let client = std::net::TcpStream::connect((to, port)).unwrap();
            let (server, _) = listener.accept().unwrap();
            let local = client.local_addr().unwrap();
            assert_eq!(open(local), [(true, true), (false, true)].into(), "{to}");
            drop(server); // has received nothing, so it ends in order
            drop(client);
            assert!(!open(local).contains(&(true, true)), "{to}");
        }
    }

    #[test]
    fn an_answer_that_is_cut_off_is_an_error_and_no_end() {
        let mut done = request(AF_INET, 1).to_vec();
        done[4..6].copy_from_slice(&NLMSG_DONE.to_ne_bytes());
        for cut in 1..HEADER {
            assert!(read(&done[..cut], |_| {}).is_err(), "{cut}");
        }
        assert!(read(&done, |_| {}).unwrap());
        done[HEADER..HEADER + 4].copy_from_slice(&(-2_i32).to_ne_bytes());
        assert_eq!(read(&done, |_| {}).unwrap_err().raw_os_error(), Some(2));
    }
}
