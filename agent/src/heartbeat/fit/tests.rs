use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::heartbeat::message::{Frontend, Pool, Reading, Totals};

fn key() -> Secret {
    Secret::new("key".to_owned())
}

/// As random as a UUID's digits, so that nothing compresses better than the real ones.
fn id(n: usize) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &n.to_be_bytes());
    let hex = format!("{:032x}", u128::from_be_bytes(digest.as_ref()[..16].try_into().unwrap()));
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

fn message(listeners: usize, pools: &[(&str, &[(&str, usize)])]) -> Message {
    let frontend = Frontend { status: "OPEN".to_owned(), current: 0, totals: Some(Totals::default()) };
    let mut reading = Reading::default();
    reading.listeners.extend((0..listeners).map(|n| (id(n), frontend.clone())));
    for (name, members) in pools {
        let ids = |(n, (status, count)): (usize, &(&str, usize))| {
            let (status, from) = (status.to_string(), (name.len() * 10 + n) * 10_000);
            (from..from + count).map(move |n| (id(n), status.clone())).collect::<Vec<_>>()
        };
        let members = members.iter().enumerate().flat_map(ids).collect();
        reading.pools.insert((*name).to_owned(), Pool { status: "UP".to_owned(), members });
    }
    Message::new("amphora", 0, reading, |_, totals| totals)
}

fn open(datagram: &[u8]) -> Value {
    let json = miniz_oxide::inflate::decompress_to_vec_zlib(&datagram[..datagram.len() - 64]).unwrap();
    serde_json::from_slice(&json).unwrap()
}

/// How many members of a pool have that status.
fn count(json: &Value, pool: &str, status: &str) -> usize {
    json["pools"][pool]["members"].as_object().unwrap().values().filter(|s| *s == status).count()
}

#[test]
fn what_fits_is_sent_as_it_is() {
    let message = message(2, &[("p:a", &[("UP 1/3", 5)]), ("p:b", &[("UP", 5)])]);
    let fitted = fit(message.clone(), &key(), DATAGRAM);
    assert_eq!(open(&fitted.datagram), serde_json::to_value(&message).unwrap());
    assert_eq!((fitted.members_left_out, fitted.pools_left_out), (0, false));
}

#[test]
fn what_the_controller_does_not_read_goes_before_any_member() {
    // One pool of two listeners: each member is there twice.
    let both = message(2, &[("p:a", &[("UP 1/3", 2000)]), ("p:b", &[("UP 2/3", 2000), ("DOWN 1/2", 10)])]);
    assert!(seal(&both, &key()).len() > DATAGRAM);
    let fitted = fit(both, &key(), DATAGRAM);
    assert_eq!((fitted.members_left_out, fitted.pools_left_out), (0, false));
    let json = open(&fitted.datagram);
    assert_eq!(json["pools"].as_object().unwrap().keys().collect::<Vec<_>>(), ["p:b"]);
    assert_eq!((count(&json, "p:b", "UP"), count(&json, "p:b", "DOWN")), (2000, 10));
}

#[test]
fn members_leave_in_the_stated_order_and_no_more_than_needed() {
    let many: &[(&str, usize)] = &[("UP", 2000), ("DOWN", 900), ("MAINT", 300), ("no check", 300), ("DRAIN", 100)];
    let fitted = fit(message(3, &[("p:a", many)]), &key(), DATAGRAM);
    assert!(fitted.datagram.len() <= DATAGRAM);
    let json = open(&fitted.datagram);
    let left = |status| count(&json, "p:a", status);
    assert_eq!((left("no check"), left("MAINT"), left("DRAIN"), left("DOWN")), (0, 0, 100, 900));
    assert!((1500..2000).contains(&left("UP")), "{}", left("UP"));
    assert_eq!(fitted.members_left_out, 3600 - 1000 - left("UP"));
    assert_eq!(json["listeners"].as_object().unwrap().len(), 3);
}

#[test]
fn listeners_stay_when_nothing_else_does() {
    let limit = seal(&message(50, &[]), &key()).len();
    let fitted = fit(message(50, &[("p:a", &[("DOWN", 500)]), ("q:aa", &[("DOWN", 500)])]), &key(), limit);
    let json = open(&fitted.datagram);
    assert_eq!(json["listeners"].as_object().unwrap().len(), 50);
    assert!(fitted.datagram.len() <= limit, "{}", fitted.datagram.len());
    assert_eq!((fitted.members_left_out, fitted.pools_left_out, &json["pools"]), (1000, true, &serde_json::json!({})));
    // Beyond that it is as long as it is, and the kernel refuses it.
    let fitted = fit(message(50, &[]), &key(), 100);
    assert_eq!(open(&fitted.datagram)["listeners"].as_object().unwrap().len(), 50);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// The pool's own status and every listener are in it at any limit that the listeners leave room for.
    #[test]
    fn a_short_message_says_nothing_false(
        listeners in 0..20_usize, up in 0..60_usize, down in 0..60_usize, maint in 0..60_usize, limit in 1500..5000_usize,
    ) {
        let whole = message(listeners, &[("p:a", &[("UP", up), ("DOWN", down), ("MAINT", maint)])]);
        let fitted = fit(whole.clone(), &key(), limit);
        prop_assert!(fitted.datagram.len() <= limit);
        let (short, whole) = (open(&fitted.datagram), serde_json::to_value(&whole).unwrap());
        prop_assert_eq!(&short["listeners"], &whole["listeners"]);
        prop_assert!(!fitted.pools_left_out && short["pools"]["p:a"]["status"] == "UP");
        let members = |json: &Value| json["pools"]["p:a"]["members"].as_object().unwrap().clone();
        let (short, whole) = (members(&short), members(&whole));
        prop_assert!(short.iter().all(|(id, status)| whole[id] == *status));
        prop_assert_eq!(whole.len() - short.len(), fitted.members_left_out);
        prop_assert_eq!(fitted.members_left_out > 0, seal(&message(listeners, &[("p:a", &[("UP", up), ("DOWN", down), ("MAINT", maint)])]), &key()).len() > limit);
    }
}
