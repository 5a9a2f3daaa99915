//! HTTP as the stock controller needs it.

use std::time::Duration;

use amphora_agent::server::serve::Limits;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use crate::front::{Front, ask, read_all, status_of};

#[tokio::test]
async fn whatever_is_sent_the_status_is_one_the_controller_knows() {
    let front = Front::start(Limits::default());
    let client = front.client();
    let close = "host: a\r\nconnection: close\r\n\r\n";
    for (request, status, body) in [
        (format!("GET / HTTP/1.1\r\n{close}"), 200, "root"),
        (format!("GET //1.0/info HTTP/1.1\r\n{close}"), 200, "info"),
        (format!("GET ///1.0//info?x=//y HTTP/1.1\r\n{close}"), 200, "info"),
        (format!("GET https://a:9443/1.0/info HTTP/1.1\r\n{close}"), 200, "info"),
        ("GET / HTTP/1.0\r\n\r\n".into(), 200, "root"),
        ("GET / HTTP/1.1\r\nconnection: close\r\n\r\n".into(), 200, "root"),
        (format!("HEAD /1.0/info HTTP/1.1\r\n{close}"), 200, ""),
        (format!("OPTIONS /1.0/info HTTP/1.1\r\n{close}"), 200, ""),
        (format!("OPTIONS /body HTTP/1.1\r\n{close}"), 200, ""),
        (format!("OPTIONS /nowhere HTTP/1.1\r\n{close}"), 404, "404}"),
        (format!("OPTIONS * HTTP/1.1\r\n{close}"), 404, "404}"),
        (format!("POST / HTTP/1.1\r\n{close}"), 405, "405}"),
        (format!("BREW / HTTP/1.1\r\n{close}"), 405, "405}"),
        (format!("CONNECT a:1 HTTP/1.1\r\n{close}"), 404, "404}"),
        (format!("GET /nowhere HTTP/1.1\r\n{close}"), 404, "404}"),
        (format!("PUT /body HTTP/1.1\r\ncontent-length: 5\r\n{close}hello"), 200, "5 bytes"),
        (
            format!("PUT /body HTTP/1.1\r\ntransfer-encoding: chunked\r\n{close}3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"),
            200,
            "5 bytes",
        ),
        (format!("PUT /body HTTP/1.1\r\n{close}"), 200, "0 bytes"),
        (format!("PUT /body HTTP/1.1\r\ncontent-length: 2000000\r\n{close}"), 400, "larger than 1048576 bytes"),
        (format!("PUT /body HTTP/1.1\r\ntransfer-encoding: chunked\r\n{close}zz\r\n"), 400, "malformed"),
        (format!("PUT /body HTTP/1.1\r\ncontent-length: x\r\n{close}"), 400, ""),
        (format!("PUT /body HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n{close}"), 400, ""),
        (format!("GET / HTTP/3.0\r\n{close}"), 400, ""),
        (format!("GET / HTTP/1.1\r\nbad header\r\n{close}"), 400, ""),
        (format!("G@T / HTTP/1.1\r\n{close}"), 400, ""),
        (format!("GET /\u{e9}|\"<> HTTP/1.1\r\n{close}"), 0, ""),
        (format!("GET / HTTP/1.1\r\n{}{close}", "x: y\r\n".repeat(500)), 400, ""),
        (format!("GET /status/413 HTTP/1.1\r\n{close}"), 400, ""),
        (format!("GET /status/204 HTTP/1.1\r\n{close}"), 200, ""),
        (format!("GET /status/308 HTTP/1.1\r\n{close}"), 500, ""),
        (format!("GET /status/503 HTTP/1.1\r\n{close}"), 503, ""),
        (format!("GET /panic HTTP/1.1\r\n{close}"), 500, r#""http_code":500}"#),
    ] {
        let answer = front.raw(&client, request.as_bytes()).await.unwrap();
        let (shown, known) = (&request[..request.len().min(60)], status_of(&answer));
        assert!(status == 0 && [400, 404].contains(&known) || known == status, "{shown:?}: {answer}");
        assert!(answer.ends_with(body), "{shown:?}: {answer}");
    }
    let options = front.raw(&client, format!("OPTIONS /1.0/info HTTP/1.1\r\n{close}").as_bytes()).await.unwrap();
    assert!(options.contains("allow: GET,HEAD,OPTIONS\r\n"), "{options}");
}

/// Larger than what is read of a head: 400, or closed because the client was still sending.
#[tokio::test]
async fn heads_without_end_are_refused_with_a_status_the_controller_knows() {
    let front = Front::start(Limits::default());
    let client = front.client();
    let many = "x-header: some value\r\n".repeat(25_000);
    for head in [
        format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(70_000)),
        format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(65_530)),
        format!("GET / HTTP/1.1\r\n{many}\r\n"),
        format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(500_000)),
        "x".repeat(500_000),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
    ] {
        let answer = front.raw(&client, head.as_bytes()).await.unwrap_or_default();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    assert_eq!(front.calls(), 0);
    // Pipelined behind a good request, whose answer stays as it is.
    let mut tls = front.connect(&client).await.unwrap();
    let both = format!("GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(500));
    tls.write_all(both.as_bytes()).await.unwrap();
    let answers = read_all(&mut tls).await;
    assert!(answers.starts_with("HTTP/1.1 200 OK") && answers.contains("rootHTTP/1.1 400 "), "{answers}");
}

#[tokio::test]
async fn a_body_may_wait_for_100_continue() {
    let front = Front::start(Limits::default());
    let mut tls = front.connect(&front.client()).await.unwrap();
    tls.write_all(b"PUT /body HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 4\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut interim = [0; 25];
    timeout(Duration::from_secs(5), tls.read_exact(&mut interim)).await.unwrap().unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    tls.write_all(b"body").await.unwrap();
    assert!(read_all(&mut tls).await.ends_with("4 bytes"));
}

#[tokio::test]
async fn a_panic_ends_its_request_alone() {
    let front = Front::start(Limits::default());
    let client = front.client();
    let mut other = front.connect(&client).await.unwrap();
    let mut same = front.connect(&client).await.unwrap();
    assert_eq!(status_of(&ask(&mut same, "/panic").await.unwrap()), 500);
    assert!(ask(&mut same, "/").await.unwrap().ends_with("root"));
    assert!(ask(&mut other, "/").await.unwrap().ends_with("root"));
}
