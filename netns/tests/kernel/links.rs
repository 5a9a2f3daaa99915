//! Links found by MAC, moved, renamed.

use std::os::fd::AsRawFd as _;

use netns::{Kind, Mac, Namespace};
use rtnetlink::{LinkMacVlan, LinkUnspec, packet_route::link::MacVlanMode};

use crate::support::{address, another, bare, isolated, link, name, veth};

const MAC: [u8; 6] = [0xfa, 0x16, 0x3e, 0xab, 0xcd, 0xef];

/// `eth7` with the MAC above, and its peer.
async fn nic() {
    veth("eth7", "peer").await;
    let mac = LinkUnspec::new_with_name("eth7").address(MAC.to_vec()).build();
    bare().link().set(mac).execute().await.unwrap();
}

#[test]
fn a_link_is_found_by_its_mac_in_any_case() {
    isolated(|| async {
        nic().await;
        let here = Namespace::current().unwrap().network().unwrap();
        for text in ["fa:16:3e:ab:cd:ef", "FA:16:3E:AB:CD:EF", "FA-16-3e-ab-cd-ef"] {
            let found = here.link_by_mac(&text.parse().unwrap()).await.unwrap().unwrap();
            assert_eq!((found.name.as_str(), found.kind.as_deref()), ("eth7", Some("veth")));
        }
        let nobody: Mac = "fa:16:3e:00:00:00".parse().unwrap();
        assert_eq!(here.link_by_mac(&nobody).await.unwrap(), None);
        let lo = link(&here, "lo").await;
        assert!(lo.loopback && !lo.up && lo.mac.is_none() && lo.index == 1 && lo.kind.is_none());
        assert!(here.set_up(1).await.unwrap());
        assert!(!here.set_up(1).await.unwrap());
        assert!(link(&here, "lo").await.up);
    });
}

#[test]
fn two_links_with_one_mac_are_named_both() {
    isolated(|| async {
        nic().await;
        let here = Namespace::current().unwrap().network().unwrap();
        let below = link(&here, "eth7").await.index;
        let twin = LinkMacVlan::new("twin", below, MacVlanMode::Passthrough).address(MAC.to_vec()).build();
        bare().link().add(twin).execute().await.unwrap();
        let error = here.link_by_mac(&Mac::new(MAC).unwrap()).await.unwrap_err();
        assert_eq!(error.kind, Kind::Ambiguous(vec!["eth7".into(), "twin".into()]), "{error}");
    });
}

#[test]
fn a_moved_link_keeps_its_mac_and_mtu_and_nothing_else() {
    isolated(|| async {
        nic().await;
        let (here, there) = (Namespace::current().unwrap().network().unwrap(), another().network().unwrap());
        let nic = link(&here, "eth7").await;
        here.set_mtu(nic.index, 1442).await.unwrap();
        assert!(!here.set_mtu(nic.index, 1442).await.unwrap());
        here.set_up(nic.index).await.unwrap();
        here.add_address(&address(nic.index, "192.0.2.1/24")).await.unwrap();
        assert!(here.move_link(&nic, there.namespace(), Some(&name("eth1"))).await.unwrap());
        let moved = there.link_by_mac(&Mac::new(MAC).unwrap()).await.unwrap().unwrap();
        assert_eq!((moved.name.as_str(), moved.mtu, moved.up), ("eth1", 1442, false));
        assert_eq!(there.addresses().await.unwrap(), []);
        assert_eq!(here.link_by_name(&name("eth7")).await.unwrap(), None);
        // Again, as after a crash that forgot that it was done, and with another name in mind.
        assert!(!here.move_link(&nic, there.namespace(), Some(&name("eth1"))).await.unwrap());
        assert!(!here.move_link(&nic, there.namespace(), Some(&name("eth2"))).await.unwrap());
        assert_eq!(link(&there, "eth2").await.index, moved.index);
        let gone = another();
        assert_eq!(here.move_link(&nic, &gone, None).await.unwrap_err().kind, Kind::NoDevice);
    });
}

