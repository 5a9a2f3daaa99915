//! Addresses: whose they are, what counts as "so already", and which the kernel chooses as a source.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use netns::{Address, Kind, Namespace, Network, NewAddress, NewRoute, Scope};
use nix::errno::Errno;
use rtnetlink::{
    RouteMessageBuilder,
    packet_route::address::{AddressAttribute, AddressMessage, AddressProtocol},
};

use crate::support::{Wire, address, anycast, bare, ip, isolated, link, veth};

async fn find(network: &Network, text: &str) -> Option<Address> {
    network.addresses().await.unwrap().into_iter().find(|a| a.ip == ip(text))
}

/// Puts an address on a link as `ip address add` would: without any mark.
async fn add_unmarked(index: u32, text: &str) {
    let net: ipnet::IpNet = text.parse().unwrap();
    bare().address().add(index, net.addr(), net.prefix_len()).execute().await.unwrap();
}

/// The source the kernel takes for a packet to `target`.
fn source_for(namespace: &Namespace, target: &str) -> std::io::Result<IpAddr> {
    let target = ip(target);
    namespace
        .run(|| {
            let any: SocketAddr = if target.is_ipv4() { ([0; 4], 0).into() } else { ([0; 16], 0).into() };
            let socket = UdpSocket::bind(any)?;
            socket.connect((target, 9))?;
            Ok(socket.local_addr()?.ip())
        })
        .unwrap()
}

#[test]
fn adding_and_deleting_say_whether_anything_changed() {
    isolated(|| async {
        let here = Namespace::current().unwrap().network().unwrap();
        for text in ["203.0.113.7/32", "2001:db8:100::7/128"] {
            let vip = anycast(text);
            assert!(here.add_address(&vip).await.unwrap());
            assert!(!here.add_address(&vip).await.unwrap());
            let there = here.addresses().await.unwrap().into_iter().find(|a| a.ip == vip.ip).unwrap();
            assert!(there.ours && there.deprecated && there.permanent && !there.tentative, "{there:?}");
            assert_eq!(there.scope, if vip.ip.is_ipv4() { Scope::Host } else { Scope::Global });
            assert!(here.delete_address(1, vip.ip, vip.prefix_len).await.unwrap());
            assert!(!here.delete_address(1, vip.ip, vip.prefix_len).await.unwrap());
            assert!(!here.delete_address(4242, vip.ip, vip.prefix_len).await.unwrap());
        }
    });
}

#[test]
fn the_same_address_with_another_shape_is_a_conflict_and_stays() {
    isolated(|| async {
        let here = Namespace::current().unwrap().network().unwrap();
        for (text, wider) in [("203.0.113.7/32", "203.0.113.7/24"), ("2001:db8:100::7/128", "2001:db8:100::7/64")] {
            here.add_address(&anycast(text)).await.unwrap();
            let before = here.addresses().await.unwrap();
            for other in [anycast(wider), address(1, text)] {
                let error = here.add_address(&other).await.unwrap_err();
                assert!(matches!(error.kind, Kind::Conflict { ours: true, .. }), "{error}");
                assert!(error.to_string().contains(text), "{error}");
            }
            assert_eq!(here.addresses().await.unwrap(), before);
        }
        add_unmarked(1, "198.51.100.1/24").await;
        let error = here.add_address(&address(1, "198.51.100.1/32")).await.unwrap_err();
        assert!(matches!(error.kind, Kind::Conflict { ours: false, .. }), "{error}");
    });
}

#[test]
fn what_is_not_ours_stays() {
    isolated(|| async {
        let here = Namespace::current().unwrap().network().unwrap();
        here.set_up(1).await.unwrap();
        for (text, prefix_len) in [("203.0.113.7", 32), ("2001:db8:100::7", 128)] {
            add_unmarked(1, &format!("{text}/{prefix_len}")).await;
            assert!(!find(&here, text).await.unwrap().ours);
            assert!(!here.add_address(&address(1, &format!("{text}/{prefix_len}"))).await.unwrap());
            assert_eq!(here.delete_address(1, ip(text), prefix_len).await.unwrap_err().kind, Kind::NotOurs);
            assert!(find(&here, text).await.is_some());
        }
        assert_eq!(here.delete_address(1, ip("127.0.0.1"), 8).await.unwrap_err().kind, Kind::NotOurs);
        let mut other = bare().address().add(1, ip("203.0.113.8"), 32);
        other.message_mut().attributes.push(AddressAttribute::Protocol(AddressProtocol::from(18)));
        other.execute().await.unwrap();
        assert_eq!(here.delete_address(1, ip("203.0.113.8"), 32).await.unwrap_err().kind, Kind::NotOurs);
    });
}

