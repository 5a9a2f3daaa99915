//! Heartbeats keep their interval, whatever clients do to the API and however long haproxy thinks.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use lab::amphora::API_PORT;
use lab::heartbeats::{Heartbeat, KEY};
use lab::{Family, wait_for};
use nix::sys::signal::Signal;
use rustls::{ClientConnection, StreamOwned};
use serde_json::{Value, json};

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

/// When heartbeats arrive and what they say, noted by a thread that does nothing else.
struct Arrivals(Arc<Mutex<Vec<Heartbeat>>>);

impl Arrivals {
    fn new(site: &Site) -> Self {
        let (manager, all) = (site.manager.try_clone().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let noted = all.clone();
        thread::spawn(move || {
            while let Ok(heartbeat) = manager.next(KEY, PATIENCE) {
                noted.lock().unwrap().push(heartbeat);
            }
        });
        Self(all)
    }

    /// Waits for so many more; how many have come since `from` with the longest time one of them took to follow.
    fn since(&self, from: Instant, more: usize) -> (Duration, usize) {
        let enough = self.0.lock().unwrap().len() + more;
        wait_for("heartbeats", PATIENCE, || match self.0.lock().unwrap().len() {
            len if len >= enough => Ok(()),
            len => Err(format!("{len} of {enough}")),
        })
        .unwrap();
        let all = self.0.lock().unwrap();
        let gaps = all.windows(2).filter(|pair| pair[1].at > from).map(|pair| pair[1].at - pair[0].at);
        (gaps.clone().max().unwrap(), gaps.count())
    }

    fn last(&self) -> Value {
        self.0.lock().unwrap().last().unwrap().message.clone()
    }
}

#[test]
fn neither_a_restart_nor_clients_nor_a_hung_haproxy_delay_a_heartbeat() {
    let site = Site::new("in-time");
    site.configure(&[site.target()], 2, KEY);
    let api = SocketAddr::new(site.amphora().management(Family::V4), API_PORT);
    let arrivals = Arrivals::new(&site);
    let from = Instant::now();
    let calm = arrivals.since(from, 4);

    let from = Instant::now();
    site.amphora().stop_agent().unwrap();
    site.amphora().start_agent(&[]).unwrap();
    site.amphora().wait_api(PATIENCE).unwrap();
    let restarted = arrivals.since(from, 3);

    let from = Instant::now();
    let idle: Vec<_> = (0..EACH).map(|_| site.fabric.controller.connect(api, PATIENCE).unwrap()).collect();
    let mut idle_tls = Vec::new();
    let mut dripping = Vec::new();
    for _ in 0..EACH {
        idle_tls.push(tls(&site, api));
        // In its header, in its body.
        for begin in ["X-Drip: ", "Content-Length: 100000\r\n\r\n"] {
            let mut drip = tls(&site, api);
            drip.write_all(format!("PUT /1.0/config HTTP/1.1\r\nHost: a\r\n{begin}").as_bytes()).unwrap();
            dripping.push(drip);
        }
    }
    let mut crowded = (Duration::ZERO, 0);
    for _ in 0..5 {
        // The agent closes those that take too long, which is its right.
        for connection in &mut dripping {
            let _ = connection.write_all(b"#").and_then(|()| connection.flush());
        }
        crowded = arrivals.since(from, 1);
    }

    // haproxy's socket takes connections and says nothing for ten seconds and more.
    let from = Instant::now();
    for pid in site.amphora().pids("haproxy").unwrap() {
        site.amphora().node().run(["kill", "-STOP", &pid.to_string()]).unwrap();
    }
    let hung = arrivals.since(from, 7);
    assert_eq!(arrivals.last()["listeners"], json!({}), "what does not answer is not reported");
    site.amphora().kill_program("haproxy", Signal::SIGCONT).unwrap();
    wait_for("haproxy answers again", PATIENCE, || {
        let message = arrivals.last();
        if message["listeners"].get(HTTP).is_some() { Ok(()) } else { Err(message) }
    })
    .unwrap();
    drop((idle, idle_tls, dripping));

    let all = [calm, restarted, crowded, hung];
    println!("longest gaps and numbers of heartbeats at an interval of {INTERVAL:?}: {all:?}");
    // One interval, plus a quarter for the haproxy that has just begun to hang. Two would be one that is missing.
    for (longest, count) in all {
        assert!(longest < INTERVAL.mul_f64(1.5), "{longest:?}");
        assert!(longest > INTERVAL.mul_f64(0.5) && count >= 3, "{longest:?} {count}");
    }
}
