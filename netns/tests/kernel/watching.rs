//! Hints that something changed, the one that says that hints were lost, and the socket that they come by.

use std::time::Duration;

use futures_util::StreamExt as _;
use netns::{Change, Kind, Namespace, NewRule, Signal};

use crate::support::{address, anycast, isolated, veth};

const SOON: Duration = Duration::from_secs(5);

#[test]
fn each_kind_of_change_is_told() {
    isolated(|| async {
        let here = Namespace::current().unwrap().network().unwrap();
        let mut signals = here.watch().unwrap();
        let mut expect = async |kind: Change| {
            let told = async { while signals.next().await.unwrap() != Signal::Changed(kind) {} };
            tokio::time::timeout(SOON, told).await.unwrap_or_else(|_| panic!("{kind:?} was not told"));
        };
        veth("eth0", "peer").await;
        expect(Change::Link).await;
        for vip in ["203.0.113.7/32", "2001:db8:100::7/128"] {
            here.add_address(&anycast(vip)).await.unwrap();
            expect(Change::Address).await;
            here.add_rule(&NewRule { from: vip.parse().unwrap(), table: 1, priority: 100 }).await.unwrap();
            expect(Change::Rule).await;
        }
        here.set_up(1).await.unwrap();
        for net in ["198.51.100.0/24", "2001:db8:5::/48"] {
            here.add_route(&crate::routes::route(1, net, None, Some(1))).await.unwrap();
            expect(Change::Route).await;
        }
    });
}

#[test]
fn a_watcher_that_was_held_up_is_told_that_it_lost_events() {
    isolated(|| async {
        let namespace = Namespace::current().unwrap();
        let mut signals = namespace.network().unwrap().watch().unwrap();
        // On another thread, with a runtime of its own, while this one, which would read the events, waits.
        let flood = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let network = Namespace::current().unwrap().network().unwrap();
                for n in 0..600_u32 {
                    let one = address(1, &format!("10.{}.{}.1/32", n / 250, n % 250));
                    network.add_address(&one).await.unwrap();
                }
            });
        };
        namespace.run(flood).unwrap();
        assert_eq!(tokio::time::timeout(SOON, signals.next()).await.unwrap(), Some(Signal::EventsLost));
        let all = namespace.network().unwrap().addresses().await.unwrap();
        assert_eq!(all.iter().filter(|a| a.ours).count(), 600, "reading again shows what was lost");
    });
}

/// The handle works from another thread and runtime than its maker's, and what it does happens inside.
#[tokio::test(flavor = "multi_thread")]
async fn a_network_works_from_outside_its_namespace() {
    let away = crate::support::another().network().unwrap();
    let done = tokio::spawn(async move {
        away.set_up(1).await.unwrap();
        away.addresses().await.unwrap().len()
    });
    assert_eq!(done.await.unwrap(), 2, "127.0.0.1 and ::1");
}

/// When the socket is gone, a list is not empty but unknown.
#[test]
fn an_answer_that_does_not_come_is_an_error() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let away = crate::support::another();
    let network = runtime().block_on(async { away.network().unwrap() }); // its connection ends with its runtime
    let error = runtime().block_on(network.addresses()).unwrap_err();
    assert_eq!(error.kind, Kind::Disconnected, "{error}");
    let error = runtime().block_on(network.add_address(&anycast("203.0.113.7/32"))).unwrap_err();
    assert_eq!(error.kind, Kind::Disconnected, "{error}");
    assert!(away.network().unwrap_err().source.is_some(), "a handle needs a runtime to live on");
}