/// The kernel drops the later addresses of a network with the first one. That must not hit another owner's.
#[test]
fn an_address_that_would_take_a_foreign_one_along_is_not_deleted() {
    isolated(|| async {
        veth("eth0", "peer").await;
        let namespace = Namespace::current().unwrap();
        let here = namespace.network().unwrap();
        let nic = link(&here, "eth0").await.index;
        for which in ["all", "eth0"] {
            namespace.set_sysctl(&format!("net.ipv4.conf.{which}.promote_secondaries"), "0").unwrap();
        }
        here.add_address(&address(nic, "192.0.2.1/24")).await.unwrap();
        add_unmarked(nic, "192.0.2.5/24").await;
        let error = here.delete_address(nic, ip("192.0.2.1"), 24).await.unwrap_err();
        assert!(matches!(error.kind, Kind::Conflict { ours: false, .. }), "{error}");
        assert!(error.to_string().contains("192.0.2.5/24"), "{error}");
        namespace.set_sysctl("net.ipv4.conf.eth0.promote_secondaries", "1").unwrap();
        assert!(here.delete_address(nic, ip("192.0.2.1"), 24).await.unwrap());
        assert!(!find(&here, "192.0.2.5").await.unwrap().secondary);
    });
}

#[test]
fn an_anycast_address_is_never_a_source_by_choice() {
    isolated(|| async {
        let wire = Wire::new().await;
        let here = wire.amphora.namespace();
        for text in ["203.0.113.7/32", "2001:db8:100::7/128", "192.0.2.77/32", "2001:db8::77/128"] {
            wire.amphora.add_address(&anycast(text)).await.unwrap();
        }
        for (target, front_end) in [("192.0.2.2", "192.0.2.1"), ("2001:db8::2", "2001:db8::1")] {
            assert_eq!(source_for(here, target).unwrap(), ip(front_end));
        }
        // A default route that proposes no source, to hosts that share more bits with the VIP than with the front end.
        let nic = wire.amphora_nic.index;
        for (all, gateway) in [("0.0.0.0/0", "192.0.2.2"), ("::/0", "2001:db8::2")] {
            let route = crate::routes::route(254, all, Some(gateway), Some(nic));
            wire.amphora.add_route(&route).await.unwrap();
        }
        assert_eq!(source_for(here, "203.0.113.6").unwrap(), ip("192.0.2.1"));
        assert_eq!(source_for(here, "2001:db8:100::6").unwrap(), ip("2001:db8::1"));
        // With no other global address IPv4 takes none at all. IPv6 then does take a deprecated one, for RFC 6724 has
        // scope (rule 2) go before deprecation (rule 3).
        wire.amphora.delete_address(nic, ip("192.0.2.1"), 24).await.unwrap();
        wire.amphora.delete_address(nic, ip("2001:db8::1"), 64).await.unwrap();
        for all in ["0.0.0.0/0", "::/0"] {
            wire.amphora.add_route(&crate::routes::route(254, all, None, Some(nic))).await.unwrap();
        }
        assert_eq!(source_for(here, "203.0.113.6").unwrap(), ip("0.0.0.0"));
        assert_eq!(source_for(here, "2001:db8:100::6").unwrap(), ip("2001:db8:100::7"));
        // Answers of a socket bound to the VIP have it as their source, whatever its scope.
        let bound = here.run(|| UdpSocket::bind("203.0.113.7:0").unwrap()).unwrap();
        bound.connect("203.0.113.6:9").unwrap();
        assert_eq!(bound.local_addr().unwrap().ip(), ip("203.0.113.7"));
    });
}

#[test]
fn an_address_is_awaited_until_it_is_known_to_be_alone() {
    isolated(|| async {
        let wire = Wire::new().await;
        let nic = wire.amphora_nic.index;
        let new = NewAddress { nodad: false, ..address(nic, "2001:db8::a/64") };
        wire.amphora.add_address(&new).await.unwrap();
        assert!(find(&wire.amphora, "2001:db8::a").await.unwrap().tentative);
        wire.amphora.wait_not_tentative(nic, new.ip, Duration::from_secs(10)).await.unwrap();
        assert!(!find(&wire.amphora, "2001:db8::a").await.unwrap().tentative);

        let taken = NewAddress { nodad: false, ..address(nic, "2001:db8::2/64") };
        wire.amphora.add_address(&taken).await.unwrap();
        let error = wire.amphora.wait_not_tentative(nic, taken.ip, Duration::from_secs(10)).await.unwrap_err();
        assert_eq!(error.kind, Kind::DuplicateAddress, "{error}");

        let error = wire.amphora.wait_not_tentative(nic, ip("2001:db8::b"), Duration::from_secs(10)).await.unwrap_err();
        assert_eq!(error.kind, Kind::Missing);
    });
}

