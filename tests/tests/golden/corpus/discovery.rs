//! What the amphora is and how it does, what does not exist, and what may not be done.

use crate::case::{Case, ask};

pub(crate) fn cases() -> Vec<Case> {
    let details: &[&str] = &["cpu", "memory", "disk", "load"];
    let mut cases = vec![
        ask("the API version", "GET", "/"),
        ask("the API version, HEAD", "HEAD", "/"),
        ask("the API version, OPTIONS", "OPTIONS", "/"),
        ask("the API version with a query", "GET", "/?a=b"),
        ask("info", "GET", "/1.0/info"),
        ask("info, HEAD", "HEAD", "/1.0/info"),
        ask("info, OPTIONS", "OPTIONS", "/1.0/info"),
        ask("info with a query", "GET", "/1.0/info?a=b"),
        ask("info, a letter encoded", "GET", "/1.0/inf%6f"),
        ask("details before any plug", "GET", "/1.0/details").shapes(details),
        ask("details, HEAD", "HEAD", "/1.0/details"),
        ask("listeners, none", "GET", "/1.0/listeners"),
        ask("listeners, HEAD", "HEAD", "/1.0/listeners"),
        ask("haproxy configuration of an unknown load balancer", "GET", "/1.0/loadbalancer/unknown/haproxy"),
        ask("haproxy configuration, name `..`", "GET", "/1.0/loadbalancer/%2e%2e/haproxy"),
        ask("haproxy configuration, name with a slash", "GET", "/1.0/loadbalancer/a%2fb/haproxy"),
        ask("interface of an unknown address", "GET", "/1.0/interface/203.0.113.99"),
        ask("interface of an unknown IPv6 address", "GET", "/1.0/interface/2001:db8::99"),
        ask("interface of a number out of range", "GET", "/1.0/interface/203.0.113.999"),
        ask("interface of a name", "GET", "/1.0/interface/eth1"),
        ask("interface of a network", "GET", "/1.0/interface/203.0.113.0%2F24"),
        ask("interface of an address with a zone", "GET", "/1.0/interface/fe80::1%25eth1"),
        ask("interface of IPv4 in short", "GET", "/1.0/interface/127.1"),
        ask("unplug: what is not plugged", "DELETE", "/1.0/plug/vip/203.0.113.7"),
        ask("method in lower case", "get", "/1.0/info"),
        ask("interface of IPv4 with leading zeros", "GET", "/1.0/interface/203.0.113.007"),
    ];
    for path in [
        "/1.0",
        "/1.0/",
        "/1.0/infos",
        "/1.0/INFO",
        "/0.5/info",
        "/1.1/info",
        "/1.0/info/",
        "/1.0/info/x",
        "/1.0/plug",
        "/1.0/interface",
        "/1.0/interface/",
        "/1.0/loadbalancer",
        "/1.0/loadbalancer/x",
        "/1.0/loadbalancer/x/certificates",
        "/%2e%2e/etc/passwd",
        "/1.0/info%00",
        "/1.0/info%ff",
        "/1.0/%e2%82%ac",
    ] {
        cases.push(ask(&format!("unknown: {path}"), "GET", path));
    }
    for path in ["//1.0/info", "/1.0//info", "/1.0/../1.0/info", "/1.0/./info", "/1.0/%2e%2e/1.0/info"] {
        cases.push(ask(&format!("another way to write it: {path}"), "GET", path));
    }
    for (method, path) in [
        ("POST", "/"),
        ("PUT", "/1.0/info"),
        ("DELETE", "/1.0/details"),
        ("POST", "/1.0/listeners"),
        ("GET", "/1.0/plug/vip/203.0.113.7"),
        ("GET", "/1.0/certificate"),
        ("GET", "/1.0/config"),
        ("PUT", "/1.0/interface/203.0.113.7"),
        ("POST", "/1.0/loadbalancer/x/certificates/a.pem"),
        ("POST", "/1.0/loadbalancer/x/haproxy"),
        ("BREW", "/1.0/info"),
        ("TRACE", "/1.0/info"),
    ] {
        cases.push(ask(&format!("wrong method: {method} {path}"), method, path));
    }
    cases
}
