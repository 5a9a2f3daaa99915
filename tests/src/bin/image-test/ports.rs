//! What a machine listens on. Every address it has, link-local ones too, is tried on every TCP port from the network it is
//! on; addresses of other networks from where they have no business; and the machine's own list of its sockets, UDP
//! included, must be exactly the expected one.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpStream, UdpSocket};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lab::{Dual, Error, Family, Node, Place, Result, Vm};
use serde_json::Value;

use crate::evidence::COMMAND_TIME;
use crate::report::{Report, check, wrong};
use crate::site::{FAMILIES, Site, member_side};

/// The API, and BGP, which a ToR may dial.
const MANAGEMENT: &[u16] = &[179, 9443];
/// What a tenant or a neighbour might look for, and what is open anywhere in the machine.
const PROBED: &[u16] =
    &[22, 25, 53, 68, 80, 111, 123, 161, 179, 443, 514, 546, 1025, 5353, 6060, 8080, 9101, 9102, 9443, 50051];
/// And what datagrams might be for. The kernel refuses six at once, and then one a second.
const DATAGRAMS: &[u16] = &[53, 68, 123, 161, 443, 514, 546, 5353];
/// How many connections are tried at a time, and how long one may take.
const AT_A_TIME: usize = 48;
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a port that is expected to say nothing is waited for.
const SILENCE: Duration = Duration::from_secs(2);
/// How long one address may take.
const LONGEST: Duration = Duration::from_mins(5);
/// How often a datagram is sent again that nobody has refused yet.
const AGAIN: Duration = Duration::from_millis(700);
const TIMES: usize = 30;

/// What of a machine should be open.
pub(crate) struct Expected<'a> {
    /// Which machine it is.
    pub(crate) index: usize,
    pub(crate) vip: Dual,
    /// The TCP ports of the VIP, and the UDP ports of its IPv4 address, for LVS.
    pub(crate) listeners: &'a [u16],
    pub(crate) datagrams: &'a [u16],
    /// On the front-end IP, where the amphorae of a pair tell each other of their clients.
    pub(crate) frontend: &'a [u16],
    /// Sockets by namespace, as [`LIST`] has them; `FRONTEND` and `MANAGEMENT` are the machine's IPv4 addresses there.
    pub(crate) root: &'a [&'a str],
    /// Nothing for a distributor: it has no NIC there.
    pub(crate) inside: &'a [&'a str],
}

pub(crate) const ROOT: &[&str] = &["tcp *:9443 amphora-agent", "tcp 0.0.0.0:179 gobgpd", "tcp [::]:179 gobgpd"];
pub(crate) const ROOT_WITH_DHCP: &[&str] = &[
    "tcp *:9443 amphora-agent",
    "tcp 0.0.0.0:179 gobgpd",
    "tcp [::]:179 gobgpd",
    "udp MANAGEMENT%eth0:68 systemd-network",
];

impl Expected<'_> {
    /// A distributor.
    pub(crate) const NOTHING: Self = Self {
        index: 0,
        vip: Dual { v4: Ipv4Addr::UNSPECIFIED, v6: Ipv6Addr::UNSPECIFIED },
        listeners: &[],
        datagrams: &[],
        frontend: &[],
        root: ROOT,
        inside: &[],
    };
}

/// Which sockets there are, by protocol, address and program. No process names that differ from boot to boot.
const LIST: &str = "ss -Htulnp | sed -E 's/users:\\(\\(\"([^\"]*)\".*/\\1/' | awk '{ print $1, $5, $NF }' | sort -u";
const INSIDE: &str = "ip netns exec amphora-haproxy ";

/// An address, and from where it is tried.
struct Side<'a> {
    name: String,
    from: &'a Place,
    to: SocketAddr,
    tcp: &'a [u16],
    udp: &'a [u16],
    /// UDP ports that are open and answer nobody who just asks.
    silent: &'a [u16],
}

/// Tries all of it.
pub(crate) fn scan(report: &mut Report, site: &Site, vm: &mut Vm, expected: &Expected) -> Result<()> {
    for (namespace, enter, wanted) in [("root", "", expected.root), ("amphora-haproxy", INSIDE, expected.inside)] {
        let sockets = vm.shell().run(&format!("{enter}{LIST}"), COMMAND_TIME)?;
        let sockets = sockets.replace(&vm.frontend(Family::V4).to_string(), "FRONTEND");
        let sockets = sockets.replace(&vm.management(Family::V4).to_string(), "MANAGEMENT");
        report.figure(&format!("{}: sockets in {namespace}", vm.name()), &sockets);
        let sockets: BTreeSet<&str> = sockets.lines().collect();
        let wanted: BTreeSet<&str> = wanted.iter().copied().collect();
        check(sockets == wanted, &format!("sockets in {namespace}: {wanted:?}"), format!("{sockets:?}"))?;
    }
    let sides = sides(site, vm, expected)?;
    for Side { name, from, to, tcp, udp, silent } in sides {
        let start = Instant::now();
        let open = open_ports(report, from, to)?;
        let refused = refused_datagrams(from, to, udp, silent)?;
        report.figure(
            &format!("{}: open TCP ports, from {name}", vm.name()),
            format!("{open:?} of 65535 in {:.0} s; {refused}", start.elapsed().as_secs_f64()),
        );
        check(open.iter().eq(tcp), &format!("{tcp:?} open, from {name}"), format!("{open:?}"))?;
    }
    across(report, site, vm, expected)
}

