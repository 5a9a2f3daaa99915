//! What is heard on the wire about an anycast address: nothing.

use std::{
    collections::HashMap,
    net::{TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use netns::{Network, NewAddress, silence};
use rtnetlink::packet_route::neighbour::NeighbourState;

use crate::{
    routes::route,
    support::{Ear, Heard, Wire, address, anycast, ip, isolated},
};

const VIPS: [(&str, u8); 2] = [("192.0.2.77", 32), ("2001:db8::77", 128)];
/// The kernel asks three times before it gives up, here 100 ms apart (`Wire` sees to that).
const PATIENCE: Duration = Duration::from_millis(700);

async fn bind_vips(wire: &Wire) {
    for (vip, length) in VIPS {
        assert!(wire.amphora.add_address(&anycast(&format!("{vip}/{length}"))).await.unwrap());
    }
}

/// Makes the neighbour ask for an address, first by multicast or broadcast, by sending something to it.
fn ask(from: &Network, target: &str) {
    let target = ip(target);
    let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let send = || UdpSocket::bind(any).unwrap().send_to(b"?", (target, 9));
    from.namespace().run(send).unwrap().unwrap();
}

/// Makes the neighbour ask the amphora's MAC itself whether it still has the address.
async fn probe(wire: &Wire, target: &str) {
    let runtime = tokio::runtime::Handle::current();
    let open = || {
        let _reactor = runtime.enter();
        rtnetlink::new_connection().unwrap()
    };
    let (connection, handle, _) = wire.neighbour.namespace().run(open).unwrap();
    tokio::spawn(connection);
    let mac = wire.amphora_nic.mac.unwrap().bytes();
    let entry = handle.neighbours().add(wire.neighbour_nic.index, ip(target)).link_layer_address(&mac);
    entry.state(NeighbourState::Probe).replace().execute().await.unwrap();
}

/// What was said by somebody who holds the address for his own: the amphora, for nobody else has it.
fn spoken_of(heard: &HashMap<Heard, usize>, target: &str) -> Vec<Heard> {
    let target = ip(target);
    let about = |h: &&Heard| match **h {
        Heard::ArpReply { sender } | Heard::ArpRequest { sender, .. } => sender == target,
        Heard::Advertisement { target: t } => target == t,
        Heard::Solicitation { source, target: t } => target == source || (source.is_unspecified() && target == t),
    };
    heard.keys().filter(about).copied().collect()
}

fn asked_for(heard: &HashMap<Heard, usize>, target: &str) -> usize {
    let target = ip(target);
    let about = |h: &Heard| match *h {
        Heard::ArpRequest { target: t, .. } => target == t,
        Heard::Solicitation { target: t, .. } => target == t,
        _ => false,
    };
    heard.iter().filter(|(h, _)| about(h)).map(|(_, count)| count).sum()
}

/// The whole of it, with every sysctl that might make the kernel talkative at its worst.
#[test]
fn nothing_is_heard_of_an_anycast_address_while_the_front_end_answers() {
    isolated(|| async {
        let wire = Wire::new().await;
        let here = wire.amphora.namespace().clone();
        for key in [
            "ipv4.conf.all.arp_notify",
            "ipv4.conf.all.proxy_arp",
            "ipv6.conf.all.ndisc_notify",
            "ipv6.conf.all.proxy_ndp",
        ] {
            here.set_sysctl(&format!("net.{key}"), "1").unwrap();
            here.set_sysctl(&format!("net.{}", key.replace("all", "eth0")), "1").unwrap();
        }
        here.set_sysctl("net.ipv4.ip_forward", "1").unwrap();
        here.set_sysctl("net.ipv6.conf.all.forwarding", "1").unwrap();

        let ear = Ear::in_namespace(wire.neighbour.namespace());
        assert!(silence(&here).unwrap());
        assert!(!silence(&here).unwrap());
        bind_vips(&wire).await;
        for target in ["192.0.2.77", "2001:db8::77", "192.0.2.1", "2001:db8::1"] {
            ask(&wire.neighbour, target);
        }
        tokio::time::sleep(PATIENCE).await;
        for (vip, _) in VIPS {
            probe(&wire, vip).await;
        }
        tokio::time::sleep(PATIENCE).await;
        for (vip, length) in VIPS {
            assert!(wire.amphora.delete_address(1, ip(vip), length).await.unwrap());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;

        let heard = ear.heard();
        for (vip, _) in VIPS {
            assert!(asked_for(&heard, vip) >= 4, "three to everybody, and a probe: {heard:#?}");
            assert_eq!(spoken_of(&heard, vip), [], "{heard:#?}");
        }
        assert!(heard.contains_key(&Heard::ArpReply { sender: ip("192.0.2.1") }), "{heard:#?}");
        assert!(heard.contains_key(&Heard::Advertisement { target: "2001:db8::1".parse().unwrap() }), "{heard:#?}");
    });
}

/// The control: without `silence`, IPv4 does answer, so the test above can fail. IPv6 never does.
#[test]
fn without_silence_ipv4_answers_and_ipv6_does_not() {
    isolated(|| async {
        let wire = Wire::new().await;
        let ear = Ear::in_namespace(wire.neighbour.namespace());
        bind_vips(&wire).await;
        for (vip, _) in VIPS {
            ask(&wire.neighbour, vip);
        }
        tokio::time::sleep(PATIENCE).await;
        let heard = ear.heard();
        assert_eq!(spoken_of(&heard, "192.0.2.77"), [Heard::ArpReply { sender: ip("192.0.2.77") }], "{heard:#?}");
        assert!(asked_for(&heard, "2001:db8::77") >= 3);
        assert_eq!(spoken_of(&heard, "2001:db8::77"), [], "{heard:#?}");
    });
}

/// Whoever answers a client from the VIP has to ask for the way there, and must not introduce himself as the VIP.
#[test]
fn questions_asked_on_behalf_of_the_vip_do_not_carry_it() {
    for quiet in [false, true] {
        isolated(|| async move {
            let wire = Wire::new().await;
            if quiet {
                silence(wire.amphora.namespace()).unwrap();
            }
            let ear = Ear::in_namespace(wire.neighbour.namespace());
            bind_vips(&wire).await;
            for (vip, nobody) in [("192.0.2.77", "192.0.2.9"), ("2001:db8::77", "2001:db8::9")] {
                let send = || UdpSocket::bind((ip(vip), 0)).unwrap().send_to(b"!", (ip(nobody), 9));
                wire.amphora.namespace().run(send).unwrap().unwrap();
            }
            tokio::time::sleep(PATIENCE).await;
            let heard = ear.heard();
            assert!(asked_for(&heard, "192.0.2.9") >= 3 && asked_for(&heard, "2001:db8::9") >= 3, "{heard:#?}");
            assert_eq!(spoken_of(&heard, "192.0.2.77").is_empty(), quiet, "arp_announce: {heard:#?}");
            assert_eq!(spoken_of(&heard, "2001:db8::77"), [], "{heard:#?}");
        });
    }
}

/// Other hosts of the link may have the same address: whoever looks for a duplicate finds none.
#[test]
fn duplicate_address_detection_finds_nobody() {
    isolated(|| async {
        let wire = Wire::new().await;
        silence(wire.amphora.namespace()).unwrap();
        bind_vips(&wire).await;
        let nic = wire.neighbour_nic.index;
        let same = NewAddress { nodad: false, ..address(nic, "2001:db8::77/64") };
        wire.neighbour.add_address(&same).await.unwrap();
        wire.neighbour.wait_not_tentative(nic, same.ip, Duration::from_secs(10)).await.unwrap();

        // IPv4 (RFC 5227): a request without a sender, which is what the kernel of a host without an address sends.
        let ear = Ear::in_namespace(wire.neighbour.namespace());
        wire.neighbour.delete_address(nic, ip("192.0.2.2"), 24).await.unwrap();
        wire.neighbour.add_route(&route(254, "192.0.2.0/24", None, Some(nic))).await.unwrap();
        ask(&wire.neighbour, "192.0.2.77");
        ask(&wire.neighbour, "192.0.2.1");
        tokio::time::sleep(PATIENCE).await;
        let heard = ear.heard();
        let probe = Heard::ArpRequest { sender: ip("0.0.0.0"), target: ip("192.0.2.77") };
        assert!(heard.contains_key(&probe), "{heard:#?}");
        assert_eq!(spoken_of(&heard, "192.0.2.77"), [], "{heard:#?}");
        assert!(heard.contains_key(&Heard::ArpReply { sender: ip("192.0.2.1") }), "{heard:#?}");
    });
}

/// Silent, but there: whoever has a route to it by the front end is answered, from the address itself.
#[test]
fn a_silent_address_is_reached_by_a_route() {
    isolated(|| async {
        let wire = Wire::new().await;
        silence(wire.amphora.namespace()).unwrap();
        bind_vips(&wire).await;
        for ((vip, length), front_end) in VIPS.into_iter().zip(["192.0.2.1", "2001:db8::1"]) {
            let by_front_end = route(254, &format!("{vip}/{length}"), Some(front_end), None);
            wire.neighbour.add_route(&by_front_end).await.unwrap();
            let listener = wire.amphora.namespace().run(|| TcpListener::bind((ip(vip), 80))).unwrap().unwrap();
            let limit = Duration::from_secs(5);
            let connect = || TcpStream::connect_timeout(&(ip(vip), 80).into(), limit);
            let client = wire.neighbour.namespace().run(connect).unwrap().unwrap();
            let (server, _) = listener.accept().unwrap();
            assert_eq!(server.local_addr().unwrap(), client.peer_addr().unwrap());
        }
    });
}

/// What an amphora does before it announces: it learns its gateway's MAC, by its own address and not the VIP's.
#[test]
fn a_gateway_is_resolved_before_there_is_a_packet_for_it() {
    isolated(|| async {
        let wire = Wire::new().await;
        silence(wire.amphora.namespace()).unwrap();
        bind_vips(&wire).await;
        let ear = Ear::in_namespace(wire.neighbour.namespace());
        for gateway in ["192.0.2.2", "2001:db8::2"] {
            wire.amphora.resolve(wire.amphora_nic.index, ip(gateway)).await.unwrap();
            wire.amphora.resolve(wire.amphora_nic.index, ip(gateway)).await.unwrap();
        }
        tokio::time::sleep(PATIENCE).await;
        let heard = ear.heard();
        assert!(
            heard.contains_key(&Heard::ArpRequest { sender: ip("192.0.2.1"), target: ip("192.0.2.2") }),
            "{heard:#?}"
        );
        assert!(asked_for(&heard, "2001:db8::2") >= 1, "{heard:#?}");
        for (vip, _) in VIPS {
            assert_eq!(spoken_of(&heard, vip), [], "{heard:#?}");
        }
    });
}
