//! Clients: some that stay, many that come and go.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use lab::{Place, traffic};

use crate::support::PORT;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two rounds of questions of those that stay, and between two rounds of those that come and go.
const PAUSE: Duration = Duration::from_millis(100);
/// How many come in a round.
const ROUND: usize = 20;

/// A connection that stays, and who answers on it.
type Long = (String, TcpStream);

/// What the clients have met.
#[derive(Debug, Default)]
struct Met {
    long: Mutex<Vec<Long>>,
    /// Failed questions and connections, by what went wrong.
    failures: Mutex<BTreeMap<String, usize>>,
    asked: AtomicUsize,
    over: AtomicBool,
}

/// Clients at work, until they are dropped.
#[derive(Debug)]
pub(crate) struct Clients {
    met: Arc<Met>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    /// Opens `long` connections to the VIPs in turn that ask over and over, and has more come and go all the time.
    pub(crate) fn start(place: &Place, vips: &[IpAddr], long: usize) -> Self {
        let met = Arc::new(Met::default());
        let to: Vec<_> = vips.iter().map(|vip| SocketAddr::new(*vip, PORT)).collect();
        for at in to.iter().cycle().take(long) {
            let mut tcp = place.connect(*at, PATIENCE).unwrap();
            tcp.set_read_timeout(Some(PATIENCE)).unwrap();
            let name = ask(&mut tcp).unwrap();
            lock(&met.long).push((name, tcp));
        }
        let (staying, coming, place) = (Arc::clone(&met), Arc::clone(&met), place.clone());
        let stay = thread::spawn(move || {
            while !staying.over.load(Ordering::Relaxed) {
                lock(&staying.long).retain_mut(|(name, tcp)| match ask(tcp) {
                    Ok(answer) if answer == *name => {
                        staying.asked.fetch_add(1, Ordering::Relaxed);
                        true
                    }
                    other => {
                        staying.fail(&format!("a long one of {name}: {other:?}"), 1);
                        false
                    }
                });
                thread::sleep(PAUSE);
            }
        });
        let come = thread::spawn(move || {
            while !coming.over.load(Ordering::Relaxed) {
                for at in &to {
                    let split = traffic::connect(&place, *at, ROUND).unwrap();
                    coming.asked.fetch_add(split.answered(), Ordering::Relaxed);
                    split.failures.iter().for_each(|(why, n)| coming.fail(&format!("a short one: {why}"), *n));
                }
                thread::sleep(PAUSE);
            }
        });
        Self { met, threads: vec![stay, come] }
    }

    /// How many connections that stay each amphora has.
    pub(crate) fn long(&self) -> BTreeMap<String, usize> {
        let mut all = BTreeMap::new();
        lock(&self.met.long).iter().for_each(|(name, _)| *all.entry(name.clone()).or_default() += 1);
        all
    }

    /// Those of one amphora that stay end by themselves.
    pub(crate) fn end_long(&self, amphora: &str) {
        lock(&self.met.long).retain(|(name, _)| name != amphora);
    }

    /// What has failed so far.
    pub(crate) fn failures(&self) -> BTreeMap<String, usize> {
        lock(&self.met.failures).clone()
    }

    /// How many questions were answered so far.
    pub(crate) fn answered(&self) -> usize {
        self.met.asked.load(Ordering::Relaxed)
    }
}

impl Met {
    fn fail(&self, why: &str, times: usize) {
        *lock(&self.failures).entry(why.to_owned()).or_default() += times;
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.met.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join(); // its panic has been printed
        }
    }
}

/// One question on a connection that stays open; the name in the answer.
fn ask(tcp: &mut TcpStream) -> std::io::Result<String> {
    tcp.write_all(b"GET / HTTP/1.1\r\nHost: vip\r\n\r\n")?;
    let (mut answer, mut some) = (Vec::new(), [0; 1024]);
    loop {
        let n = tcp.read(&mut some)?;
        if n == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        answer.extend_from_slice(&some[..n]);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let length: usize = length.ok_or_else(|| Error::other(head.to_owned()))?;
        if body.len() >= length {
            return Ok(body.to_owned());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
