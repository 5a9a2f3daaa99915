//! Whether the loops that do the agent's work still make progress: what its `WATCHDOG=1` stands for.
//!
//! A loop says when it begins a piece of work, which may take as long as all time-outs of what it waits for together, and
//! when it begins to wait for more. One that has promised to be back and is not is stuck, and [`feed`], the one place that
//! decides, then says nothing, so that systemd starts the agent anew. That changes nothing on the wire.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::notify::Notify;

/// How long a piece of work may take. A hung D-Bus or netlink socket holds one up for 20 s a call, a hung gobgpd for 2 s;
/// a piece is a pass of the converging task, or one load balancer's state. A commit to the disk is waiting: who knows how long.
pub const WORK: Duration = Duration::from_mins(2);
/// How late a loop may be that wakes up by itself: the machine may be busy.
const LATE: Duration = Duration::from_secs(10);
/// No promise.
const EVER: u64 = u64::MAX;

/// One loop's.
#[derive(Clone, Debug)]
pub struct Pulse {
    name: &'static str,
    limit: Duration,
    epoch: Instant,
    /// When it is to be heard of again, in milliseconds after `epoch`.
    due: Arc<AtomicU64>,
}

impl Pulse {
    /// A piece of work begins.
    pub fn works(&self) {
        self.promise(self.limit);
    }

    /// It waits for others, and for as long as they like.
    pub fn waits(&self) {
        self.due.store(EVER, Ordering::Relaxed);
    }

    /// It waits for others, and wakes up by itself after `at_most`.
    pub fn waits_for(&self, at_most: Duration) {
        self.promise(at_most.saturating_add(LATE));
    }

    fn promise(&self, within: Duration) {
        let due = self.epoch.elapsed().saturating_add(within).as_millis();
        self.due.store(u64::try_from(due).unwrap_or(EVER), Ordering::Relaxed);
    }
}

impl Default for Pulse {
    /// One that nobody feels.
    fn default() -> Self {
        Pulses::default().of("", Duration::MAX)
    }
}

/// All of them.
#[derive(Debug)]
pub struct Pulses {
    epoch: Instant,
    all: Vec<Pulse>,
}

impl Default for Pulses {
    fn default() -> Self {
        Self { epoch: Instant::now(), all: Vec::new() }
    }
}

impl Pulses {
    /// One for a loop of this name whose pieces of work take no longer than `limit`. It has promised nothing yet.
    pub fn of(&mut self, name: &'static str, limit: Duration) -> Pulse {
        let pulse = Pulse { name, limit, epoch: self.epoch, due: Arc::new(AtomicU64::new(EVER)) };
        self.all.push(pulse.clone());
        pulse
    }

    /// A loop that has not kept its promise, and for how long.
    #[must_use]
    pub fn stuck(&self) -> Option<(&'static str, Duration)> {
        let now = u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(EVER);
        let late = |pulse: &Pulse| now.checked_sub(pulse.due.load(Ordering::Relaxed)).filter(|late| *late > 0);
        self.all.iter().find_map(|pulse| Some((pulse.name, Duration::from_millis(late(pulse)?))))
    }
}

/// Tells systemd that the agent is alive for as long as it is, four times as often as asked for, so that a busy machine
/// makes no alarm. For ever, also when nobody asks.
pub async fn feed(notify: Notify, pulses: Pulses) -> Infallible {
    let Some(every) = notify.watchdog() else { return std::future::pending().await };
    let mut known = None;
    loop {
        match pulses.stuck() {
            None => {
                notify.alive();
                known = None;
            }
            Some((name, late)) => {
                if known != Some(name) {
                    tracing::error!(late = ?late, "the {name} loop makes no progress; systemd is to restart the agent");
                }
                known = Some(name);
            }
        }
        tokio::time::sleep(every / 4).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_is_stuck_when_it_breaks_its_promise_and_only_then() {
        let mut pulses = Pulses::default();
        let (quick, slow) = (pulses.of("quick", Duration::ZERO), pulses.of("slow", WORK));
        assert_eq!(pulses.stuck(), None, "neither has begun");
        slow.works();
        slow.waits_for(Duration::MAX);
        quick.works();
        std::thread::sleep(Duration::from_millis(5));
        let (name, late) = pulses.stuck().unwrap();
        assert!(name == "quick" && late >= Duration::from_millis(4), "{late:?}");
        quick.waits_for(Duration::ZERO);
        assert_eq!(pulses.stuck(), None);
        quick.works();
        std::thread::sleep(Duration::from_millis(5));
        quick.waits();
        assert_eq!(pulses.stuck(), None);
    }

    #[tokio::test]
    async fn systemd_hears_nothing_while_a_loop_is_stuck_and_again_when_it_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = tokio::net::UnixDatagram::bind(&path).unwrap();
        let (mut pulses, second) = (Pulses::default(), Duration::from_secs(1));
        let pulse = pulses.of("stuck", Duration::ZERO);
        let fed = tokio::spawn(feed(Notify::to(path, Duration::from_millis(40)), pulses));
        let mut message = [0; 64];
        for _ in 0..3 {
            let length = tokio::time::timeout(second * 60, socket.recv(&mut message)).await.unwrap().unwrap();
            assert_eq!(&message[..length], b"WATCHDOG=1");
        }
        pulse.works();
        tokio::time::sleep(second / 5).await;
        while socket.try_recv(&mut message).is_ok() {} // said before
        assert!(tokio::time::timeout(second / 5, socket.recv(&mut message)).await.is_err(), "20 beats are missing");
        pulse.waits();
        tokio::time::timeout(second * 60, socket.recv(&mut message)).await.unwrap().unwrap();
        fed.abort();
    }
}