#[test]
fn a_taken_name_stops_a_move_before_it_begins() {
    isolated(|| async {
        nic().await;
        let (here, there) = (Namespace::current().unwrap().network().unwrap(), another().network().unwrap());
        let other = link(&here, "peer").await;
        here.move_link(&other, there.namespace(), Some(&name("eth1"))).await.unwrap();
        let nic = link(&here, "eth7").await;
        let error = here.move_link(&nic, there.namespace(), Some(&name("eth1"))).await.unwrap_err();
        assert_eq!(error.kind, Kind::Exists, "{error}");
        assert_eq!(link(&here, "eth7").await, nic);
        here.rename(nic.index, &name("eth1")).await.unwrap();
        let error = here.move_link(&link(&here, "eth1").await, there.namespace(), None).await.unwrap_err();
        assert_eq!(error.kind, Kind::Exists, "{error}");
    });
}

/// Why names are looked at before: the kernel answers `EEXIST`, but has moved the link, under its old name.
#[test]
fn the_kernel_does_half_of_a_move_to_a_taken_name() {
    isolated(|| async {
        nic().await;
        let (here, there) = (Namespace::current().unwrap().network().unwrap(), another());
        let there_network = there.network().unwrap();
        let other = link(&here, "peer").await;
        here.move_link(&other, &there, Some(&name("eth1"))).await.unwrap();
        let nic = link(&here, "eth7").await;
        // Any file descriptor of the namespace will do; this is how `ip link set eth7 netns ... name eth1` asks.
        let holder = there.run(|| std::fs::File::open("/proc/thread-self/ns/net").unwrap()).unwrap();
        let both = LinkUnspec::new_with_index(nic.index).setns_by_fd(holder.as_raw_fd()).name("eth1").build();
        assert!(bare().link().set(both).execute().await.unwrap_err().to_string().contains("File exists"));
        assert_eq!(here.link_by_name(&name("eth7")).await.unwrap(), None);
        assert_eq!(link(&there_network, "eth7").await.mac, nic.mac);
        // Asked again with a name that is free, the work is completed.
        assert!(!here.move_link(&nic, &there, Some(&name("eth2"))).await.unwrap());
        assert_eq!(link(&there_network, "eth2").await.mac, nic.mac);
    });
}

/// Since Linux 6.2 a link that is up takes a new name; before, the kernel says `EBUSY`, which is [`Kind::Busy`].
#[test]
fn a_link_that_is_up_can_be_renamed_or_says_that_it_is_busy() {
    isolated(|| async {
        nic().await;
        let here = Namespace::current().unwrap().network().unwrap();
        let nic = link(&here, "eth7").await;
        assert!(here.rename(nic.index, &name("eth8")).await.unwrap());
        assert!(!here.rename(nic.index, &name("eth8")).await.unwrap());
        assert_eq!(here.rename(nic.index, &name("peer")).await.unwrap_err().kind, Kind::Exists);
        here.set_up(nic.index).await.unwrap();
        match here.rename(nic.index, &name("eth9")).await {
            Ok(renamed) => assert!(renamed && link(&here, "eth9").await.up),
            Err(error) => assert_eq!(error.kind, Kind::Busy),
        }
    });
}

#[test]
fn a_link_that_is_not_there_is_no_device() {
    isolated(|| async {
        let here = Namespace::current().unwrap().network().unwrap();
        assert_eq!(here.set_up(4242).await.unwrap_err().kind, Kind::NoDevice);
        assert_eq!(here.set_mtu(4242, 1400).await.unwrap_err().kind, Kind::NoDevice);
        assert_eq!(here.rename(4242, &name("eth1")).await.unwrap_err().kind, Kind::NoDevice);
        let error = here.add_address(&address(4242, "192.0.2.1/32")).await.unwrap_err();
        assert_eq!(error.kind, Kind::NoDevice);
        assert!(error.source.is_some());
        assert_eq!(error.to_string(), "cannot add address 192.0.2.1/32 on link 4242: no such link");
    });
}

/// A socket gives one list at a time, and the kernel answers EBUSY to whoever asks for the next too early.
#[test]
fn lists_asked_for_at_once_are_all_whole_also_behind_one_that_was_given_up() {
    isolated(|| async {
        for n in 0..20 {
            veth(&format!("left{n}"), &format!("right{n}")).await;
        }
        let here = Namespace::current().unwrap().network().unwrap();
        for _ in 0..10 {
            tokio::select! {
                biased;
                _ = here.links() => panic!("it cannot have its answer yet"),
                () = tokio::task::yield_now() => {} // asked, and gone
            }
            for list in futures_util::future::join_all((0..10).map(|_| here.links())).await {
                assert_eq!(list.unwrap().len(), 41);
            }
        }
    });
}
