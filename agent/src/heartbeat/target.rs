//! Where heartbeats go: the health managers one after the other, their names resolved, and how each of them fares.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

use tokio::{
    task::JoinHandle,
    time::{Instant, timeout_at},
};

use crate::config::Controller;

/// How one health manager fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Heartbeats that left this machine for it. Whether they arrive nobody tells: there is no answer.
    pub sent: u64,
    /// Heartbeats that could not be sent to it, by [`reason`].
    pub failed: BTreeMap<&'static str, u64>,
    /// Why the last one could not, until two in a row could: where nobody listens, that is known only of the one before.
    pub error: Option<String>,
    /// One could be sent since then.
    pub sent_since: bool,
}

/// The kinds of errors that are counted: what an operator would look into is another for each.
pub(super) fn reason(error: &io::Error) -> &'static str {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::ConnectionRefused => "refused",
        Kind::NetworkUnreachable | Kind::HostUnreachable => "unreachable",
        Kind::PermissionDenied => "forbidden",
        Kind::NotFound | Kind::TimedOut => "unresolved",
        _ => "other",
    }
}

/// The health managers, in turn.
#[derive(Debug, Default)]
pub(super) struct Targets {
    controllers: Vec<Controller>,
    next: usize,
    /// Sockets the last heartbeats were sent from. They are kept for what the network may say of these.
    sent: BTreeMap<Controller, UdpSocket>,
    names: BTreeMap<Controller, JoinHandle<io::Result<SocketAddr>>>,
}

impl Targets {
    /// Takes over the list of the configuration; a changed one starts with its first.
    pub(super) fn configure(&mut self, controllers: &[Controller]) {
        if self.controllers != controllers {
            self.controllers = controllers.to_vec();
            self.next = 0;
            self.names.retain(|controller, _| controllers.contains(controller));
            self.sent.retain(|controller, _| controllers.contains(controller));
        }
    }

    /// Sends to the next one; where this machine cannot, to the one after it, once round. `note` hears of each attempt.
    /// Whether it was sent.
    pub(super) async fn send(
        &mut self,
        datagram: &[u8],
        until: Instant,
        mut note: impl FnMut(&Controller, io::Result<()>),
    ) -> bool {
        for _ in 0..self.controllers.len() {
            let controller = self.controllers[self.next].clone();
            self.next = (self.next + 1) % self.controllers.len();
            let sent = self.send_to(&controller, datagram, until).await;
            let is_sent = sent.is_ok();
            note(&controller, sent);
            if is_sent {
                return true;
            }
        }
        false
    }

    /// Sends, unless the last one was answered with an ICMP error, which is heard of only now: most likely nobody listens
    /// there, and the next turn tries again.
    ///
    /// A datagram is sent at once or not at all, so time that reading has used up does not matter here.
    ///
    /// Each heartbeat has a socket of its own, so that it comes from the address this machine has now, and a connected
    /// one, so that nobody but the target can send anything to it.
    async fn send_to(&mut self, controller: &Controller, datagram: &[u8], until: Instant) -> io::Result<()> {
        if let Some(error) = self.sent.remove(controller).map(|before| before.take_error()).transpose()?.flatten() {
            return Err(error);
        }
        let address = self.resolve(controller, until).await?;
        let any: IpAddr = if address.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
        socket.set_nonblocking(true)?;
        socket.connect(address)?;
        socket.send(datagram)?;
        self.sent.insert(controller.clone(), socket);
        Ok(())
    }

    /// The first address of a name, as upstream takes it. A resolver that takes longer than `until` goes on, and its
    /// answer is for the next time: there is never more than one at work for a name.
    async fn resolve(&mut self, controller: &Controller, until: Instant) -> io::Result<SocketAddr> {
        if let Ok(ip) = controller.host.parse() {
            return Ok(SocketAddr::new(ip, controller.port));
        }
        let name = (controller.host.clone(), controller.port);
        let lookup = || {
            tokio::spawn(async move {
                let unresolved = |error| io::Error::new(io::ErrorKind::NotFound, error);
                let mut found = tokio::net::lookup_host(name).await.map_err(unresolved)?;
                found.next().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
            })
        };
        let resolving = self.names.entry(controller.clone()).or_insert_with(lookup);
        let Ok(resolved) = timeout_at(until, resolving).await else {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the name is still being resolved"));
        };
        self.names.remove(controller);
        resolved.unwrap_or_else(|end| Err(io::Error::other(end)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::UdpSocket;

    use super::*;

    fn controller(host: &str, port: u16) -> Controller {
        Controller { host: host.to_owned(), port }
    }

    #[tokio::test]
    async fn targets_take_turns_and_one_that_cannot_be_reached_leaves_its_turn_to_the_next() {
        let receivers = [UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("[::1]:0").await.unwrap()];
        let [v4, v6] = [0, 1].map(|n: usize| receivers[n].local_addr().unwrap());
        let unreachable = controller("no such name", 1);
        let all = [controller("127.0.0.1", v4.port()), unreachable.clone(), controller("::1", v6.port())];
        let mut targets = Targets::default();
        targets.configure(&all);
        let mut noted = Vec::new();
        for beat in 0..4_u8 {
            targets.configure(&all);
            let until = Instant::now() + Duration::from_secs(30);
            assert!(targets.send(&[beat], until, |to, how| noted.push((to.host.clone(), how.is_ok()))).await);
        }
        let expected = [
            ("127.0.0.1", true),
            ("no such name", false),
            ("::1", true),
            ("127.0.0.1", true),
            ("no such name", false),
            ("::1", true),
        ];
        assert_eq!(noted, expected.map(|(host, how)| (host.to_owned(), how)));
        for (receiver, beats) in receivers.iter().zip([[0, 2], [1, 3]]) {
            for beat in beats {
                let mut buffer = [9; 2];
                assert_eq!(receiver.recv(&mut buffer).await.unwrap(), 1);
                assert_eq!(buffer[0], beat);
            }
        }
        targets.configure(&[unreachable]);
        assert!(!targets.send(&[9], Instant::now() + Duration::from_secs(30), |_, _| {}).await);
    }

    #[tokio::test]
    async fn a_heartbeat_that_took_all_its_time_to_be_made_is_sent() {
        let receiver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut targets = Targets::default();
        targets.configure(&[controller("127.0.0.1", receiver.local_addr().unwrap().port())]);
        let over = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
        assert!(targets.send(&[1], over, |_, how| how.unwrap()).await);
        assert_eq!(receiver.recv(&mut [0; 2]).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_target_where_nobody_listens_leaves_every_other_turn_to_the_next() {
        let receiver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let gone = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let both = [controller("127.0.0.1", gone), controller("127.0.0.1", receiver.local_addr().unwrap().port())];
        let mut targets = Targets::default();
        targets.configure(&both);
        let mut noted = Vec::new();
        for beat in 0..6_u8 {
            let until = Instant::now() + Duration::from_secs(30);
            targets.send(&[beat], until, |to, how| noted.push((to.port == gone, how.is_ok()))).await;
        }
        let (lost, sent, refused) = ((true, true), (false, true), (true, false));
        assert_eq!(noted, [lost, sent, refused, sent, lost, sent, refused, sent]);
    }

    #[tokio::test]
    async fn a_name_is_resolved() {
        let receiver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut targets = Targets::default();
        let target = controller("localhost", receiver.local_addr().unwrap().port());
        let found = targets.resolve(&target, Instant::now() + Duration::from_secs(30)).await.unwrap();
        assert!(found.ip().is_loopback() && found.port() == target.port);
    }
}
