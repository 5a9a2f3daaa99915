//! Beside the real thing: Octavia's receiver, Octavia's agent's message, Octavia's envelopes.

use amphora_agent::{config::Secret, heartbeat};
use lab::heartbeats::{KEY, hex, octavia, open};
use lab::octavia::environment;
use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};
use serde_json::{Map, Value, json};

use crate::site::{HTTP, PATIENCE, Site, controller};

/// Whether Octavia is here; says so where it is not.
fn octavia_is_here(test: &str) -> bool {
    environment().map_err(|error| lab::skipped(test, &error.to_string())).is_ok()
}

#[test]
fn octavias_receiver_gets_what_octavias_agent_would_have_sent() {
    if !octavia_is_here("octavias_receiver_gets_what_octavias_agent_would_have_sent") {
        return;
    }
    let site = Site::new("golden");
    site.traffic(7);
    let amphora = site.amphora();
    let asked = json!({ "ip": "0.0.0.0", "port": 5555, "key": KEY, "count": 2 });
    let receiver = octavia(&site.fabric.controller, "receive", &asked).unwrap();
    receiver.wait_ready(PATIENCE).unwrap();
    site.configure(&[controller(5555)], 1, KEY);
    let received = receiver.answer(PATIENCE).unwrap();
    assert_eq!(received[0]["from"], json!(amphora.management(lab::Family::V4)));

    // The second says what has come since the first: nothing.
    for (heartbeat, counters) in [(&received[0], json!({})), (&received[1], Value::Null)] {
        let mut ours = heartbeat["message"].clone();
        let counters = if counters.is_null() {
            let file = amphora.node().read_file("/var/lib/octavia/stats_counters.json").unwrap();
            serde_json::from_str(&file).unwrap()
        } else {
            counters
        };
        let asked = json!({ "base_path": "/var/lib/octavia", "amphora_id": amphora.id(), "counters": counters });
        let mut theirs = octavia(amphora.node(), "message", &asked).unwrap().answer(PATIENCE).unwrap();
        for message in [&mut ours, &mut theirs] {
            assert!(message.as_object_mut().unwrap().remove("seq").unwrap().is_u64());
        }
        assert_eq!(ours, theirs);
    }
    let first = &received[0]["message"];
    assert_eq!((&first["seq"], &received[1]["message"]["seq"]), (&json!(0), &json!(1)));
    // Both could agree on nothing; what there is to say is known.
    assert_eq!(first["listeners"][HTTP]["stats"]["totconns"], 7);
    assert_eq!(first["listeners"].as_object().unwrap().len(), 3, "{first}");
    let several = json!({ "up": "UP", "draining": "DRAIN", "down": "DOWN", "disabled": "MAINT" });
    assert_eq!(first["pools"][format!("several:{HTTP}")], json!({ "status": "UP", "members": several }));
    assert_eq!(first["pools"]["unchecked:tcp"]["members"]["unchecked"], "no check");
    assert_eq!(first["pools"]["dead:tcp"]["status"], "DOWN");
    assert_eq!(first["pools"].as_object().unwrap().len(), 4, "{first}");
}

/// Any JSON but numbers that Python and Rust may round differently.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 200, 12, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..12).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..12)
                .prop_map(|map| Value::from(map.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

#[test]
fn octavia_opens_our_envelopes_and_we_open_octavias() {
    if !octavia_is_here("octavia_opens_our_envelopes_and_we_open_octavias") {
        return;
    }
    let fabric = lab::Workdir::new("envelopes").unwrap();
    let node = lab::Node::new(&fabric, "node").unwrap();
    let mut runner = TestRunner::default();
    let key = "sp\u{e4}t & $ecret";
    let mut objects: Vec<Value> = (0..200).map(|_| any_json().new_tree(&mut runner).unwrap().current()).collect();
    objects.push((0..3000).map(|n| (n.to_string(), json!(n * n))).collect::<Map<_, _>>().into());
    let secret = Secret::new(key.to_owned());
    let wrapped: Vec<_> =
        objects.iter().map(|object| hex(&heartbeat::wrap(object.to_string().as_bytes(), &secret))).collect();
    let asked = json!({ "key": key, "wrapped": wrapped, "objects": objects });
    let answered = octavia(&node, "envelopes", &asked).unwrap().answer(PATIENCE).unwrap();
    assert_eq!(answered["objects"], json!(objects));
    for (object, envelope) in objects.iter().zip(answered["wrapped"].as_array().unwrap()) {
        let text = envelope.as_str().unwrap();
        let bytes: Vec<u8> =
            (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect();
        assert_eq!(open(&bytes, key).unwrap(), *object);
    }
}
