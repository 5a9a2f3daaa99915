//! Rules: whose they are, and what happens to twins.

use std::net::Ipv4Addr;

use netns::{Kind, Namespace, NewRule, Rule};
use rtnetlink::{
    RuleAddRequest,
    packet_route::rule::{RuleAction, RuleAttribute},
};

use crate::support::{bare, isolated};

fn rule(from: &str) -> NewRule {
    NewRule { from: from.parse().unwrap(), table: 1, priority: 100 }
}

/// `ip rule add from 203.0.113.7 lookup 1 priority 100`, with a mark of its own or none, even if it is there.
fn bare_rule(protocol: Option<u8>) -> RuleAddRequest<Ipv4Addr> {
    let from = Ipv4Addr::new(203, 0, 113, 7);
    let mut add =
        bare().rule().add().v4().source_prefix(from, 32).table_id(1).priority(100).action(RuleAction::ToTable);
    add.message_mut().attributes.extend(protocol.map(|p| RuleAttribute::Protocol(p.into())));
    add.replace()
}

async fn delete_foreign(protocol: Option<u8>) {
    let message = bare_rule(protocol).message_mut().clone();
    bare().rule().del(message).execute().await.unwrap();
}

#[test]
fn adding_and_deleting_say_whether_anything_changed() {
    isolated(|| async {
        let here = Namespace::current().unwrap().network().unwrap();
        for from in ["203.0.113.7/32", "2001:db8:100::7/128", "203.0.113.0/24"] {
            for table in [1, 1000] {
                let new = NewRule { table, ..rule(from) };
                assert!(here.add_rule(&new).await.unwrap());
                assert!(!here.add_rule(&new).await.unwrap());
                let there: Vec<Rule> = here.rules().await.unwrap().into_iter().filter(|r| r.is(&new)).collect();
                assert!(there.len() == 1 && there[0].ours && there[0].ipv6 == new.from.addr().is_ipv6(), "{there:?}");
            }
            let shown = here.rules().await.unwrap().into_iter().find(|r| r.is(&rule(from))).unwrap();
            assert!(here.delete_rule(&shown.to_new().unwrap()).await.unwrap());
            assert!(!here.delete_rule(&rule(from)).await.unwrap());
        }
        let all = here.rules().await.unwrap();
        assert_eq!(all.iter().filter(|r| r.ours).count(), 3, "the ones for table 1000: {all:?}");
        assert_eq!(
            all.iter().filter(|r| !r.ours && r.plain && r.from.is_none()).count(),
            5,
            "the kernel's own: {all:?}"
        );
    });
}

#[test]
fn a_rule_of_another_owner_stays() {
    isolated(|| async {
        let here = Namespace::current().unwrap().network().unwrap();
        for protocol in [None, Some(18)] {
            bare_rule(protocol).execute().await.unwrap();
            let same = rule("203.0.113.7/32");
            assert!(!here.add_rule(&same).await.unwrap());
            assert_eq!(here.delete_rule(&same).await.unwrap_err().kind, Kind::NotOurs);
            let there: Vec<Rule> = here.rules().await.unwrap().into_iter().filter(|r| r.is(&same)).collect();
            assert!(there.len() == 1 && !there[0].ours);
            delete_foreign(protocol).await;
        }
    });
}

/// The kernel takes twins unless told otherwise, and a program that died between two lives may have made them.
#[test]
fn twins_of_ours_go_together_and_a_foreign_twin_stays() {
    isolated(|| async {
        let here = Namespace::current().unwrap().network().unwrap();
        let new = rule("203.0.113.7/32");
        // The foreign one first, so that a careless deletion would hit it.
        for protocol in [18, netns::OURS, netns::OURS] {
            bare_rule(Some(protocol)).execute().await.unwrap();
        }
        assert_eq!(here.rules().await.unwrap().iter().filter(|r| r.is(&new)).count(), 3);
        assert!(here.delete_rule(&new).await.unwrap());
        let left: Vec<Rule> = here.rules().await.unwrap().into_iter().filter(|r| r.is(&new)).collect();
        assert!(left.len() == 1 && !left[0].ours, "{left:?}");
    });
}

#[test]
fn a_rule_with_more_conditions_is_another_rule() {
    isolated(|| async {
        let here = Namespace::current().unwrap().network().unwrap();
        bare_rule(None).input_interface("lo").execute().await.unwrap();
        let new = rule("203.0.113.7/32");
        assert!(!here.rules().await.unwrap().iter().any(|r| r.is(&new)));
        assert!(here.add_rule(&new).await.unwrap());
        assert!(here.delete_rule(&new).await.unwrap());
        assert!(
            here.rules().await.unwrap().iter().any(|r| r.priority == 100 && !r.plain),
            "the other one is still there"
        );
        for wrong in [NewRule { table: 0, ..new }, NewRule { priority: 0, ..new }, rule("0.0.0.0/0")] {
            assert!(matches!(here.add_rule(&wrong).await.unwrap_err().kind, Kind::Invalid(_)));
        }
    });
}

#[test]
fn a_rule_is_claimed_from_whoever_had_it() {
    isolated(|| async {
        let here = Namespace::current().unwrap().network().unwrap();
        let new = rule("203.0.113.7/32");
        assert!(!here.claim_rule(&new).await.unwrap(), "none is there");
        let there = || async { here.rules().await.unwrap().into_iter().filter(|r| r.is(&new)).collect::<Vec<_>>() };
        for protocol in [None, Some(4)] {
            bare_rule(protocol).execute().await.unwrap();
            assert!(here.claim_rule(&new).await.unwrap());
            assert!(!here.claim_rule(&new).await.unwrap());
            let left = there().await;
            assert!(left.len() == 1 && left[0].ours, "{left:?}");
            assert!(here.delete_rule(&new).await.unwrap());
            assert_eq!(there().await, []);
        }
    });
}