/// Each address that the machine says it has, with the place next to it.
fn sides<'a>(site: &'a Site, vm: &mut Vm, expected: &Expected<'a>) -> Result<Vec<Side<'a>>> {
    let mut sides = Vec::new();
    for (namespace, enter) in [("root", ""), ("amphora-haproxy", INSIDE)] {
        let said = vm.shell().run(&format!("{enter}ip -j addr"), COMMAND_TIME)?;
        let links: Value = serde_json::from_str(&said).map_err(|error| wrong("`ip -j addr` is JSON", error))?;
        for link in links.as_array().into_iter().flatten() {
            let nic = link["ifname"].as_str().unwrap_or_default();
            let (what, from, own, tcp): (_, &Node, _, &[u16]) = match (namespace, nic) {
                ("root", "eth0") => ("the management network", &site.fabric.controller, "eth0", MANAGEMENT),
                ("amphora-haproxy", "lo") => ("a client", &site.fabric.client, "eth0", expected.listeners),
                ("amphora-haproxy", "eth1") => {
                    ("the ToR", site.tor().node(), lab::fabric::TOR_FRONTEND_NIC, expected.frontend)
                }
                ("amphora-haproxy", "eth2") => ("the members' network", &site.nodes[0], "eth0", &[]),
                (_, "lo") => continue, // its own addresses only: nobody else is on it
                _ if link["addr_info"].as_array().is_none_or(Vec::is_empty) => continue,
                _ => return Err(wrong("every address is on a network that is tried", link)),
            };
            for address in link["addr_info"].as_array().into_iter().flatten() {
                let ip: IpAddr = match address["local"].as_str().and_then(|text| text.parse().ok()) {
                    Some(IpAddr::V4(ip)) if ip.is_loopback() => continue,
                    Some(IpAddr::V6(Ipv6Addr::LOCALHOST)) => continue,
                    Some(ip) => ip,
                    None => return Err(wrong("an address", address)),
                };
                let to = match ip {
                    IpAddr::V6(ip) if ip.is_unicast_link_local() => {
                        SocketAddrV6::new(ip, 0, 0, index(from, own)?).into()
                    }
                    ip => SocketAddr::new(ip, 0),
                };
                // The pair's amphorae tell each other of their clients at their IPv4 front-end IP alone.
                let tcp = if nic == "eth1" && ip != vm.frontend(Family::V4) { &[] } else { tcp };
                let udp = if ip == IpAddr::from(expected.vip.v4) { expected.datagrams } else { &[] };
                let dhcp = expected.root == ROOT_WITH_DHCP && ip == vm.management(Family::V4);
                let silent: &[u16] = if dhcp { &[68] } else { &[] };
                sides.push(Side { name: format!("{what}: {to}", to = to.ip()), from, to, tcp, udp, silent });
            }
        }
    }
    Ok(sides)
}

/// The number of a place's NIC, which link-local addresses go with.
fn index(place: &Place, nic: &str) -> Result<u32> {
    let said = place.run(["ip", "-j", "link", "show", nic])?;
    let links: Value = serde_json::from_str(&said).map_err(|error| wrong("`ip -j link` is JSON", error))?;
    links[0]["ifindex"].as_u64().and_then(|index| index.try_into().ok()).ok_or_else(|| wrong("a NIC", said))
}

