//! TLS certificates of listeners: every spelling of a name, every kind of body.

use crate::case::{Case, ask, request, upload};

pub(crate) fn cases() -> Vec<Case> {
    let path = |name: &str| format!("/1.0/loadbalancer/lb-1/certificates/{name}");
    let mut cases = vec![
        ask("certificate, none yet", "GET", &path("a.pem")),
        ask("certificate, none yet, HEAD", "HEAD", &path("a.pem")),
        ask("certificate, none to delete", "DELETE", &path("a.pem")),
        upload("certificate", &path("a.pem"), "message digest"),
        ask("certificate's digest", "GET", &path("a.pem")),
        ask("certificate's digest, HEAD", "HEAD", &path("a.pem")),
        ask("certificate's digest, OPTIONS", "OPTIONS", &path("a.pem")),
        upload("certificate, a shorter one", &path("a.pem"), "abc"),
        ask("certificate's digest after a shorter one", "GET", &path("a.pem")),
        upload("certificate, empty", &path("empty.pem"), ""),
        ask("certificate's digest, empty", "GET", &path("empty.pem")),
        upload("certificate, UTF-8 across a hundred bytes", &path("u.pem"), "ü".repeat(51)),
        ask("certificate's digest, UTF-8", "GET", &path("u.pem")),
        upload("certificate, any bytes", &path("bytes.pem"), [0xff, 0xfe, 0x00, 0x80]),
        ask("certificate's digest, any bytes", "GET", &path("bytes.pem")),
        request("certificate as JSON", "PUT", &path("j.pem"), "Content-Type: application/json\r\n", "{\"a\":"),
        request(
            "certificate as a form",
            "PUT",
            &path("f.pem"),
            "Content-Type: application/x-www-form-urlencoded\r\n",
            "a=b&c=d",
        ),
        ask("certificate's digest, sent as a form", "GET", &path("f.pem")),
        ask("certificate to delete", "DELETE", &path("a.pem")),
        ask("certificate, deleted", "GET", &path("a.pem")),
        ask("certificate, deleted twice", "DELETE", &path("a.pem")),
    ];
    for name in [
        "a.pem.sh",
        "a.PEM",
        "a",
        "pem",
        ".pem",
        "xpem",
        "a%20b.pem",
        "%c3%a4.pem",
        "a%00.pem",
        "%ff.pem",
        "..%2fa.pem",
        "..%5ca.pem",
        "%2e%2e%2fa.pem",
        "a.pem%0a",
        "a.pem/b.pem",
    ] {
        cases.push(upload(&format!("certificate named {name}"), &path(name), "abc"));
        cases.push(ask(&format!("digest of certificate named {name}"), "GET", &path(name)));
    }
    for lb in ["%2e%2e", "..", ".", "%00", "a%2fb", "%c3%a4"] {
        let path = format!("/1.0/loadbalancer/{lb}/certificates/x.pem");
        cases.push(upload(&format!("certificate of load balancer {lb}"), &path, "abc"));
    }
    cases
}
