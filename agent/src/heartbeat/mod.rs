//! Heartbeats: what the health managers are told of this amphora, and when. Two missed ones are an alarm there, six or
//! so a failover, so nothing here waits for anything without an end.
//!
//! They have a thread and a runtime of their own: whatever clients do to the API, and however long a disk keeps its
//! workers, the next heartbeat leaves in time. What they need of the rest of the agent is read without waiting: the
//! configuration through a [`watch`], what may keep them silent through a short look at the state.
//!
//! **When.** Each begins 0.9 to 1.0 intervals (at random, so that amphorae that were started together do not stay
//! together) after the one before began. Reading the load balancers takes some milliseconds and at most
//! [`patience`]; then it is sent with what there is. So no gap is longer than one interval, but for a single one that is
//! longer by [`patience`] when a haproxy stops answering. An agent that is stopped sends one more at its end, and the next
//! agent one at its start, so that replacing it takes no longer than it takes.

mod beat;
mod counters;
mod envelope;
mod fit;
mod lvs;
mod message;
mod socket;
mod stat;
mod target;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use netns::Namespace;
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

pub use envelope::wrap;
pub use fit::DATAGRAM;
pub use socket::ask;
pub use target::Tally;

use crate::{
    config::{Config, Controller},
    owner::Shared,
    pulse::Pulse,
};

/// What to ask haproxy for [`members`].
pub const STATISTICS: &str = stat::COMMAND;

/// How each member of each pool is, in haproxy's words, from haproxy's answer to [`STATISTICS`].
///
/// # Errors
/// Why the answer is none.
pub fn members(answer: &str) -> Result<Vec<String>, String> {
    let read = stat::reading(answer).map_err(|error| error.to_string())?;
    Ok(read.pools.into_values().flat_map(|pool| pool.members.into_values()).collect())
}

/// How the heartbeats do, for whoever reports it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// By health manager; those of earlier configurations are forgotten.
    pub targets: BTreeMap<Controller, Tally>,
    /// The size of the last datagram in bytes.
    pub size: usize,
    /// How many members the last one had to leave out.
    pub members_left_out: usize,
    /// Why there are none at present.
    pub silent: Option<String>,
}

/// The running heartbeats.
#[derive(Debug)]
pub struct Heartbeats {
    status: Arc<Mutex<Status>>,
    parting: CancellationToken,
    /// Is dropped with their thread.
    alive: oneshot::Receiver<Infallible>,
}

/// The reading end of their [`Status`]. Clones are the same.
#[derive(Clone, Debug)]
pub struct Monitor(Arc<Mutex<Status>>);

impl Monitor {
    /// How they do.
    #[must_use]
    pub fn status(&self) -> Status {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// How long the last one may take: the longest [`patience`] and what sending it takes.
const PARTING: Duration = Duration::from_secs(3);

impl Heartbeats {
    /// Starts them: the first one leaves at once. `state` says whether keepalived matters, `namespace` is where LVS
    /// balances. They follow the configuration, and end when its sender does.
    ///
    /// # Errors
    /// No thread or no runtime for it.
    pub fn start(
        config: watch::Receiver<Arc<Config>>,
        state: Arc<Shared>,
        namespace: Namespace,
        pulse: Pulse,
    ) -> io::Result<Self> {
        let status = Arc::new(Mutex::new(Status::default()));
        // Its blocking threads resolve names and ask LVS, where there are any.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build()?;
        let beats = beat::Beats::new(&config.borrow().paths.base, state, namespace, status.clone());
        let (parting, (held, alive)) = (CancellationToken::new(), oneshot::channel());
        let asked = parting.clone();
        let run = move || {
            let _held = held; // until then, and not as long as the runtime, which waits for a name to be resolved
            runtime.block_on(keep_beating(config, beats, asked, pulse));
        };
        std::thread::Builder::new().name("heartbeats".into()).spawn(run)?;
        Ok(Self { status, parting, alive })
    }

    /// For whoever reports how they do.
    #[must_use]
    pub fn monitor(&self) -> Monitor {
        Monitor(self.status.clone())
    }

    /// Waits for the end of their thread, which ends only with the configuration's sender, or by a fault.
    pub async fn ended(&mut self) {
        let _ = (&mut self.alive).await; // nothing is ever sent
    }

    /// Sends the last one, and waits until that is done.
    pub async fn part(mut self) {
        self.parting.cancel();
        let _ = timeout(PARTING, self.ended()).await; // nobody waits longer for an agent's end
    }
}

async fn keep_beating(
    mut config: watch::Receiver<Arc<Config>>,
    mut beats: beat::Beats,
    parting: CancellationToken,
    pulse: Pulse,
) {
    loop {
        pulse.works();
        let began = Instant::now();
        let mut current = config.borrow_and_update().clone();
        beats.beat(&current, began + patience(current.heartbeat.interval)).await;
        let share = share();
        loop {
            pulse.waits_for(current.heartbeat.interval);
            tokio::select! {
                () = sleep_until(began + spacing(current.heartbeat.interval, share)) => break,
                () = parting.cancelled() => {
                    return beats.beat(&current, Instant::now() + patience(current.heartbeat.interval)).await;
                }
                changed = config.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let new = config.borrow_and_update().clone();
                    let was_silent = beat::configured(&current).is_err();
                    current = new;
                    if was_silent {
                        break; // it may have been told where to, or the key
                    }
                }
            }
        }
    }
}

/// How long reading the load balancers may take: a quarter of the interval, at most two seconds.
#[must_use]
pub fn patience(interval: Duration) -> Duration {
    (interval / 4).min(Duration::from_secs(2))
}

/// From one heartbeat's beginning to the next one's: 0.9 intervals at a share of 0, one at the highest.
fn spacing(interval: Duration, share: u16) -> Duration {
    interval.mul_f64(0.9 + 0.1 * f64::from(share) / f64::from(u16::MAX))
}

/// Any number, each as likely.
fn share() -> u16 {
    let mut bytes = [0; 2];
    // Without randomness all amphorae may beat together, which is no reason not to beat.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    u16::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_heartbeat_is_later_than_an_interval_after_the_one_before() {
        for seconds in [1, 3, 10, u64::from(u32::MAX)] {
            let interval = Duration::from_secs(seconds);
            assert_eq!(spacing(interval, u16::MAX), interval);
            let soonest = spacing(interval, 0);
            assert!(soonest >= interval.mul_f64(0.899) && soonest < spacing(interval, 1 << 15));
            assert!(patience(interval) <= interval / 4);
        }
        assert!((0..50).any(|_| share() != share()));
    }
}
