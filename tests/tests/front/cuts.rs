//! Bodies that arrive in two parts, cut at every byte: through letters of several bytes, through line ends, through bytes
//! that are no text. However it is cut, what is stored is what was sent.

use std::io::{Read, Write};
use std::net::TcpStream;

use lab::{Amphora, Fabric};
use rustls::{ClientConnection, StreamOwned};

use crate::support::{MAIN, alone, dial, log, shown, start};

/// Of one to four bytes each in UTF-8, and one that is made of two.
const LETTERS: &str = "aü€𝄞e\u{301}";
const LB: &str = "6f4b2f0e-4a4e-4c1b-9f0a-0d3b7a1c2d3e";

/// How a body is sent.
#[derive(Clone, Copy, Debug)]
enum How {
    /// With its length, each part in a TLS record of its own.
    Length,
    /// Each part a chunk.
    Chunked,
}

/// A connection that is used for one request after the other, for as long as the agent keeps it.
struct Sender<'a> {
    fabric: &'a Fabric,
    tls: StreamOwned<ClientConnection, TcpStream>,
}

impl<'a> Sender<'a> {
    fn new(fabric: &'a Fabric) -> Self {
        let tls = dial(fabric);
        tls.sock.set_nodelay(true).unwrap();
        Self { fabric, tls }
    }

    /// Sends a body in these parts with a call, such as `PUT /1.0/config`; the status of the answer.
    fn send(&mut self, call: &str, how: How, parts: &[&[u8]]) -> u16 {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let field = match how {
            How::Length => format!("Content-Length: {length}"),
            How::Chunked => "Transfer-Encoding: chunked".to_owned(),
        };
        self.write(format!("{call} HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n").as_bytes());
        for part in parts.iter().filter(|part| !part.is_empty()) {
            match how {
                How::Length => self.write(part),
                How::Chunked => self.write(&[format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat()),
            }
        }
        if let How::Chunked = how {
            self.write(b"0\r\n\r\n");
        }
        let (status, closes) = self.answer();
        if closes {
            *self = Self::new(self.fabric);
        }
        status
    }

    fn write(&mut self, bytes: &[u8]) {
        self.tls.write_all(bytes).and_then(|()| self.tls.flush()).unwrap();
    }

    /// The status of the answer, and whether the connection ends with it.
    fn answer(&mut self) -> (u16, bool) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.tls.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let mut body = vec![0; field("content-length:").unwrap().parse().unwrap()];
        self.tls.read_exact(&mut body).unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), field("connection:") == Some("close"))
    }

    /// Sends a body once for each way to cut it, and in single bytes. `look` sees the status, and how it was sent.
    fn at_every_byte(&mut self, call: &str, body: &[u8], mut look: impl FnMut(u16, &str)) -> usize {
        let mut sent = 0;
        for how in [How::Length, How::Chunked] {
            for cut in 0..body.len() {
                let (first, second) = body.split_at(cut);
                look(self.send(call, how, &[first, second]), &format!("{call}, {how:?}, cut at {cut}"));
                sent += 1;
            }
            let bytes: Vec<&[u8]> = body.chunks(1).collect();
            look(self.send(call, how, &bytes), &format!("{call}, {how:?}, in single bytes"));
            sent += 1;
        }
        sent
    }
}

/// A file's bytes, which then are no more: the next upload has to write it.
fn take(amphora: &Amphora, file: &str) -> Vec<u8> {
    amphora
        .node()
        .within(|| std::fs::read(file).and_then(|there| std::fs::remove_file(file).map(|()| there)))
        .unwrap()
        .unwrap()
}

#[test]
fn what_is_stored_is_what_was_sent_wherever_it_was_cut() {
    let fabric = alone("cuts");
    let amphora = &fabric.amphorae[0];
    start(amphora);
    let mut sender = Sender::new(&fabric);
    // Every byte there is, in an order in which many are no UTF-8, and letters.
    let any: Vec<u8> = (0..=255_u8).rev().chain(LETTERS.bytes()).collect();
    let (call, file) = ("PUT /1.0/loadbalancer/1/certificates/a.pem", "/var/lib/octavia/certs/1/a.pem");
    let mut sent = sender.at_every_byte(call, &any, |status, how| {
        assert_eq!((status, take(amphora, file)), (200, any.clone()), "{how}");
    });

    let haproxy = format!("# {LETTERS}\nfrontend {LB}\n mode http\n bind 192.0.2.1:80 # €\n timeout client 1s\n");
    let call = format!("PUT /1.0/loadbalancer/{}/{LB}/haproxy", amphora.id());
    let file = format!("/var/lib/octavia/{LB}/haproxy.cfg");
    sent += sender.at_every_byte(&call, haproxy.as_bytes(), |status, how| {
        assert_eq!(status, 202, "{how}: {}", log(amphora));
        assert_eq!(String::from_utf8(take(amphora, &file)).unwrap(), haproxy, "{how}");
    });

    // What is before and after it is cut by the others above.
    let old = amphora.node().read_file(MAIN).unwrap();
    let config = format!("# {LETTERS}\n{old}");
    for how in [How::Length, How::Chunked] {
        for cut in 0..LETTERS.len() + 4 {
            let (first, second) = config.as_bytes().split_at(cut);
            let status = sender.send("PUT /1.0/config", how, &[first, second]);
            assert_eq!((status, amphora.node().read_file(MAIN).unwrap()), (202, config.clone()), "{how:?} at {cut}");
            amphora.node().write_file(MAIN, &old, 0o600).unwrap();
            sent += 1;
        }
    }
    println!("{sent} bodies stored as they were sent");
}

#[test]
fn what_is_refused_is_refused_wherever_it_was_cut() {
    let fabric = alone("cuts-refused");
    let amphora = &fabric.amphorae[0];
    start(amphora);
    let mut sender = Sender::new(&fabric);
    let (first, file) = (shown(&fabric), "/etc/octavia/certs/server.pem");
    let old = amphora.node().read_file(file).unwrap();
    // Almost a certificate, and no text.
    let wrong =
        [b"-----BEGIN CERTIFICATE-----\n", LETTERS.as_bytes(), b"\xff\xfe\x80\n-----END CERTIFICATE-----\n"].concat();
    let refused = |status: u16, how: &str| assert_eq!(status, 400, "{how}");
    let mut sent = sender.at_every_byte("PUT /1.0/certificate", &wrong, refused);
    assert_eq!((amphora.node().read_file(file).unwrap(), shown(&fabric)), (old, first));
    // Letters of haproxy's text that no cut makes whole.
    let half = [b"frontend a\n # ", &LETTERS.as_bytes()[..LETTERS.len() - 1]].concat();
    sent += sender.at_every_byte(&format!("PUT /1.0/loadbalancer/{}/{LB}/haproxy", amphora.id()), &half, refused);
    amphora.node().run(["test", "!", "-e", &format!("/var/lib/octavia/{LB}/haproxy.cfg")]).unwrap();
    let json = format!(r#"{{"mac_address":"{LETTERS}","{LETTERS}":"x"}}"#);
    sent += sender.at_every_byte("POST /1.0/plug/network", json.as_bytes(), refused);
    assert_eq!(amphora.api().unwrap().get("/1.0/info").unwrap().status, 200);
    println!("{sent} bodies refused");
}
