//! What is heard on the wire about an anycast address: nothing.

use std::{collections::HashMap, net::UdpSocket, time::Duration};

use netns::{Network, silence};
use rtnetlink::packet_route::neighbour::NeighbourState;

use crate::support::{Ear, Heard, Wire, address, anycast, ip, isolated};

const VIPS: [&str; 2] = ["192.0.2.77/32", "2001:db8::77/128"];
/// The kernel asks three times, a second apart, before it gives up.
const PATIENCE: Duration = Duration::from_millis(3300);

/// Makes the neighbour ask for an address, first by multicast or broadcast, by sending something to it.
fn ask(from: &Network, target: &str) {
    let target = ip(target);
    let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let send = || UdpSocket::bind(any).unwrap().send_to(b"?", (target, 9));
    from.namespace().run(send).unwrap().unwrap();
}

/// Makes the neighbour ask the amphora's MAC itself whether it still has the address.
async fn probe(wire: &Wire, target: &str) {
    let handle = wire.neighbour.namespace().run(|| ()).map(|()| neighbour_handle(wire)).unwrap();
    let mac = wire.amphora_nic.mac.unwrap().bytes();
    let entry = handle.neighbours().add(wire.neighbour_nic.index, ip(target)).link_layer_address(&mac);
    entry.state(NeighbourState::Probe).replace().execute().await.unwrap();
}

fn neighbour_handle(wire: &Wire) -> rtnetlink::Handle {
    let runtime = tokio::runtime::Handle::current();
    let open = || {
        let _reactor = runtime.enter();
        rtnetlink::new_connection().unwrap()
    };
    let (connection, handle, _) = wire.neighbour.namespace().run(open).unwrap();
    tokio::spawn(connection);
    handle
}

/// How often the amphora spoke of the address as its own.
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
        for vip in VIPS {
            assert!(wire.amphora.add_address(&anycast(vip)).await.unwrap());
        }
        for vip in VIPS {
            ask(&wire.neighbour, vip.split_once('/').unwrap().0);
        }
        ask(&wire.neighbour, "192.0.2.1");
        ask(&wire.neighbour, "2001:db8::1");
        tokio::time::sleep(PATIENCE).await;
        for vip in VIPS {
            probe(&wire, vip.split_once('/').unwrap().0).await;
        }
        tokio::time::sleep(PATIENCE).await;
        for vip in VIPS {
            assert!(
                wire.amphora
                    .delete_address(1, ip(vip.split_once('/').unwrap().0), if vip.contains(':') { 128 } else { 32 })
                    .await
                    .unwrap()
            );
        }
        tokio::time::sleep(Duration::from_millis(200)).await;

        let heard = ear.heard();
        for vip in VIPS.map(|v| v.split_once('/').unwrap().0) {
            assert!(asked_for(&heard, vip) >= 4, "three broadcasts and a probe: {heard:#?}");
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
        for vip in VIPS {
            wire.amphora.add_address(&anycast(vip)).await.unwrap();
            ask(&wire.neighbour, vip.split_once('/').unwrap().0);
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
            for (vip, nobody) in [(VIPS[0], "192.0.2.9"), (VIPS[1], "2001:db8::9")] {
                wire.amphora.add_address(&anycast(vip)).await.unwrap();
                let bound = (ip(vip.split_once('/').unwrap().0), 0);
                let send = || UdpSocket::bind(bound).unwrap().send_to(b"!", (ip(nobody), 9));
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

/// The neighbours may have the same anycast address: duplicate address detection finds nobody.
#[test]
fn another_host_of_the_link_may_have_it_too() {
    isolated(|| async {
        let wire = Wire::new().await;
        wire.amphora.add_address(&anycast(VIPS[1])).await.unwrap();
        let nic = wire.neighbour_nic.index;
        let same = netns::NewAddress { nodad: false, ..address(nic, "2001:db8::77/64") };
        wire.neighbour.add_address(&same).await.unwrap();
        wire.neighbour.wait_not_tentative(nic, same.ip, Duration::from_secs(10)).await.unwrap();
    });
}
