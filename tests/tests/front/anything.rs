//! Whatever is sent, through TLS, to the agent as it is: the final status is one the controller knows, a 404 is one it can
//! read, and the agent goes on.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestCaseError, TestRunner};
use serde_json::{Value, json};

use crate::support::{alone, dial, start};

/// Of the whole test; also where the machine is slow.
const FOR: Duration = Duration::from_secs(30);
/// Between looks at the clock.
const CASES: u32 = 20;
const KNOWN: [u16; 10] = [200, 202, 400, 401, 403, 404, 405, 409, 500, 503];

/// A request as it goes over the wire.
#[derive(Clone, Debug)]
struct Asked {
    method: String,
    target: String,
    headers: Vec<String>,
    /// With its length, or in chunks of this size.
    chunk: Option<usize>,
    body: Vec<u8>,
}

impl Asked {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes =
            format!("{} {} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n", self.method, self.target).into_bytes();
        self.headers.iter().for_each(|line| bytes.extend(format!("{line}\r\n").bytes()));
        match self.chunk {
            None => {
                bytes.extend(format!("content-length: {}\r\n\r\n", self.body.len()).bytes());
                bytes.extend(&self.body);
            }
            Some(size) => {
                bytes.extend(b"transfer-encoding: chunked\r\n\r\n");
                for chunk in self.body.chunks(size) {
                    bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
                    bytes.extend(chunk);
                    bytes.extend(b"\r\n");
                }
                bytes.extend(b"0\r\n\r\n");
            }
        }
        bytes
    }
}

/// The router's own list.
fn paths() -> Vec<String> {
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
    let document: Value = serde_json::from_str(&std::fs::read_to_string(document).unwrap()).unwrap();
    document["paths"].as_object().unwrap().keys().cloned().collect()
}

/// Texts of a pattern, which is compiled once: a bare pattern would be for every text.
fn text(pattern: &str) -> impl Strategy<Value = String> + Clone + use<> {
    std::rc::Rc::new(proptest::string::string_regex(pattern).unwrap())
}

/// What stands where the list has a parameter, or where it has not.
fn segment() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("11111111-2222-4333-8444-555555555555".to_owned()),
        prop::sample::select(vec![
            "..",
            ".",
            "",
            "%2e%2e",
            "%2e%2e%2f",
            "..%2f..%2fetc%2fpasswd",
            "%00",
            "a%00.pem",
            "%ff",
            "%c3%28",
            "%",
            "%zz",
            "a.pem",
            "start",
            "stop",
            "RELOAD",
            "haproxy",
            "203.0.113.7",
            "2001:db8::7",
            "2001%3adb8%3a%3a7",
            "fe80::1%25eth0",
            "0",
            "-1",
            "*",
            "a;b",
            "%20",
            "%0d%0a",
            "certs",
            "vrrp",
            "~",
            "'",
            "&",
            "=",
            "@",
        ])
        .prop_map(str::to_owned),
        text("[a-z0-9._~-]{0,12}"),
        text("(%[0-9a-f]{2}){1,6}"),
        text("[a-z]{200,300}"),
        (66_000..70_000_usize).prop_map(|length| "x".repeat(length)),
    ]
}

fn target(paths: Vec<String>) -> impl Strategy<Value = String> {
    let filled = (prop::sample::select(paths), prop::collection::vec(segment(), 3)).prop_map(|(path, segments)| {
        let mut segments = segments.into_iter();
        let fill = |part: &str| if part.starts_with('{') { segments.next().unwrap() } else { part.to_owned() };
        path.split('/').map(fill).collect::<Vec<_>>().join("/")
    });
    let mutated = (filled, any::<prop::sample::Index>(), segment(), 0..10_u8).prop_map(|(path, at, extra, how)| {
        let at = at.index(path.len() + 1);
        let (before, after) = path.split_at(if path.is_char_boundary(at) { at } else { 0 });
        match how {
            0 => format!("{before}/{extra}{after}"),
            1 => format!("{before}//{after}"),
            2 => format!("{before}{extra}{after}"),
            3 => before.to_owned(),
            4 => format!("{path}?{extra}={extra}&vip_ip={extra}"),
            5 => format!("/{path}"),
            _ => path,
        }
    });
    mutated.prop_map(|path| if path.starts_with('/') { path } else { format!("/{path}") })
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        Just(json!(null)),
        any::<i64>().prop_map(Value::from),
        text(".{0,8}").prop_map(Value::from),
        Just(json!("203.0.113.7")),
        Just(json!("fa:16:3e:ff:ff:01")),
        Just(json!([])),
        Just(json!([{ "protocol": "TCP", "cidr": null, "port": 80 }])),
        Just(json!([{ "ip_address": "2001:db8::7", "subnet_cidr": "2001:db8::/64", "gateway": 7 }])),
    ];
    let keys = [
        "subnet_cidr",
        "gateway",
        "mac_address",
        "mtu",
        "vrrp_ip",
        "host_routes",
        "additional_vips",
        "fixed_ips",
        "vip_net_info",
        "vip_mode",
        "frontend_ips",
        "amphora_id",
        "vip_ip",
        "nexthop_ip",
        "peer_id",
        "is_sriov",
    ];
    let object = prop::collection::btree_map(prop::sample::select(keys.to_vec()), word.clone(), 0..8);
    prop_oneof![
        2 => object.prop_map(|object| json!(object).to_string().into_bytes()),
        1 => word.prop_map(|word| word.to_string().into_bytes()),
        2 => prop::collection::vec(any::<u8>(), 0..300),
        1 => text(".{0,100}").prop_map(String::into_bytes),
        1 => prop::sample::select(vec!["[", "{\"a\":", "[DEFAULT]\ndebug = x", "frontend f\n  bind 192.0.2.1:80\n", "%PEM"])
            .prop_map(|text| text.as_bytes().to_vec()),
        1 => (1..200_usize).prop_map(|deep| "[".repeat(deep * 50).into_bytes()),
        1 => Just(vec![b'x'; 1_100_000]),
    ]
}

