//! Heartbeats keep their interval, whatever clients do to the API and however long haproxy thinks.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use lab::Family;
use lab::amphora::API_PORT;
use lab::heartbeats::KEY;
use nix::sys::signal::Signal;
use rustls::{ClientConnection, StreamOwned};

use crate::site::{HTTP, PATIENCE, Site};

const INTERVAL: Duration = Duration::from_secs(2);
const EACH: usize = 100;

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A connection with the controller's certificate.
fn tls(site: &Site, to: SocketAddr) -> Tls {
    let tls = site.fabric.pki.client(Some(site.fabric.pki.controller())).unwrap();
    let tcp = site.fabric.controller.connect(to, PATIENCE).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    let name = site.amphora().id().to_owned().try_into().unwrap();
    let mut stream = StreamOwned::new(ClientConnection::new(tls, name).unwrap(), tcp);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).unwrap();
    }
    stream
}

/// The longest time between two heartbeats for so long after the one at `last`, and how many there were.
fn longest_gap(site: &Site, last: &mut Instant, during: Duration, mut meanwhile: impl FnMut()) -> (Duration, usize) {
    let (start, mut longest, mut count) = (*last, Duration::ZERO, 0);
    while *last < start + during {
        meanwhile();
        let next = site.next().at;
        longest = longest.max(next - *last);
        count += 1;
        *last = next;
    }
    (longest, count)
}

#[test]
fn neither_clients_nor_a_hung_haproxy_delay_a_heartbeat() {
    let site = Site::new("in-time");
    site.configure(&[site.target()], 2, KEY);
    let api = SocketAddr::new(site.amphora().management(Family::V4), API_PORT);
    let mut last = site.next().at;
    let calm = longest_gap(&site, &mut last, 4 * INTERVAL, || {});

    let idle: Vec<_> = (0..EACH).map(|_| site.fabric.controller.connect(api, PATIENCE).unwrap()).collect();
    let mut idle_tls = Vec::new();
    let mut dripping = Vec::new();
    for _ in 0..EACH {
        idle_tls.push(tls(&site, api));
        let mut drip = tls(&site, api);
        drip.write_all(b"PUT /1.0/config HTTP/1.1\r\nHost: a\r\nX-Drip: ").unwrap();
        dripping.push(drip);
    }
    let drip = || {
        // The agent closes those that take too long, which is its right.
        for connection in &mut dripping {
            let _ = connection.write_all(b"x");
        }
    };
    let crowded = longest_gap(&site, &mut last, 5 * INTERVAL, drip);

    // haproxy's socket takes connections and says nothing for ten seconds and more.
    for pid in site.amphora().pids("haproxy").unwrap() {
        site.amphora().node().run(["kill", "-STOP", &pid.to_string()]).unwrap();
    }
    let hung = longest_gap(&site, &mut last, Duration::from_secs(12), || {});
    let message = site.next().message;
    assert_eq!(message["listeners"], serde_json::json!({}), "what does not answer is not reported");
    site.amphora().kill_program("haproxy", Signal::SIGCONT).unwrap();
    lab::wait_for("haproxy answers again", PATIENCE, || {
        let message = site.next().message;
        if message["listeners"].get(HTTP).is_some() { Ok(()) } else { Err(message) }
    })
    .unwrap();
    drop((idle, idle_tls, dripping));

    println!(
        "longest gap and number at an interval of {INTERVAL:?}: calm {calm:?}, crowded {crowded:?}, hung {hung:?}"
    );
    // One interval, plus a quarter for the haproxy that has just begun to hang. Two would be one that is missing.
    for (longest, count) in [calm, crowded, hung] {
        assert!(longest < INTERVAL.mul_f64(1.5), "{longest:?}");
        assert!(longest > INTERVAL.mul_f64(0.5) && count >= 3, "{longest:?} {count}");
    }
}
