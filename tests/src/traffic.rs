//! Clients: many TCP connections to a VIP, and who answered.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::error::Result;
use crate::lock;
use crate::place::Place;

/// How many connections are open at a time.
const AT_A_TIME: usize = 32;
/// How long each step of one connection may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// Who answered how many connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// Answers by the name in them.
    pub answers: BTreeMap<String, usize>,
    /// Connections without an answer, by what went wrong.
    pub failures: BTreeMap<String, usize>,
}

impl Split {
    /// How many connections were answered.
    #[must_use]
    pub fn answered(&self) -> usize {
        self.answers.values().sum()
    }

    /// How many were not.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.failures.values().sum()
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.answers.iter().map(|(name, count)| format!("{name} {count}")).collect();
        let bad: Vec<String> = self.failures.iter().map(|(reason, count)| format!("{count} x {reason}")).collect();
        write!(f, "{}{}{}", all.join(", "), if bad.is_empty() { "" } else { "; failed: " }, bad.join(", "))
    }
}

/// Opens `count` connections from `place`, each with a source port of its own, and reads the name in each answer.
pub fn connect(place: &Place, to: SocketAddr, count: usize) -> Result<Split> {
    let split = Mutex::new(Split::default());
    let next = AtomicUsize::new(0);
    let client = || {
        while next.fetch_add(1, Ordering::Relaxed) < count {
            let answer = ask(to, PATIENCE);
            let mut split = lock(&split);
            match answer {
                Ok(name) => *split.answers.entry(name).or_default() += 1,
                Err(error) => *split.failures.entry(error.to_string()).or_default() += 1,
            }
        }
    };
    place.within(|| {
        thread::scope(|scope| {
            for _ in 0..AT_A_TIME.min(count) {
                scope.spawn(client);
            }
        });
    })?;
    Ok(split.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// One connection: the last line of the answer to a request for `/`. Each step may take `patience`.
pub(crate) fn ask(to: SocketAddr, patience: Duration) -> std::io::Result<String> {
    let mut tcp = std::net::TcpStream::connect_timeout(&to, patience)?;
    tcp.set_read_timeout(Some(patience))?;
    tcp.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    tcp.read_to_string(&mut answer)?;
    match answer.lines().last() {
        Some(name) if !name.is_empty() => Ok(name.to_owned()),
        _ => Err(std::io::Error::other("closed without an answer")),
    }
}
