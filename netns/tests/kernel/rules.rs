//! Rules: whose they are, and what happens to twins.

use std::net::Ipv4Addr;

use netns::{Kind, Namespace, NewRule, Rule};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute};

use crate::support::{bare, isolated};

fn rule(from: &str) -> NewRule {
    NewRule { from: from.parse().unwrap(), table: 1, priority: 100 }
}

/// `ip rule add from 203.0.113.7 lookup 1 priority 100`, with a mark of its own or none.
async fn add_foreign(protocol: Option<u8>) {
    let handle = bare();
    let from = Ipv4Addr::new(203, 0, 113, 7);
    let mut add =
        handle.rule().add().v4().source_prefix(from, 32).table_id(1).priority(100).action(RuleAction::ToTable);
    add.message_mut().attributes.extend(protocol.map(|p| RuleAttribute::Protocol(p.into())));
    add.execute().await.unwrap();
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
            assert!(here.delete_rule(&rule(from)).await.unwrap());
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
            add_foreign(protocol).await;
            let same = rule("203.0.113.7/32");
            assert!(!here.add_rule(&same).await.unwrap());
            assert_eq!(here.delete_rule(&same).await.unwrap_err().kind, Kind::NotOurs);
            let there: Vec<Rule> = here.rules().await.unwrap().into_iter().filter(|r| r.is(&same)).collect();
            assert!(there.len() == 1 && !there[0].ours);
            let message = rtnetlink_rule(&here).await;
            bare().rule().del(message).execute().await.unwrap();
        }
    });
}

/// The foreign rule as the kernel shows it, to be deleted.
async fn rtnetlink_rule(_here: &netns::Network) -> rtnetlink::packet_route::rule::RuleMessage {
    use futures_util::TryStreamExt as _;
    let mut all = bare().rule().get(rtnetlink::IpVersion::V4).execute();
    while let Some(message) = all.try_next().await.unwrap() {
        if message.header.src_len == 32 {
            return message;
        }
    }
    panic!("the rule is gone");
}

/// The kernel takes twins unless told otherwise, and a program that died between two lives may have made them.
#[test]
fn twins_of_ours_go_together_and_a_foreign_twin_stays() {
    isolated(|| async {
        let here = Namespace::current().unwrap().network().unwrap();
        let new = rule("203.0.113.7/32");
        // The foreign one first, so that a careless deletion would hit it.
        let output = |arguments: &'static str| {
            let run = move || std::process::Command::new("ip").args(arguments.split(' ')).output().unwrap();
            Namespace::current().unwrap().run(run).unwrap()
        };
        assert!(output("rule add from 203.0.113.7 lookup 1 priority 100 protocol 18").status.success());
        add_twins(&here).await;
        assert!(here.delete_rule(&new).await.unwrap());
        let left: Vec<Rule> = here.rules().await.unwrap().into_iter().filter(|r| r.is(&new)).collect();
        assert!(left.len() == 1 && !left[0].ours, "{left:?}");
    });
}

/// Adds our rule twice over, by a request without `NLM_F_EXCL`.
async fn add_twins(here: &netns::Network) {
    let handle = bare();
    for count in 1..=2 {
        let from = Ipv4Addr::new(203, 0, 113, 7);
        let rule =
            handle.rule().add().v4().source_prefix(from, 32).table_id(1).priority(100).action(RuleAction::ToTable);
        let mut add = rule.replace();
        add.message_mut().attributes.push(RuleAttribute::Protocol(netns::OURS.into()));
        add.execute().await.unwrap();
        let ours = here.rules().await.unwrap().into_iter().filter(|r| r.ours).count();
        assert_eq!(ours, count);
    }
}

#[test]
fn a_rule_with_more_conditions_is_another_rule() {
    isolated(|| async {
        let here = Namespace::current().unwrap().network().unwrap();
        let handle = bare();
        let from = Ipv4Addr::new(203, 0, 113, 7);
        let more = handle.rule().add().v4().source_prefix(from, 32).input_interface("lo").table_id(1).priority(100);
        more.action(RuleAction::ToTable).execute().await.unwrap();
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
