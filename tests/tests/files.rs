//! Certificates the agent is sent: what may not be written is not, what is written is whole, whatever happens meanwhile.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use hyper::Method;
use lab::amphora::API_PORT;
use lab::{Amphora, Api, Fabric, Family, Options, Reply, TorKind, Walk};
use rustls::{ClientConnection, StreamOwned};
use serde_json::json;

/// A ceiling, for a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_mins(1);
const CERTS: &str = "/var/lib/octavia/certs";
const SERVER: &str = "/etc/octavia/certs/server.pem";
/// More points than the agent passes from its start to the end of such a call.
const MANY: usize = 60;

fn fabric(test: &str) -> Fabric {
    let mut options = Options::new(TorKind::Bird);
    options.amphorae = 1;
    let fabric = Fabric::new(test, &options).unwrap();
    fabric.amphorae[0].node().run(["mkdir", "-p", "/etc/octavia/amphora-agent.conf.d"]).unwrap();
    fabric
}

fn start(amphora: &Amphora) -> Api {
    amphora.start_agent(&[]).unwrap();
    amphora.wait_api(PATIENCE).unwrap().0
}

fn put(api: &mut Api, path: &str, body: impl Into<Vec<u8>>) -> lab::Result<Reply> {
    api.send(Method::PUT, path, &[], body.into())
}

/// A connection with the controller's certificate, for what no HTTP client would send.
fn dial(fabric: &Fabric) -> StreamOwned<ClientConnection, TcpStream> {
    let amphora = &fabric.amphorae[0];
    let tls = fabric.pki.client(Some(fabric.pki.controller())).unwrap();
    let to = SocketAddr::new(amphora.management(Family::V4), API_PORT);
    let tcp = fabric.controller.connect(to, PATIENCE).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    let name = amphora.id().to_owned().try_into().unwrap();
    let mut stream = StreamOwned::new(ClientConnection::new(tls, name).unwrap(), tcp);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).unwrap();
    }
    stream
}

/// The certificate the agent shows a new connection.
fn shown(fabric: &Fabric) -> Vec<u8> {
    dial(fabric).conn.peer_certificates().unwrap()[0].to_vec()
}

/// What there is in the directories a node does not share with this machine, and when it was changed.
fn files(amphora: &Amphora) -> Vec<String> {
    let look = ["find", "/etc", "/var/lib", "/run", "-printf", "%p %y %m %s %T@\\n"];
    amphora.node().run(look).unwrap().lines().map(ToOwned::to_owned).collect()
}

#[test]
fn no_name_however_written_reaches_outside_the_load_balancers_directory() {
    let fabric = fabric("names");
    let amphora = &fabric.amphorae[0];
    let mut api = start(amphora);
    assert_eq!(put(&mut api, "/1.0/loadbalancer/123/certificates/a.pem", "kept").unwrap().status, 200);
    let before = files(amphora);
    assert!(before.iter().any(|file| file.starts_with("/var/lib/octavia/certs/123/a.pem f 600 4 ")), "{before:?}");
    let long = "x".repeat(252);
    let names = [
        "..",
        "../x.pem",
        "../../x.pem",
        "%2e%2e%2fx.pem",
        "%2e%2e/x.pem",
        "..%2fx.pem",
        "..%2Fx.pem",
        "%2fx.pem",
        "%252e%252e%252fx.pem",
        "..%5cx.pem",
        "%00.pem",
        "a.pem%00",
        "a%00.pem",
        "%c0%ae%c0%ae%c0%afx.pem",
        "%ff.pem",
        "%e2%80%ae.pem",
        "%c3%a4.pem",
        "%ef%bc%8e%ef%bc%8e%ef%bc%8fx.pem",
        ".pem",
        "..pem",
        ".a.pem.new",
        "a.pem.sh",
        "a.PEM",
        "a%20.pem",
        "a%0a.pem",
        "%2e.pem",
        "",
        ".",
        "%2e",
        "a.pem/",
        "a.pem/b.pem",
        &format!("{long}.pem"),
    ];
    let lbs = ["..", "%2e%2e", "%2e%2e%2f..", ".", "", "a%2fb", "%00", "certs", "vrrp", "%c3%a4", &long];
    let paths = names.iter().map(|name| format!("/1.0/loadbalancer/123/certificates/{name}"));
    let paths = paths.chain(lbs.iter().map(|lb| format!("/1.0/loadbalancer/{lb}/certificates/x.pem")));
    for path in paths {
        for method in [Method::PUT, Method::DELETE, Method::GET] {
            let reply = api.send(method.clone(), &path, &[], b"escaped".to_vec()).unwrap();
            // With no load balancer in it the path is `loadbalancer/{object}/{action}`'s, which has PUT alone.
            let refused = matches!(reply.status, 400 | 404) || (path.contains("//") && reply.status == 405);
            assert!(refused, "{method} {path}: {} {}", reply.status, reply.text());
            assert!(reply.json().is_object(), "{method} {path}: {}", reply.text());
        }
    }
    let changed: Vec<_> = files(amphora).into_iter().filter(|file| !before.contains(file)).collect();
    assert!(changed.is_empty(), "{changed:?}");
    assert_eq!(files(amphora).len(), before.len(), "and nothing is gone");
    // What reads another file of that tree is as unwelcome as what writes it.
    for lb in ["..%2fcerts%2f123", "certs", "%2e%2e", "absent"] {
        let reply = api.get(&format!("/1.0/loadbalancer/{lb}/haproxy")).unwrap();
        assert_eq!((reply.status, &reply.json()["message"]), (404, &json!("Loadbalancer Not Found")), "{lb}");
    }
}

