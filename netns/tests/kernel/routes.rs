//! Routes: replaced when ours, left alone when not.

use netns::{Kind, Namespace, NewRoute, Route};
use rtnetlink::{RouteMessageBuilder, packet_route::route::RouteProtocol};

use crate::support::{Wire, address, bare, ip, isolated};

pub(crate) fn route(table: u32, destination: &str, gateway: Option<&str>, device: Option<u32>) -> NewRoute {
    let destination = destination.parse().unwrap();
    NewRoute { table, destination, metric: 0, gateway: gateway.map(ip), device, source: None, onlink: false }
}

async fn in_table(wire: &Wire, table: u32) -> Vec<Route> {
    wire.amphora.routes().await.unwrap().into_iter().filter(|r| r.table == table).collect()
}

/// A default route in `main` as `ip route add ... proto static` would make it.
async fn add_static(gateway: &str) {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    let message = match ip(gateway) {
        IpAddr::V4(v4) => RouteMessageBuilder::<Ipv4Addr>::new().gateway(v4).protocol(RouteProtocol::Static).build(),
        IpAddr::V6(v6) => {
            RouteMessageBuilder::<Ipv6Addr>::new().gateway(v6).protocol(RouteProtocol::Static).priority(1024).build()
        }
    };
    bare().route().add(message).execute().await.unwrap();
}

#[test]
fn the_replies_table_of_a_vip() {
    isolated(|| async {
        let wire = Wire::new().await;
        let nic = wire.amphora_nic.index;
        for (subnet, all, gateway, source, metric) in [
            ("192.0.2.0/24", "0.0.0.0/0", "192.0.2.254", "192.0.2.1", 0),
            ("2001:db8::/64", "::/0", "2001:db8::fe", "2001:db8::1", 1024),
        ] {
            let on_link = NewRoute { source: Some(ip(source)), ..route(1, subnet, None, Some(nic)) };
            let default = route(1, all, Some(gateway), None);
            for new in [on_link, default] {
                assert!(wire.amphora.add_route(&new).await.unwrap());
                assert!(!wire.amphora.add_route(&new).await.unwrap());
            }
            let family = |r: &Route| r.destination.addr().is_ipv4() == (metric == 0);
            let table: Vec<Route> = in_table(&wire, 1).await.into_iter().filter(family).collect();
            assert!(
                table.iter().all(|r| r.ours && r.plain && r.metric == metric && r.device == Some(nic)),
                "{table:?}"
            );
            assert!(table.iter().any(|r| r.is(&on_link)) && table.iter().any(|r| r.is(&default)), "{table:?}");
            for old in table {
                assert!(wire.amphora.delete_route(&old.to_new()).await.unwrap());
                assert!(!wire.amphora.delete_route(&old.to_new()).await.unwrap());
            }
        }
        assert_eq!(in_table(&wire, 1).await, []);
    });
}

#[test]
fn another_gateway_replaces_ours_in_one_step() {
    isolated(|| async {
        let wire = Wire::new().await;
        for (all, first, second) in
            [("0.0.0.0/0", "192.0.2.254", "192.0.2.253"), ("::/0", "2001:db8::fe", "2001:db8::fd")]
        {
            for table in [1, 254, 1000] {
                wire.amphora.add_route(&route(table, all, Some(first), None)).await.unwrap();
                let second = route(table, all, Some(second), None);
                assert!(wire.amphora.add_route(&second).await.unwrap());
                assert!(!wire.amphora.add_route(&second).await.unwrap());
                let there: Vec<Route> =
                    in_table(&wire, table).await.into_iter().filter(|r| r.destination == second.destination).collect();
                assert!(there.len() == 1 && there[0].is(&second), "{there:?}");
            }
        }
    });
}

#[test]
fn a_route_of_another_owner_is_never_touched() {
    isolated(|| async {
        let wire = Wire::new().await;
        for (all, theirs, wanted) in
            [("0.0.0.0/0", "192.0.2.254", "192.0.2.253"), ("::/0", "2001:db8::fe", "2001:db8::fd")]
        {
            add_static(theirs).await;
            let before = in_table(&wire, 254).await;
            let error = wire.amphora.add_route(&route(254, all, Some(wanted), None)).await.unwrap_err();
            assert!(matches!(error.kind, Kind::Conflict { ours: false, .. }), "{error}");
            assert!(error.to_string().contains(theirs), "{error}");
            let same = route(254, all, Some(theirs), None);
            assert!(!wire.amphora.add_route(&same).await.unwrap());
            assert_eq!(wire.amphora.delete_route(&same).await.unwrap_err().kind, Kind::NotOurs);
            assert!(!wire.amphora.delete_route(&route(254, all, Some(wanted), None)).await.unwrap());
            assert_eq!(in_table(&wire, 254).await, before);
        }
        // With a metric of its own, ours stands beside theirs.
        let beside = NewRoute { metric: 50, ..route(254, "0.0.0.0/0", Some("192.0.2.253"), None) };
        assert!(wire.amphora.add_route(&beside).await.unwrap());
        assert!(wire.amphora.delete_route(&beside).await.unwrap());
        assert!(in_table(&wire, 254).await.iter().any(|r| r.gateway == Some(ip("192.0.2.254"))));
    });
}