/// Without a carrier duplicate address detection never begins.
#[test]
fn waiting_ends_in_time() {
    isolated(|| async {
        veth("eth0", "peer").await;
        let here = Namespace::current().unwrap().network().unwrap();
        let nic = link(&here, "eth0").await.index;
        here.set_up(nic).await.unwrap();
        let new = NewAddress { nodad: false, ..address(nic, "2001:db8::a/64") };
        here.add_address(&new).await.unwrap();
        let error = here.wait_not_tentative(nic, new.ip, Duration::from_millis(200)).await.unwrap_err();
        assert_eq!(error.kind, Kind::TimedOut, "{error}");
    });
}

/// What the crate's classification leans on, straight from the kernel.
#[test]
fn the_kernel_says_what_is_there_and_what_is_not_by_errno() {
    fn errno(result: Result<(), rtnetlink::Error>) -> Errno {
        match result.unwrap_err() {
            rtnetlink::Error::NetlinkError(answer) => Errno::from_raw(-answer.raw_code()),
            other => panic!("no answer of the kernel: {other}"),
        }
    }
    isolated(|| async {
        let handle = bare();
        let add = || handle.address().add(1, ip("203.0.113.7"), 32);
        let message: AddressMessage = add().message_mut().clone();
        assert_eq!(errno(handle.address().del(message).execute().await), Errno::EADDRNOTAVAIL);
        add().execute().await.unwrap();
        assert_eq!(errno(add().execute().await), Errno::EEXIST);
        let another_length = handle.address().add(1, ip("203.0.113.7"), 24);
        another_length.execute().await.expect("IPv4 takes an address twice, if the lengths differ");
        assert_eq!(errno(handle.link().del(4242).execute().await), Errno::ENODEV);
        let route =
            RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(Ipv4Addr::new(198, 51, 100, 0), 24).build();
        assert_eq!(errno(handle.route().del(route).execute().await), Errno::ESRCH);
        let mut rule = handle.rule().add().v4().priority(100);
        assert_eq!(errno(handle.rule().del(rule.message_mut().clone()).execute().await), Errno::ENOENT);
    });
}

/// What another agent has put there becomes ours where it is: nothing is gone for a moment, and nothing else is touched.
#[test]
fn an_address_is_claimed_without_taking_it_away() {
    isolated(|| async {
        let wire = Wire::new().await;
        let nic = wire.amphora_nic.index;
        for (text, longer) in [("203.0.113.7/32", "203.0.113.7/24"), ("2001:db8:100::7/128", "2001:db8:100::7/64")] {
            add_unmarked(nic, text).await;
            let before = find(&wire.amphora, text.split('/').next().unwrap()).await.unwrap();
            assert!(!wire.amphora.claim_address(&address(nic, longer)).await.unwrap(), "another one");
            let new = NewAddress { nodad: false, ..address(nic, text) };
            wire.amphora.wait_not_tentative(nic, new.ip, Duration::from_secs(10)).await.unwrap();
            let source = Some(new.ip);
            let destination = if new.ip.is_ipv4() { "198.18.0.0/16" } else { "2001:db8:f::/48" };
            let through = NewRoute { source, ..crate::routes::route(1, destination, None, Some(nic)) };
            wire.amphora.add_route(&through).await.unwrap();
            assert!(wire.amphora.claim_address(&new).await.unwrap());
            assert!(!wire.amphora.claim_address(&new).await.unwrap());
            let routes = wire.amphora.routes().await.unwrap();
            assert!(routes.iter().any(|r| r.is(&through)), "gone with the address: {routes:?}");
            let after = find(&wire.amphora, text.split('/').next().unwrap()).await.unwrap();
            assert_eq!(after, Address { ours: true, tentative: after.tentative, ..before });
            assert!(wire.amphora.delete_address(nic, new.ip, new.prefix_len).await.unwrap());
        }
    });
}