#[test]
fn a_load_balancers_configuration_is_read_back_as_it_is() {
    let fabric = fabric("read-back");
    let amphora = &fabric.amphorae[0];
    let mut api = start(amphora);
    amphora.node().write_file("/var/lib/octavia/123/haproxy.cfg", "message digest", 0o600).unwrap();
    let reply = api.get("/1.0/loadbalancer/123/haproxy").unwrap();
    assert_eq!((reply.status, reply.text().as_str()), (200, "message digest"));
    assert!(reply.headers["content-type"].to_str().unwrap().starts_with("text/plain"), "{:?}", reply.headers);
    assert_eq!(reply.headers["etag"], "f96b697d7cb7938d525a2f31aaf161d0");
    let reply = api.get("/1.0/loadbalancer/456/haproxy").unwrap();
    let expected = json!({ "message": "Loadbalancer Not Found", "details": "No loadbalancer with UUID: 456" });
    assert_eq!((reply.status, reply.json()), (404, expected));
}

#[test]
fn of_uploads_at_once_to_one_name_one_is_there_wholly() {
    let fabric = fabric("at-once");
    let amphora = &fabric.amphorae[0];
    let mut api = start(amphora);
    let path = "/1.0/loadbalancer/123/certificates/a.pem";
    let bodies: Vec<Vec<u8>> = (0..8_u8).map(|n| vec![b'a' + n; 200_000 + usize::from(n)]).collect();
    for _ in 0..3 {
        let tags: Vec<String> = std::thread::scope(|scope| {
            let uploads: Vec<_> = bodies
                .iter()
                .map(|body| {
                    scope.spawn(move || {
                        let reply = put(&mut amphora.api().unwrap(), path, body.clone()).unwrap().success().unwrap();
                        reply.headers["etag"].to_str().unwrap().to_owned()
                    })
                })
                .collect();
            uploads.into_iter().map(|upload| upload.join().unwrap()).collect()
        });
        let there = amphora.node().read_file(&format!("{CERTS}/123/a.pem")).unwrap().into_bytes();
        let winner = bodies.iter().position(|body| *body == there).expect("one of them, whole");
        assert_eq!(api.get(path).unwrap().json()["md5sum"], tags[winner].as_str());
    }
    let before = api.get(path).unwrap().text();
    // The agent refuses it by its announced length and closes: the client may see its writing fail before it reads.
    let too_large = put(&mut api, path, vec![b'x'; 2 << 20]);
    assert!(too_large.as_ref().is_ok_and(|reply| reply.status == 400) || too_large.is_err(), "{too_large:?}");
    let mut api = amphora.api().unwrap(); // that connection is over
    assert_eq!(api.get(path).unwrap().text(), before);
    assert_eq!(amphora.node().run(["ls", "-A", &format!("{CERTS}/123")]).unwrap(), "a.pem\n");
}