/// Addresses of other networks: next to nothing answers on them, whoever routes them to the machine's NIC.
fn across(report: &mut Report, site: &Site, vm: &Vm, expected: &Expected) -> Result<()> {
    if expected.inside.is_empty() {
        return Ok(());
    }
    let member: IpAddr = member_side(expected.index).parse().expect("an address");
    let mut tried = Vec::new();
    for family in FAMILIES {
        let (management, frontend, vip) = (vm.management(family), vm.frontend(family), expected.vip.of(family));
        if family == Family::V4 {
            tried.push(("the members' network", &site.nodes[0], member, vec![management, frontend, vip]));
            tried.push(("the ToR", site.tor().node(), frontend, vec![member]));
        }
        let mut inside = vec![frontend, vip];
        inside.extend((family == Family::V4).then_some(member));
        tried.push(("the management network", &site.fabric.controller, management, inside));
    }
    for (what, from, by, addresses) in tried {
        for to in addresses {
            let (to_text, by) = (to.to_string(), by.to_string());
            from.run(["ip", "route", "replace", &to_text, "via", &by])?;
            let open = answering(from, to)?;
            from.run(["ip", "route", "del", &to_text, "via", &by])?;
            report.figure(
                &format!("{}: open TCP ports, from {what}: {to} by {by}", vm.name()),
                format!("{open:?} of {} probed", PROBED.len()),
            );
            // Inside the namespace an address is the host's and not the NIC's, as with Octavia's own amphora: whoever is on
            // the members' network reaches the peers of a pair by its front-end IP.
            let beside = from.name() == site.nodes[0].name() && to == vm.frontend(Family::V4);
            let wanted = if beside { expected.frontend } else { &[] };
            check(open.iter().eq(wanted), &format!("{wanted:?} open, from {what}: {to}"), format!("{open:?}"))?;
        }
    }
    Ok(())
}

/// Those of the probed ports that take a connection, where most answer nothing at all.
fn answering(from: &Place, to: IpAddr) -> Result<BTreeSet<u16>> {
    let open = Mutex::new(BTreeSet::new());
    from.within(|| {
        thread::scope(|scope| {
            for port in PROBED {
                let open = &open;
                scope.spawn(move || {
                    if TcpStream::connect_timeout(&SocketAddr::new(to, *port), SILENCE).is_ok() {
                        open.lock().expect("nobody panics with it").insert(*port);
                    }
                });
            }
        });
    })?;
    Ok(open.into_inner().expect("nobody panics with it"))
}

/// The TCP ports that take a connection. Every other one must be refused: no answer is not closed.
fn open_ports(report: &Report, from: &Place, to: SocketAddr) -> Result<BTreeSet<u16>> {
    let (next, open, start) = (AtomicU32::new(1), Mutex::new(BTreeSet::new()), Instant::now());
    let others: Mutex<BTreeMap<String, u16>> = Mutex::new(BTreeMap::new());
    let longest = report.left(LONGEST)?;
    let try_all = || {
        while let Ok(port) = u16::try_from(next.fetch_add(1, Ordering::Relaxed)) {
            if start.elapsed() > longest {
                return;
            }
            let mut to = to;
            to.set_port(port);
            match TcpStream::connect_timeout(&to, PATIENCE) {
                Ok(_) => drop(open.lock().expect("nobody panics with it").insert(port)),
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(error) => {
                    others.lock().expect("nobody panics with it").insert(error.to_string(), port);
                    return;
                }
            }
        }
    };
    from.within(|| {
        thread::scope(|scope| {
            for _ in 0..AT_A_TIME {
                scope.spawn(try_all);
            }
        });
    })?;
    let others = others.into_inner().expect("nobody panics with it");
    check(others.is_empty(), &format!("every TCP port of {} is open or refused", to.ip()), format!("{others:?}"))?;
    let last = next.into_inner();
    check(last > u32::from(u16::MAX), &format!("every TCP port of {} within {longest:?}", to.ip()), last)?;
    Ok(open.into_inner().expect("nobody panics with it"))
}

/// That datagrams to the probed ports are refused, but to those of `served`.
fn refused_datagrams(from: &Place, to: SocketAddr, served: &[u16], silent: &[u16]) -> Result<String> {
    let probe = |port: u16| -> std::io::Result<&str> {
        let mut to = to;
        to.set_port(port);
        let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(AGAIN))?;
        for _ in 0..TIMES {
            match socket.send(b"who?").and_then(|_| socket.recv(&mut [0; 100])) {
                Ok(_) => return Ok("answered"),
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Ok("refused"),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error),
            }
        }
        Ok("no answer")
    };
    let answers = from.within(|| {
        thread::scope(|scope| {
            let all: Vec<_> = DATAGRAMS.iter().map(|port| (*port, scope.spawn(move || probe(*port)))).collect();
            all.into_iter().map(|(port, probe)| (port, probe.join().expect("it does not panic"))).collect::<Vec<_>>()
        })
    })?;
    for (port, answer) in answers {
        let answer = answer.map_err(|source| Error::Io { what: format!("a datagram to {to} {port}"), source })?;
        let wanted = match port {
            port if served.contains(&port) => "answered",
            port if silent.contains(&port) => "no answer",
            _ => "refused",
        };
        check(answer == wanted, &format!("a datagram to port {port} of {} is {wanted}", to.ip()), answer)?;
    }
    Ok(format!("UDP {served:?} of {} probed", DATAGRAMS.len()))
}