fn headers() -> impl Strategy<Value = Vec<String>> {
    let one = prop_oneof![
        prop::sample::select(vec![
            "content-type: application/json",
            "content-type: text/plain",
            "content-type: ;;",
            "content-type: ",
            "content-encoding: gzip",
            "accept: application/xml",
            "accept-encoding: br",
            "range: bytes=0-1",
            "if-match: \"x\"",
            "if-none-match: *",
            "upgrade: h2c",
            "x-http-method-override: DELETE",
            "te: trailers",
            "authorization: Basic eA==",
            "cookie: a=b",
            "forwarded: for=1",
            "origin: null",
            "max-forwards: 0",
        ])
        .prop_map(str::to_owned),
        text("x-[a-z]{1,8}: [ -~]{0,40}"),
        text("x-[a-z]{1,3}: [a-f\u{e9}\u{4e2d}]{0,10}"),
    ];
    prop_oneof![
        8 => prop::collection::vec(one.clone(), 0..6),
        1 => prop::collection::vec(one, 480..520),
        1 => Just(vec![format!("x-long: {}", "y".repeat(500_000))]),
    ]
}

fn asked() -> impl Strategy<Value = Asked> {
    let known = ["GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "CONNECT"];
    let method =
        prop_oneof![8 => prop::sample::select(known.to_vec()).prop_map(str::to_owned), 1 => text("[A-Z]{1,12}")];
    let chunk = prop::option::of(1..2000_usize);
    (method, target(paths()), headers(), chunk, body()).prop_map(|(method, target, headers, chunk, body)| match method
        .as_str()
    {
        // What follows a CONNECT is no body.
        "CONNECT" => Asked { method, target, headers, chunk: None, body: Vec::new() },
        _ => Asked { method, target, headers, chunk, body },
    })
}

/// The answer's status, head and body; none where the connection just ended.
fn answer(raw: &[u8]) -> Option<(u16, String, Vec<u8>)> {
    let raw = raw.strip_prefix(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap_or(raw);
    let end = raw.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&raw[..end]).to_lowercase();
    Some((head.split(' ').nth(1)?.parse().ok()?, head, raw[end + 4..].to_vec()))
}

#[test]
fn whatever_is_sent_the_status_is_known_and_the_agent_stays() {
    let fabric = alone("anything");
    let amphora = &fabric.amphorae[0];
    let mut api = start(amphora);
    let begun = Instant::now();
    let mut counts = std::collections::BTreeMap::<u16, u32>::new();
    let config = Config {
        cases: CASES,
        max_shrink_time: 20_000,
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        ..Config::default()
    };
    let counted = std::cell::RefCell::new(&mut counts);
    let try_one = |asked: Asked| {
        let mut tls = dial(&fabric);
        // The agent may answer and end before it has been told all.
        let _ = tls.write_all(&asked.bytes()).and_then(|()| tls.flush());
        let mut raw = Vec::new();
        let _ = tls.read_to_end(&mut raw);
        let Some((status, head, body)) = answer(&raw) else {
            return Err(TestCaseError::fail("no answer"));
        };
        *counted.borrow_mut().entry(status).or_default() += 1;
        prop_assert!(KNOWN.contains(&status), "{head}");
        if status == 404 && asked.method != "HEAD" {
            prop_assert!(head.contains("content-type: application/json"), "{head}");
            let body: Value = serde_json::from_slice(&body).map_err(|error| TestCaseError::fail(error.to_string()))?;
            let details = body.as_object().map(|object| object.get("details"));
            prop_assert!(matches!(details, Some(None | Some(Value::String(_)))), "{body}");
        }
        prop_assert!(amphora.agent().is_some_and(|agent| agent.is_running()), "the agent has ended");
        Ok(())
    };
    let asked = asked();
    let mut result = Ok(());
    while result.is_ok() && begun.elapsed() < FOR {
        result = TestRunner::new(config.clone()).run(&asked, try_one);
    }
    println!("{:?}: {counts:?}", begun.elapsed());
    result.unwrap();
    api.disconnect();
    assert_eq!(api.get("/1.0/info").unwrap().status, 200);
    let log = crate::support::log(amphora);
    assert!(!log.contains("panicked") && !log.contains("a status the controller takes"), "{log}");
    assert_eq!(amphora.node().run(["find", "/etc/passwd", "-newer", "/etc/octavia/amphora-agent.conf"]).unwrap(), "");
}
