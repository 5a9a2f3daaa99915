//! Clients that go on: a steady stream of requests from a place, and each one that failed with its time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::error::{Result, io};
use crate::lock;
use crate::place::Place;
use crate::traffic::ask;

/// A request without an answer.
#[derive(Clone, Debug)]
pub struct Failure {
    /// When it was begun.
    pub began: Instant,
    /// When it was given up.
    pub ended: Instant,
    /// Where it went.
    pub to: SocketAddr,
    /// What the client was told.
    pub reason: String,
}

/// What came of the requests.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Answers, by the name in them.
    pub answers: BTreeMap<String, usize>,
    /// The others, in the order of their ends.
    pub failures: Vec<Failure>,
}

impl Outcome {
    /// How many requests there were.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.answers.values().sum::<usize>() + self.failures.len()
    }
}

/// Clients at work, until this is dropped.
#[derive(Debug)]
pub struct Load {
    over: Arc<AtomicBool>,
    outcome: Arc<Mutex<Outcome>>,
    clients: Option<JoinHandle<Result<()>>>,
}

impl Load {
    /// Starts `clients` of them. Each opens a connection to the next of `to`, asks, reads the answer, and rests for `pause`;
    /// a request that is not answered within `patience` has failed.
    pub fn start(
        place: &Place,
        to: Vec<SocketAddr>,
        clients: usize,
        pause: Duration,
        patience: Duration,
    ) -> Result<Self> {
        let (over, outcome) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Outcome::default())));
        let (place, ours, told) = (place.clone(), over.clone(), outcome.clone());
        let client = move |first: usize| {
            for to in to.iter().cycle().skip(first) {
                if ours.load(Ordering::Relaxed) {
                    return;
                }
                let began = Instant::now();
                let answer = ask(*to, patience);
                let mut outcome = lock(&told);
                match answer {
                    Ok(name) => *outcome.answers.entry(name).or_default() += 1,
                    Err(error) => outcome.failures.push(Failure {
                        began,
                        ended: Instant::now(),
                        to: *to,
                        reason: error.to_string(),
                    }),
                }
                drop(outcome);
                thread::sleep(pause);
            }
        };
        let all = move || {
            place.within(|| {
                thread::scope(|scope| {
                    for first in 0..clients {
                        let client = &client;
                        scope.spawn(move || client(first));
                    }
                });
            })
        };
        let clients = thread::Builder::new().name("lab-load".into()).spawn(all).map_err(io("start clients"))?;
        Ok(Self { over, outcome, clients: Some(clients) })
    }

    /// What came of the requests since the last time this was asked.
    #[must_use]
    pub fn take(&self) -> Outcome {
        std::mem::take(&mut *lock(&self.outcome))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(clients) = self.clients.take() {
            let _ = clients.join(); // a panic in a client is the lab's own and has been printed
        }
    }
}
