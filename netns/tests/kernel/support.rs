//! Namespaces and wires for the kernel tests. Every test has a network namespace, and where it needs names a mount
//! namespace, that no other test and nothing on the machine sees, and that end with its thread. Needs root.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    os::fd::{AsRawFd as _, OwnedFd},
    panic, thread,
    time::{Duration, Instant},
};

use netns::{IfName, Link, Namespace, Network, NewAddress};
use nix::{
    mount::{MsFlags, mount},
    sched::CloneFlags,
    sys::socket::{self, AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType},
};

/// Runs an async test in a network namespace of its own.
pub(crate) fn isolated<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send) {
    in_new(CloneFlags::CLONE_NEWNET, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test());
    });
}

/// Runs a test with network and mount namespace of its own, and an empty `/run`.
pub(crate) fn with_own_run(test: impl FnOnce() + Send) {
    in_new(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS, || {
        remount("/", MsFlags::MS_PRIVATE);
        mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        test();
    });
}

#[expect(clippy::disallowed_methods, reason = "the thread is made for the test and ends with it")]
pub(crate) fn in_new<T: Send>(what: CloneFlags, f: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            nix::sched::unshare(what).expect("these tests need root");
            f()
        });
        inside.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
    })
}

/// Changes how mounts spread, for all below `path`.
pub(crate) fn remount(path: &str, how: MsFlags) {
    mount(None::<&str>, path, None::<&str>, how | MsFlags::MS_REC, None::<&str>).unwrap();
}

/// A new, empty namespace.
pub(crate) fn another() -> Namespace {
    in_new(CloneFlags::CLONE_NEWNET, || Namespace::current().unwrap())
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn name(text: &str) -> IfName {
    text.parse().unwrap()
}

/// An address as the tests mostly want it: no DAD to wait for.
pub(crate) fn address(index: u32, text: &str) -> NewAddress {
    let net: ipnet::IpNet = text.parse().unwrap();
    NewAddress { index, ip: net.addr(), prefix_len: net.prefix_len(), nodad: true, deprecated: false }
}

/// An anycast address on `lo`.
pub(crate) fn anycast(text: &str) -> NewAddress {
    NewAddress { deprecated: true, ..address(1, text) }
}

/// `rtnetlink` itself, for what the crate does not do: make links, and things of other owners.
pub(crate) fn bare() -> rtnetlink::Handle {
    let (connection, handle, _) = rtnetlink::new_connection().unwrap();
    tokio::spawn(connection);
    handle
}

pub(crate) async fn link(network: &Network, text: &str) -> Link {
    network.link_by_name(&name(text)).await.unwrap().unwrap_or_else(|| panic!("no link {text}"))
}

/// A veth pair in this thread's namespace.
pub(crate) async fn veth(one: &str, other: &str) {
    bare().link().add(rtnetlink::LinkVeth::new(one, other).build()).execute().await.unwrap();
}

/// An amphora here with `eth0` (`192.0.2.1/24`, `2001:db8::1/64`), wired to a neighbour in a namespace of its own with
/// `eth0` (`192.0.2.2/24`, `2001:db8::2/64`); both up, and both impatient: a neighbour is asked for every 100 ms rather than every second.
pub(crate) struct Wire {
    pub(crate) amphora: Network,
    pub(crate) neighbour: Network,
    pub(crate) amphora_nic: Link,
    pub(crate) neighbour_nic: Link,
}

impl Wire {
    pub(crate) async fn new() -> Self {
        let (amphora, neighbour) = (Namespace::current().unwrap().network().unwrap(), another().network().unwrap());
        veth("eth0", "peer").await;
        let peer = link(&amphora, "peer").await;
        amphora.move_link(&peer, neighbour.namespace(), Some(&name("eth0"))).await.unwrap();
        let mut nics = Vec::new();
        for (network, host) in [(&amphora, 1), (&neighbour, 2)] {
            network.set_up(1).await.unwrap();
            let nic = link(network, "eth0").await;
            network.set_up(nic.index).await.unwrap();
            network.add_address(&address(nic.index, &format!("192.0.2.{host}/24"))).await.unwrap();
            network.add_address(&address(nic.index, &format!("2001:db8::{host}/64"))).await.unwrap();
            for family in ["ipv4", "ipv6"] {
                let key = format!("net.{family}.neigh.eth0.retrans_time_ms");
                network.namespace().set_sysctl(&key, "100").unwrap();
            }
            nics.push(nic);
        }
        let [amphora_nic, neighbour_nic] = nics.try_into().unwrap();
        let wire = Self { amphora, neighbour, amphora_nic, neighbour_nic };
        wire.settle().await;
        wire
    }

    /// Waits for the link-local addresses, whose duplicate address detection would be heard in the tests.
    async fn settle(&self) {
        for (network, nic) in [(&self.amphora, &self.amphora_nic), (&self.neighbour, &self.neighbour_nic)] {
            let deadline = Instant::now() + Duration::from_secs(10);
            loop {
                let all = network.addresses().await.unwrap();
                let local = |a: &&netns::Address| a.index == nic.index && is_link_local(a.ip);
                if all.iter().find(local).is_some_and(|a| !a.tentative) {
                    break;
                }
                assert!(Instant::now() < deadline, "no link-local address: {all:?}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// One ARP or neighbour discovery packet, as it was on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Heard {
    ArpRequest { sender: IpAddr, target: IpAddr },
    ArpReply { sender: IpAddr },
    Solicitation { source: Ipv6Addr, target: Ipv6Addr },
    Advertisement { target: Ipv6Addr },
}

/// Hears every packet that a namespace sends or receives, from when it is made.
pub(crate) struct Ear(OwnedFd);

impl Ear {
    pub(crate) fn in_namespace(namespace: &Namespace) -> Self {
        let open =
            || socket::socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_NONBLOCK, SockProtocol::EthAll);
        Self(namespace.run(open).unwrap().expect("these tests need root"))
    }

    /// What was said so far, and how often.
    pub(crate) fn heard(&self) -> HashMap<Heard, usize> {
        let mut all = HashMap::new();
        let mut frame = [0; 2048];
        while let Ok(length) = socket::recv(self.0.as_raw_fd(), &mut frame, MsgFlags::empty()) {
            if let Some(heard) = parse(&frame[..length]) {
                *all.entry(heard).or_default() += 1;
            }
        }
        all
    }
}

fn parse(frame: &[u8]) -> Option<Heard> {
    let v4 = |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(frame.get(at..at + 4)?).ok()?));
    let v6 = |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(frame.get(at..at + 16)?).ok()?));
    match (frame.get(12..14)?, frame.get(20..22)?) {
        ([8, 6], [0, 1]) => Some(Heard::ArpRequest { sender: v4(28)?, target: v4(38)? }),
        ([8, 6], [0, 2]) => Some(Heard::ArpReply { sender: v4(28)? }),
        // ICMPv6 right behind the IPv6 header.
        ([0x86, 0xdd], [58, _]) => match frame.get(54)? {
            135 => Some(Heard::Solicitation { source: v6(22)?, target: v6(62)? }),
            136 => Some(Heard::Advertisement { target: v6(62)? }),
            _ => None,
        },
        _ => None,
    }
}