#[test]
fn what_stands_in_the_way_of_a_route_has_a_name() {
    isolated(|| async {
        let wire = Wire::new().await;
        let nic = wire.amphora_nic.index;
        for (destination, far) in [("198.51.100.0/24", "203.0.113.1"), ("2001:db8:5::/48", "2001:db8:9::1")] {
            let unreachable = route(1, destination, Some(far), Some(nic));
            let error = wire.amphora.add_route(&unreachable).await.unwrap_err();
            assert_eq!(error.kind, Kind::UnreachableGateway, "{error}: {:?}", error.source);
            if far.contains('.') {
                // Words of the kernel's own come along where it has some; Linux 6.18 has none for IPv6 here.
                assert_eq!(
                    error.source.unwrap().to_string(),
                    "Network is unreachable (os error 101): Nexthop has invalid gateway"
                );
            }
            assert!(wire.amphora.add_route(&NewRoute { onlink: true, ..unreachable }).await.unwrap());
            assert!(!wire.amphora.add_route(&NewRoute { onlink: true, ..unreachable }).await.unwrap());
            assert_eq!(
                wire.amphora.add_route(&route(1, destination, None, Some(4242))).await.unwrap_err().kind,
                Kind::NoDevice
            );
        }
        let mixed = route(1, "0.0.0.0/0", Some("2001:db8::2"), None);
        assert!(matches!(wire.amphora.add_route(&mixed).await.unwrap_err().kind, Kind::Invalid(_)));
        assert!(matches!(
            wire.amphora.add_route(&route(255, "0.0.0.0/0", None, Some(nic))).await.unwrap_err().kind,
            Kind::Invalid(_)
        ));
        wire.amphora.set_down(nic).await.unwrap();
        let down = wire.amphora.add_route(&route(2, "198.51.100.0/24", None, Some(nic))).await.unwrap_err();
        assert_eq!(down.kind, Kind::LinkDown, "{down}");
    });
}

#[test]
fn host_bits_do_not_matter_and_the_local_table_is_not_shown() {
    isolated(|| async {
        let here = Namespace::current().unwrap().network().unwrap();
        here.set_up(1).await.unwrap();
        here.add_address(&address(1, "192.0.2.1/32")).await.unwrap();
        assert!(here.routes().await.unwrap().iter().all(|r| r.table != 255));
        let sloppy = route(7, "198.51.100.9/24", None, Some(1));
        assert!(here.add_route(&sloppy).await.unwrap());
        assert!(!here.add_route(&route(7, "198.51.100.0/24", None, Some(1))).await.unwrap());
        assert!(here.delete_route(&sloppy).await.unwrap());
    });
}

#[test]
fn a_route_is_claimed_without_taking_it_away_unless_it_is_another() {
    isolated(|| async {
        let wire = Wire::new().await;
        let nic = Some(wire.amphora_nic.index);
        for (all, gateway, other) in
            [("0.0.0.0/0", "192.0.2.254", "192.0.2.253"), ("::/0", "2001:db8::fe", "2001:db8::fd")]
        {
            add_static(gateway).await;
            let claimed = |via| {
                let network = &wire.amphora;
                let new = route(254, all, Some(via), nic);
                async move { network.claim_route(&new).await.unwrap() }
            };
            assert!(!claimed(other).await, "another gateway");
            assert!(claimed(gateway).await);
            assert!(!claimed(gateway).await, "it is ours");
            // From now on it is replaced and deleted as any of ours.
            assert!(wire.amphora.add_route(&route(254, all, Some(other), nic)).await.unwrap());
            assert!(wire.amphora.delete_route(&route(254, all, Some(other), nic)).await.unwrap());
            assert!(!in_table(&wire, 254).await.iter().any(|r| r.destination == all.parse().unwrap()));
        }
    });
}
