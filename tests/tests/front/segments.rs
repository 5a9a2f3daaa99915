//! `..` and its like, encoded or not, in every place of every path that takes a name: nothing outside is read or written.

use std::collections::BTreeSet;

use hyper::Method;
use lab::Amphora;
use serde_json::Value;

use crate::support::{alone, start};

const ESCAPES: [&str; 16] = [
    "..",
    "%2e%2e",
    "%2E.",
    ".%2e",
    "..%2f..%2fetc",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "..%2fcerts",
    "%2fetc%2fpasswd",
    "%252e%252e",
    "..%5c..",
    "..%00",
    "%00",
    "..;",
    "%c0%ae%c0%ae",
    "..%2fescaped.pem",
    "%2e%2e%2fescaped",
];
/// Written where it should not be, or answered with what is there, it would be seen.
const CANARY: &str = "canary-of-a-secret";

/// What there is in the directories a node does not share with this machine, and when it was changed.
fn files(amphora: &Amphora) -> BTreeSet<String> {
    let look = ["find", "/etc", "/var/lib", "/run", "-not", "-path", "*/amphora-agent/*", "-printf"];
    let node = amphora.node();
    node.run(look.into_iter().chain(["%p %y %m %s %T@\\n"])).unwrap().lines().map(ToOwned::to_owned).collect()
}

/// The paths of the OpenAPI document with their methods.
fn calls() -> Vec<(String, Vec<Method>)> {
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
    let document: Value = serde_json::from_str(&std::fs::read_to_string(document).unwrap()).unwrap();
    let method = |name: &String| name.to_uppercase().parse().unwrap();
    let of =
        |(path, methods): (&String, &Value)| (path.clone(), methods.as_object().unwrap().keys().map(method).collect());
    document["paths"].as_object().unwrap().iter().map(of).collect()
}

#[test]
fn no_segment_of_any_path_reaches_outside() {
    let fabric = alone("segments");
    let (amphora, node) = (&fabric.amphorae[0], fabric.amphorae[0].node());
    node.write_file("/var/lib/octavia/haproxy.cfg", CANARY, 0o600).unwrap();
    node.write_file("/var/lib/escaped.pem", CANARY, 0o600).unwrap();
    node.write_file("/var/lib/octavia/escaped.pem", CANARY, 0o600).unwrap();
    let mut api = start(amphora);
    // Plain names in the other places.
    let plain = |segment: &str| match segment {
        "{ip}" | "{vip}" => "203.0.113.7",
        "{filename}" => "a.pem",
        "{action}" => "start",
        _ => "1",
    };
    let before = files(amphora);
    let mut asked = 0;
    for (path, methods) in calls() {
        let segments: Vec<&str> = path.split('/').collect();
        for at in (0..segments.len()).filter(|at| segments[*at].starts_with('{')) {
            for escape in ESCAPES {
                let fill = |(n, segment): (usize, &&str)| match segment.starts_with('{') {
                    true if n == at => escape.to_owned(),
                    true => plain(segment).to_owned(),
                    false => (*segment).to_owned(),
                };
                let target = segments.iter().enumerate().map(fill).collect::<Vec<_>>().join("/");
                for method in &methods {
                    let reply = api.send(method.clone(), &target, &[], b"escaped: # {}".to_vec()).unwrap();
                    asked += 1;
                    // An amphora id that is only looked at is any text; deleting what is not there is no error.
                    let deleted = reply.status == 200 && *method == Method::DELETE;
                    let refused = matches!(reply.status, 400 | 404 | 405 | 409);
                    assert!(deleted || refused, "{method} {target}: {} {}", reply.status, reply.text());
                    assert!(!reply.text().contains(CANARY), "{method} {target}: {}", reply.text());
                }
            }
        }
    }
    let after = files(amphora);
    // What haproxy says of the upload for load balancer 1 stays inside; the amphora id beside it may be any text.
    let inside =
        ["/var/lib/octavia d", "/var/lib/octavia/1 ", "/var/lib/octavia/1/haproxy.cfg", "/var/lib/octavia/haproxy-"];
    let is_inside = |file: &str| inside.iter().any(|own| file.starts_with(own));
    let changed: Vec<_> = after.symmetric_difference(&before).filter(|file| !is_inside(file)).collect();
    assert!(changed.is_empty(), "{changed:?}");
    println!("{asked} calls out of their place, none of which changed a file");
    assert!(asked > 250, "too few to be all: {asked}");
}
