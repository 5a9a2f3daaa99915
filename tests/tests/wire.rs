//! An anycast VIP on the wire: nobody is told where it is, however they ask. It is reached by route alone.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]
#![allow(clippy::doc_markdown, reason = "ToR is a word here, not code")]

mod active;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use active::{BOTH, answers, boot, plug, register, wait_routes};
use ipnet::IpNet;
use lab::addresses::{CONTROLLER_HOST, FRONTEND, MANAGEMENT, tor_host};
use lab::amphora::MANAGEMENT_NIC;
use lab::capture::Packets;
use lab::fabric::{TOR_FRONTEND_NIC, TOR_PEERING_NIC};
use lab::frames::{Asker, Mac};
use lab::net::{Segment, up};
use lab::{Amphora, Capture, Dual, Fabric, Family, Neighbours, Node, Options, Place, TorKind, addresses};

/// A host number that is nobody's on the front-end network.
const STRANGER_HOST: u8 = 120;

fn mac(text: &str) -> Mac {
    let bytes: Vec<u8> = text.trim().split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

/// The pcap-filter(7) of ARP packets whose sender is said to be at `ip`: answers and gratuitous ones.
fn arp_claims(ip: Ipv4Addr) -> String {
    format!("arp and arp[14:4] = {:#x}", ip.to_bits())
}

/// The filter of neighbour solicitations (135) or advertisements (136) for `ip`.
fn discovery(kind: u8, ip: Ipv6Addr) -> String {
    let bits = ip.to_bits();
    let words = [(48, bits >> 96), (52, bits >> 64), (56, bits >> 32), (60, bits)];
    let target = words.map(|(at, word)| format!("ip6[{at}:4] = {:#x}", word & 0xffff_ffff)).join(" and ");
    format!("icmp6 and ip6[40] = {kind} and {target}")
}

/// The packets that tell where an address is.
fn claims(packets: &Packets, of: Dual) -> Vec<String> {
    let advertised = discovery(136, of.v6);
    // A solicitation from the address would tell, too: whoever gets it notes its sender's MAC.
    let asked_from = format!("icmp6 and ip6[40] = 135 and src host {}", of.v6);
    [arp_claims(of.v4), advertised, asked_from].iter().flat_map(|filter| packets.matching(filter).unwrap()).collect()
}

/// What an amphora's port has seen of who is where.
struct Port<'a> {
    amphora: &'a Amphora,
    capture: Capture,
    /// The addresses that are to be answered for here.
    answered: Dual,
    mac: Mac,
}

impl<'a> Port<'a> {
    fn watch(segment: &Segment, port: &str, amphora: &'a Amphora, answered: Dual, mac: Mac) -> Self {
        let capture = Capture::start(segment.switch(), port, "arp or icmp6").unwrap();
        Self { amphora, capture, answered, mac }
    }

    /// Every asker asks for the VIPs, then for what is answered.
    fn asked(&self, askers: &[(&Place, Asker)], vips: &[Dual]) {
        for (place, asker) in askers {
            for family in BOTH {
                for vip in vips {
                    asker.ask(vip.of(family), self.mac).unwrap();
                    asker.probe(vip.of(family)).unwrap();
                }
                asker.ask(self.answered.of(family), self.mac).unwrap();
                // A fence: when this is refused, what was asked before has been dealt with.
                let closed = SocketAddr::new(self.answered.of(family), 9);
                drop(place.connect(closed, Duration::from_secs(5)).unwrap_err());
            }
        }
    }

    /// Nothing tells where a VIP is, although `asked` questions came; `answered` questions for the port's own addresses
    /// were answered.
    fn judge(self, vips: &[Dual], asked: usize, answered: usize) {
        let packets: Packets = self.capture.stop().unwrap();
        let of = |filter: String| packets.matching(&filter).unwrap();
        for vip in vips {
            assert_eq!(claims(&packets, *vip), [""; 0], "{} tells where {vip:?} is", self.amphora.name());
            // The questions have passed this port.
            let who_has = of(format!("arp and arp[24:4] = {:#x}", vip.v4.to_bits())).len();
            let solicited = of(discovery(135, vip.v6)).len();
            assert!(who_has >= asked && solicited >= asked, "{who_has} and {solicited} questions, not {asked}");
        }
        let own = of(format!("arp[6:2] = 2 and {}", arp_claims(self.answered.v4))).len();
        let own6 = of(discovery(136, self.answered.v6)).len();
        println!(
            "{}: of {asked} questions each for the VIPs 0 answered; {} answered {own} and {} {own6} times",
            self.amphora.name(),
            self.answered.v4,
            self.answered.v6
        );
        assert!(own >= answered && own6 >= answered, "the capture sees answers: {own} and {own6}, not {answered}");
    }
}

fn dual(of: impl Fn(Family) -> IpAddr) -> Dual {
    match (of(Family::V4), of(Family::V6)) {
        (IpAddr::V4(v4), IpAddr::V6(v6)) => Dual { v4, v6 },
        other => unreachable!("one of each family, not {other:?}"),
    }
}

