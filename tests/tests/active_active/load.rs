//! Clients that come at a steady pace, whatever becomes of those before them.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lab::Place;

const PACE: Duration = Duration::from_millis(20);
/// How long a client waits for its connection, and then for the answer.
pub(crate) const WAITS: Duration = Duration::from_secs(1);

/// What became of them.
#[derive(Debug, Default)]
pub(crate) struct Load {
    pub(crate) answered: usize,
    pub(crate) failed: BTreeMap<String, usize>,
    /// From the first failure to the last.
    pub(crate) failing: Option<(Instant, Instant)>,
}

impl Load {
    pub(crate) fn failures(&self) -> usize {
        self.failed.values().sum()
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (failed, all) = (self.failures(), self.failures() + self.answered);
        write!(f, "{failed:3} of {all} requests failed")?;
        if let Some((first, last)) = self.failing {
            write!(f, ", within {:.1} s {:?}", last.duration_since(first).as_secs_f32(), self.failed)?;
        }
        Ok(())
    }
}

/// Clients ask from `place` while `what` is done.
pub(crate) fn during(place: &Place, to: SocketAddr, what: impl FnOnce() + Send) -> Load {
    let (load, over) = (Mutex::new(Load::default()), AtomicBool::new(false));
    let client = |at: Instant| {
        let answer = ask(to);
        let mut load = load.lock().unwrap();
        match answer {
            Ok(()) => load.answered += 1,
            Err(error) => {
                *load.failed.entry(error.to_string()).or_default() += 1;
                let first = load.failing.map_or(at, |(first, _)| first.min(at));
                load.failing = Some((first, load.failing.map_or(at, |(_, last)| last.max(at))));
            }
        }
    };
    thread::scope(|scope| {
        let clients = scope.spawn(|| {
            let clients = || {
                thread::scope(|scope| {
                    let start = Instant::now();
                    for n in 0.. {
                        if over.load(Ordering::Relaxed) {
                            break;
                        }
                        let at = start + PACE * n;
                        thread::sleep(at.saturating_duration_since(Instant::now()));
                        scope.spawn(move || client(at));
                    }
                });
            };
            place.within(clients).unwrap();
        });
        what();
        over.store(true, Ordering::Relaxed);
        clients.join().unwrap();
    });
    load.into_inner().unwrap()
}

fn ask(to: SocketAddr) -> std::io::Result<()> {
    let mut tcp = TcpStream::connect_timeout(&to, WAITS)?;
    tcp.set_read_timeout(Some(WAITS))?;
    tcp.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    tcp.read_to_string(&mut answer)?;
    if answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200") {
        return Ok(());
    }
    Err(std::io::Error::other(answer.lines().next().unwrap_or("closed without an answer").to_owned()))
}
