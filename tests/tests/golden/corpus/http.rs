//! HTTP itself: what is not said as most clients say it.

use crate::case::{Case, bytes, request};

pub(crate) fn cases() -> Vec<Case> {
    let line = "GET /1.0/info HTTP/1.1\r\n";
    let close = "Host: amphora\r\nConnection: close\r\n";
    let shown = "GET /1.0/info";
    let many: String = (0..500).map(|number| format!("X-Field-{number}: x\r\n")).collect();
    let long = "x".repeat(70_000);
    vec![
        bytes("HTTP/1.0", shown, "GET /1.0/info HTTP/1.0\r\n\r\n"),
        bytes("HTTP/1.0 with a host", shown, "GET /1.0/info HTTP/1.0\r\nHost: amphora\r\n\r\n"),
        bytes("no Host", shown, format!("{line}Connection: close\r\n\r\n")),
        bytes("two Hosts", shown, format!("{line}Host: other\r\n{close}\r\n")),
        bytes("an absolute URI", shown, format!("GET https://amphora/1.0/info HTTP/1.1\r\n{close}\r\n")),
        bytes("a URI that is no path", "GET 1.0/info", format!("GET 1.0/info HTTP/1.1\r\n{close}\r\n")),
        bytes("HTTP/2.0 in words", shown, format!("GET /1.0/info HTTP/2.0\r\n{close}\r\n")),
        bytes("HTTP/9.9", shown, format!("GET /1.0/info HTTP/9.9\r\n{close}\r\n")),
        bytes("no version", shown, "GET /1.0/info\r\n\r\n"),
        bytes("no HTTP at all", "EHLO amphora", "EHLO amphora\r\n\r\n"),
        bytes("a space in the path", "GET /1.0/in fo", format!("GET /1.0/in fo HTTP/1.1\r\n{close}\r\n")),
        bytes("a field without a colon", shown, format!("{line}{close}nonsense\r\n\r\n")),
        bytes("a field with a space before the colon", shown, format!("{line}{close}A : b\r\n\r\n")),
        bytes("a folded field", shown, format!("{line}{close}A: b\r\n c\r\n\r\n")),
        bytes("500 fields", shown, format!("{line}{close}{many}\r\n")),
        bytes("a field of 70 kB", shown, format!("{line}{close}A: {long}\r\n\r\n")),
        bytes("a URI of 70 kB", "GET /1.0/{70 kB}", format!("GET /1.0/{long} HTTP/1.1\r\n{close}\r\n")),
        bytes("a negative length", shown, format!("{line}{close}Content-Length: -1\r\n\r\n")),
        bytes("a length that is no number", shown, format!("{line}{close}Content-Length: five\r\n\r\n")),
        bytes(
            "length and chunks at once",
            shown,
            format!("{line}{close}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ),
        bytes("an unknown coding", shown, format!("{line}{close}Transfer-Encoding: brotli\r\n\r\n")),
        request("GET with a body", "GET", "/1.0/info", "", "body"),
        bytes(
            "an upload in chunks",
            "PUT /1.0/loadbalancer/http/certificates/chunks.pem",
            format!(
                "PUT /1.0/loadbalancer/http/certificates/chunks.pem HTTP/1.1\r\n{close}Transfer-Encoding: \
                 chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"
            ),
        ),
        request(
            "an upload that expects to be told",
            "PUT",
            "/1.0/loadbalancer/http/certificates/expects.pem",
            "Expect: 100-continue\r\n",
            "abc",
        ),
        request(
            "an unknown expectation",
            "PUT",
            "/1.0/loadbalancer/http/certificates/expects.pem",
            "Expect: miracles\r\n",
            "abc",
        ),
    ]
}