#[test]
fn nobody_is_told_where_an_anycast_vip_is() {
    let mut options = Options::new(TorKind::Frr);
    options.amphorae = 2;
    options.tors[0].neighbours = Neighbours::Each(Family::V4);
    let fabric = Fabric::new("silence", &options).unwrap();
    fabric.write_configs(Family::V4).unwrap();
    let tor = &fabric.tors[0];
    let stranger = Node::new(&fabric.workdir, "stranger").unwrap();
    fabric.frontend.plug(&stranger, "eth0", None).unwrap();
    up(&stranger, "eth0", &FRONTEND.on_nic(STRANGER_HOST)).unwrap();

    let open = |place: &'_ Place, nic, own| Asker::open(place, nic, own).unwrap();
    let (router, controller): (&Place, &Place) = (tor.node(), &fabric.controller);
    let on_frontend = [
        (router, open(router, TOR_FRONTEND_NIC, FRONTEND.host(tor_host(0)))),
        (&*stranger, open(&stranger, "eth0", FRONTEND.host(STRANGER_HOST))),
    ];
    let on_management = [
        (router, open(router, TOR_PEERING_NIC, MANAGEMENT.host(tor_host(0)))),
        (controller, open(controller, "eth0", MANAGEMENT.host(CONTROLLER_HOST))),
    ];
    let (mut frontends, mut managements) = (Vec::new(), Vec::new());
    for amphora in &fabric.amphorae {
        let (own, hardware) = (dual(|family| amphora.frontend(family)), mac(&amphora.frontend_mac()));
        frontends.push(Port::watch(&fabric.frontend, amphora.frontend_port(), amphora, own, hardware));
        let address = amphora.node().run(["cat", &format!("/sys/class/net/{MANAGEMENT_NIC}/address")]).unwrap();
        let (own, hardware) = (dual(|family| amphora.management(family)), mac(&address));
        managements.push(Port::watch(&fabric.management, amphora.management_port(), amphora, own, hardware));
    }
    let vip = addresses::vip(7);
    let ask_everywhere = || {
        for (frontend, management) in frontends.iter().zip(&managements) {
            frontend.asked(&on_frontend, &[vip]);
            management.asked(&on_management, &[vip]);
        }
    };

    // Two lives: the second begins with the NIC and the VIP of the first.
    let mut apis = boot(&fabric);
    let all: Vec<_> = fabric.amphorae.iter().collect();
    for life in ["first", "second"] {
        for (amphora, api) in all.iter().zip(&mut apis) {
            if life == "first" {
                plug(amphora, api, vip);
            } else {
                let reply = api.plug_vip(vip.v4.into(), &amphora.plug_body(vip)).unwrap();
                assert_eq!(reply.status, 202, "plugged again: {}", reply.text());
            }
        }
        ask_everywhere();
        for (amphora, api) in all.iter().zip(&mut apis) {
            register(amphora, api, vip, None);
        }
        wait_routes(tor, vip, &all);
        for family in BOTH {
            answers(&fabric, vip.of(family), 100);
        }
        ask_everywhere();
        if life == "first" {
            a_host_of_the_segment_that_believes_the_vip_is_on_link_gets_silence(&stranger, vip);
        }
        for (amphora, api) in all.iter().zip(&mut apis) {
            api.unregister(amphora.id(), "").unwrap().success().unwrap();
        }
        wait_routes(tor, vip, &[]);
        ask_everywhere();
        for api in &mut apis {
            api.unplug_vip(vip.v4.into()).unwrap().success().unwrap();
        }
    }
    // Two askers, three times in each life, in three forms; their own addresses in two, and after plugging the IPv6 one
    // is tentative and not answered for yet.
    let (asked, answered) = (2 * 3 * 2 * 3, 2 * 2 * 2 * 2);
    frontends.into_iter().chain(managements).for_each(|port| port.judge(&[vip], asked, answered));
}

/// The same questions and the same filters where somebody has a VIP on a NIC: it is seen.
#[test]
fn an_address_on_a_nic_is_told() {
    let mut options = Options::new(TorKind::Frr);
    options.amphorae = 0;
    let fabric = Fabric::new("told", &options).unwrap();
    let (host, vip) = (Node::new(&fabric.workdir, "host").unwrap(), addresses::vip(7));
    let port = fabric.frontend.plug(&host, "eth0", Some("fa:16:3e:00:00:78")).unwrap();
    up(&host, "eth0", &BOTH.map(|family| IpNet::from(vip.of(family)))).unwrap();
    let asker = Asker::open(fabric.tors[0].node(), TOR_FRONTEND_NIC, FRONTEND.host(tor_host(0))).unwrap();
    let capture = Capture::start(fabric.frontend.switch(), &port, "arp or icmp6").unwrap();
    for family in BOTH {
        host.ip(&format!("route add {} dev eth0", fabric.tors[0].frontend(family))).unwrap();
        asker.ask(vip.of(family), mac("fa:16:3e:00:00:78")).unwrap();
        asker.probe(vip.of(family)).unwrap();
        fabric.tors[0].node().ip(&format!("route add {} dev {TOR_FRONTEND_NIC}", vip.of(family))).unwrap();
        let closed = SocketAddr::new(vip.of(family), 9);
        drop(fabric.tors[0].node().connect(closed, Duration::from_secs(5)).unwrap_err());
    }
    let seen = claims(&capture.stop().unwrap(), vip);
    let (advertised, arp): (Vec<_>, Vec<_>) = seen.iter().partition(|packet| packet.contains("neighbor advertisement"));
    assert!(arp.len() >= 3 && advertised.len() >= 3, "{seen:#?}");
}

/// A kernel's own questions, as a host inside the VIP's subnet asks them.
fn a_host_of_the_segment_that_believes_the_vip_is_on_link_gets_silence(host: &Node, vip: Dual) {
    for family in BOTH {
        let address = vip.of(family);
        host.run(["ip", "route", "add", &address.to_string(), "dev", "eth0"]).unwrap();
        host.connect(SocketAddr::new(address, 80), Duration::from_secs(10)).unwrap_err();
        let entry = host.run(["ip", "neigh", "show", "to", &address.to_string()]).unwrap();
        assert!(entry.contains("FAILED") || entry.contains("INCOMPLETE"), "the kernel was answered: {entry}");
    }
}