#[test]
fn a_rotated_certificate_serves_the_next_connection_and_a_half_sent_one_nobody() {
    let fabric = fabric("rotated");
    let amphora = &fabric.amphorae[0];
    let mut api = start(amphora); // one connection throughout
    let identity = |_| fabric.pki.server(amphora.id(), &[amphora.management(Family::V4)]).unwrap();
    let [second, third] = [2, 3].map(identity);
    let first = shown(&fabric);
    let pem = second.certificate.clone() + &second.key;
    assert_eq!(put(&mut api, "/1.0/certificate", pem.clone()).unwrap().status, 202);
    let rotated = shown(&fabric);
    assert_ne!(rotated, first);

    let pem_3 = third.certificate.clone() + &third.key;
    for (end, sent) in [("half", pem_3.len() / 2), ("all but a byte", pem_3.len() - 1), ("nothing", 0)] {
        let mut half = dial(&fabric);
        write!(half, "PUT /1.0/certificate HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", pem_3.len()).unwrap();
        half.write_all(&pem_3.as_bytes()[..sent]).unwrap();
        half.flush().unwrap();
        half.sock.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        let _ = half.read_to_end(&mut answer); // an answer or an end, as the agent likes
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{end}: {}", String::from_utf8_lossy(&answer));
        assert_eq!(amphora.node().read_file(SERVER).unwrap(), pem, "{end}");
    }
    let truncated = &pem_3[..pem_3.len() / 2];
    let mixed = third.certificate.clone() + &second.key;
    for wrong in [truncated, &mixed, &third.certificate, &third.key, "", "\u{0}\u{ff}"] {
        let reply = put(&mut api, "/1.0/certificate", wrong).unwrap();
        assert_eq!(reply.status, 400, "{wrong}: {}", reply.text());
        assert_eq!(reply.json()["message"], "Invalid certificate");
        let secret = |line: &str| line.len() > 8 && !line.starts_with("-----") && reply.text().contains(line);
        assert!(!wrong.lines().any(secret), "nothing of a key is in an answer: {}", reply.text());
    }
    assert_eq!((shown(&fabric), amphora.node().read_file(SERVER).unwrap()), (rotated, pem));
    assert_eq!(api.get("/1.0/info").unwrap().status, 200, "the first connection goes on");
}

#[test]
fn kill_9_at_any_step_leaves_the_old_file_or_the_new() {
    let fabric = fabric("kill-9");
    let amphora = &fabric.amphorae[0];
    let mut api = start(amphora);
    let path = "/1.0/loadbalancer/123/certificates/a.pem";
    assert_eq!(put(&mut api, path, "the first").unwrap().status, 200);
    amphora.kill_agent().unwrap();
    let file = format!("{CERTS}/123/a.pem");
    let read = |file: &str| amphora.node().read_file(file).ok();
    let is = |there: Option<String>, wanted: Option<&str>| {
        if there.as_deref() == wanted { Ok(()) } else { Err(format!("{there:?}")) }
    };
    let nothing = |_: &mut Api, _: usize| {};
    let content = |step: usize| format!("number {step}");
    let upload = |api: &mut Api, step| put(api, path, content(step));
    let walk = Walk {
        name: "certificate upload",
        but: Some("service: "), // its prometheus-proxy
        before: &|api, step| drop(upload(api, step + 1000).unwrap().success().unwrap()),
        call: &upload,
        always: &|step| assert!([content(step), content(step + 1000)].contains(&read(&file).unwrap())),
        after: &|step| is(read(&file), Some(&content(step))),
    };
    assert_eq!(walk.run(amphora).len(), 3, "before and after the rename, and before the answer");
    let walk = Walk {
        name: "certificate upload, the load balancer's first",
        before: &|_, _| drop(amphora.node().run(["rm", "-rf", &format!("{CERTS}/123")]).unwrap()),
        always: &|step| assert!([None, Some(content(step))].contains(&read(&file))),
        ..walk
    };
    assert_eq!(walk.run(amphora).len(), 3);
    let walk = Walk {
        name: "certificate deletion",
        but: walk.but,
        before: &|api, step| drop(upload(api, step).unwrap().success().unwrap()),
        call: &|api, _| api.delete(path),
        always: walk.always,
        after: &|_| is(read(&file), None),
    };
    assert_eq!(walk.run(amphora).len(), 2, "after the removal, and before the answer");

    let old = read(SERVER).unwrap();
    let identities: Vec<String> = (0..MANY)
        .map(|_| fabric.pki.server(amphora.id(), &[]).unwrap())
        .map(|identity| identity.certificate + &identity.key)
        .collect();
    let walk = Walk {
        name: "server certificate",
        but: walk.but,
        before: &nothing,
        call: &|api, step| put(api, "/1.0/certificate", identities[step].clone()),
        always: &|step| {
            let before = if step == 1 { &old } else { &identities[step - 1] };
            assert!([before, &identities[step]].contains(&&read(SERVER).unwrap()));
        },
        after: &|step| is(read(SERVER), Some(&identities[step])),
    };
    assert_eq!(walk.run(amphora).len(), 3);
    // What a crash left beside it goes with the next call, and an agent without a fault finds everything.
    let mut api = start(amphora);
    assert_eq!(put(&mut api, path, "the last").unwrap().status, 200);
    assert_eq!(amphora.node().run(["ls", "-A", &format!("{CERTS}/123")]).unwrap(), "a.pem\n");
    assert_eq!(api.delete(path).unwrap().status, 200);
    assert_eq!(api.get(path).unwrap().status, 404);
}
