//! The stock calls that read, and what a client gets that calls nothing there is.

use hyper::Method;
use serde_json::json;

use crate::support::{refused, running};

#[test]
fn versions_and_unknown_interfaces_are_told_in_upstreams_words() {
    let (fabric, mut api) = running("stock", 1);
    let root = api.get("/").unwrap();
    assert_eq!((root.status, root.json()), (200, json!({"api_version": "1.0"})));
    let info = api.info().unwrap();
    assert_eq!(info.status, 200);
    let info = info.json();
    let keys: Vec<&String> = info.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["api_version", "haproxy_version", "hostname", "ipvsadm_version", "keepalived_version"]);
    assert_eq!((&info["hostname"], &info["api_version"]), (&json!("amphora-0"), &json!("1.0")));
    // The controller reads MAJOR.MINOR off the front (2.6 on Debian 12).
    let installed = fabric.amphorae[0].node().run(["dpkg-query", "-W", "-f=${Version}", "haproxy"]).unwrap();
    assert_eq!(info["haproxy_version"].as_str(), Some(installed.trim()));
    let mut numbers = installed.split('.').map(|number| number.parse::<u32>().is_ok());
    assert_eq!((numbers.next(), numbers.next()), (Some(true), Some(true)), "{installed}");

    for (ip, status, message) in [
        ("203.0.113.99", 404, "Error interface not found for IP address"),
        ("2001:db8::99", 404, "Error interface not found for IP address"),
        ("203.0.113.999", 400, "Invalid IP address"),
        ("eth1", 400, "Invalid IP address"),
        ("203.0.113.0%2F24", 400, "Invalid IP address"),
    ] {
        let reply = api.get(&format!("/1.0/interface/{ip}")).unwrap();
        refused(&reply, status, &[]);
        assert_eq!(reply.json(), json!({"message": message}), "{ip}");
    }
}

/// The controller takes a 404 whose content type is not JSON for an amphora that still boots, and tries for 10 minutes.
#[test]
fn what_does_not_exist_is_a_json_404_and_what_may_not_be_done_a_json_405() {
    let (_fabric, mut api) = running("unknown", 1);
    let mut ask = |method: Method, path: &str| api.send(method, path, &[], Vec::new()).unwrap();
    for path in ["/0.5", "/1.0", "/1.0/", "/1.0/infos", "/1.0/distributor", "/1.1/info", "/1.0/info/x", "/%2e%2e/etc"] {
        let reply = ask(Method::GET, path);
        refused(&reply, 404, &["404 Not Found"]);
        let body = reply.json();
        assert_eq!((&body["http_code"], body["details"].is_null()), (&json!(404), true), "{path}: {body}");
    }
    for (method, path) in [
        (Method::POST, "/"),
        (Method::PUT, "/1.0/info"),
        (Method::GET, "/1.0/plug/vip/203.0.113.7"),
        (Method::PATCH, "/1.0/distributor/amphorae"),
        (Method::from_bytes(b"BREW").unwrap(), "/1.0/info"),
    ] {
        let reply = ask(method, path);
        refused(&reply, 405, &["405 Method Not Allowed"]);
        assert_eq!(reply.json()["http_code"], 405, "{path}");
        assert!(reply.headers.contains_key("allow"), "{path}: {:?}", reply.headers);
    }
    for method in [Method::HEAD, Method::OPTIONS] {
        let reply = ask(method, "/1.0/info");
        assert_eq!((reply.status, reply.body.len()), (200, 0));
    }
    for path in ["//1.0/info", "//1.0//info", "/1.0/info?unheard=of"] {
        assert_eq!(ask(Method::GET, path).json()["api_version"], "1.0", "{path}");
    }
}

/// Whoever has no OpenStack has curl.
#[test]
fn curl_with_a_client_certificate_is_a_client_also_by_http_1_0() {
    let (fabric, _) = running("curl", 1);
    let (amphora, node, pki) = (&fabric.amphorae[0], &fabric.controller, &fabric.pki);
    let identity = pki.controller();
    node.write_file("/etc/lab/client.pem", format!("{}{}", identity.certificate, identity.key), 0o600).unwrap();
    node.write_file("/etc/lab/ca.pem", pki.ca(), 0o600).unwrap();
    let url = format!("https://{}:9443//1.0/info", amphora.management(lab::Family::V4));
    let curl = ["curl", "-sS", "--cacert", "/etc/lab/ca.pem", "--cert", "/etc/lab/client.pem", &url];
    for (more, words) in [
        (&["--http1.0"][..], &["\"api_version\":\"1.0\""][..]),
        (&["--http1.0", "-I"], &["200 OK", "application/json"]),
        (&["--http1.1", "-X", "OPTIONS", "-i"], &["200 OK", "allow: GET,HEAD"]),
        (&["--tlsv1.2", "--tls-max", "1.2"], &["\"api_version\":\"1.0\""]),
        (&["--tlsv1.3", "-H", "Host:"], &["\"api_version\":\"1.0\""]),
        (&["-X", "POST", "-d", "@/etc/hostname", "-H", "Expect: 100-continue", "-i"], &["405 Method Not Allowed"]),
    ] {
        let said = node.run(curl.iter().chain(more)).unwrap();
        for word in words {
            assert!(said.contains(word), "{more:?}: {word:?} is not in {said}");
        }
    }
}
