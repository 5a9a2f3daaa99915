//! A bound on connections that idle ones cannot turn against others.
//!
//! When all slots are taken the connection that has been idle longest is closed, in its handshake or between requests;
//! one with a request in it never is. Handshakes are not closed first: then a full house would let nobody new in.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

/// How soon to look again for an idle connection when every one has a request in it.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// `idle_since` of a connection with a request in it.
const BUSY: u64 = u64::MAX;

/// All connections.
#[derive(Debug)]
pub(super) struct Slots {
    limit: usize,
    started: Instant,
    open: Mutex<(u64, BTreeMap<u64, Arc<State>>)>,
    freed: Notify,
}

/// What is known of one connection.
#[derive(Debug)]
struct State {
    /// Microseconds since the server started, or [`BUSY`].
    idle_since: AtomicU64,
    close: CancellationToken,
    /// A request's body was not read to its end.
    unread: AtomicBool,
}

/// A place for one connection; free again when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Arc<Slots>,
    id: u64,
    state: Arc<State>,
}

impl Slots {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, started: Instant::now(), open: Mutex::default(), freed: Notify::new() })
    }

    /// Takes a slot, if need be from the connection idle longest.
    pub(super) async fn take(self: &Arc<Self>) -> Slot {
        loop {
            let mut freed = pin!(self.freed.notified());
            freed.as_mut().enable(); // before looking, so that none is missed
            if let Some(slot) = self.try_take() {
                return slot;
            }
            self.close_idle();
            let _ = timeout(LOOK_AGAIN, freed).await; // either way look again
        }
    }

    fn try_take(self: &Arc<Self>) -> Option<Slot> {
        let (next, open) = &mut *self.lock();
        if open.len() >= self.limit {
            return None;
        }
        *next += 1;
        let state =
            Arc::new(State { idle_since: self.now().into(), close: CancellationToken::new(), unread: false.into() });
        open.insert(*next, state.clone());
        Some(Slot { slots: self.clone(), id: *next, state })
    }

    /// Asks the connection idle longest to close; also when the process is out of file descriptors.
    pub(super) fn close_idle(&self) {
        let open = self.lock();
        let idle =
            open.1.values().filter(|state| !state.close.is_cancelled() && state.idle_since.load(Relaxed) != BUSY);
        if let Some(oldest) = idle.min_by_key(|state| state.idle_since.load(Relaxed)) {
            oldest.close.cancel();
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(BUSY - 1)
    }

    /// A panic elsewhere cannot leave the table half changed.
    fn lock(&self) -> MutexGuard<'_, (u64, BTreeMap<u64, Arc<State>>)> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// A request begins or ends.
    pub(super) fn set_busy(&self, busy: bool) {
        self.state.idle_since.store(if busy { BUSY } else { self.slots.now() }, Relaxed);
    }

    pub(super) fn is_busy(&self) -> bool {
        self.state.idle_since.load(Relaxed) == BUSY
    }

    /// Whether the last request's body was left unread.
    pub(super) fn set_unread(&self, unread: bool) {
        self.state.unread.store(unread, Relaxed);
    }

    pub(super) fn has_unread(&self) -> bool {
        self.state.unread.load(Relaxed)
    }

    /// Cancelled when the slot is needed for another connection.
    pub(super) fn wanted(&self) -> &CancellationToken {
        &self.state.close
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.lock().1.remove(&self.id);
        self.slots.freed.notify_waiters(); // no waiter, no permit: a stale one would close a connection too many
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_longest_idle_goes_and_never_the_busy() {
        let slots = Slots::new(4);
        let mut held = Vec::new();
        for _ in 0..4 {
            tokio::time::advance(Duration::from_secs(1)).await;
            held.push(slots.take().await);
        }
        held[0].set_busy(true);
        tokio::time::advance(Duration::from_secs(1)).await;
        held[1].set_busy(false);
        for expected in [2, 3, 1] {
            slots.close_idle();
            let closed: Vec<_> = held.iter().map(|slot| slot.wanted().is_cancelled()).collect();
            assert!(closed[expected], "{expected}: {closed:?}");
        }
        slots.close_idle();
        assert!(!held[0].wanted().is_cancelled());
        assert!(timeout(Duration::from_mins(1), slots.take()).await.is_err());
        held[0].set_busy(false);
        let taker = tokio::spawn({
            let slots = slots.clone();
            async move { slots.take().await }
        });
        held[0].wanted().cancelled().await;
        held.remove(0);
        taker.await.unwrap();
    }
}
