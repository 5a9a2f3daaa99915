//! One call at a time for each load balancer, in the order they came.
//!
//! The controller sends a call again when it has waited for a minute. A call that is the same as the last in the line
//! gets that one's answer, and each runs to its end whoever goes away.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};

use super::{Done, Error};
use crate::loadbalancers::LbId;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Upload { amphora_id: String, body: Bytes },
    Start,
    Stop,
    Reload,
    Delete,
}

impl Call {
    /// Whether another one may have the answer of this one. A reload that has begun has perhaps read a certificate that
    /// has been replaced since.
    fn serves(&self, other: &Self, begun: bool) -> bool {
        self == other && !(begun && *self == Self::Reload)
    }
}

type Answer = Result<Done, Error>;

#[derive(Debug)]
struct Turn {
    call: Call,
    begun: Arc<AtomicBool>,
    answer: Shared<BoxFuture<'static, Answer>>,
}

/// The last in each line; the others are held by those after them.
type Lines = Arc<Mutex<BTreeMap<LbId, Turn>>>;

/// The lines of all load balancers. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns(Lines);

impl Turns {
    /// Does `work` when its turn has come, or joins a call that is the same.
    pub(super) async fn take(
        &self,
        lb: &LbId,
        call: Call,
        work: impl Future<Output = Answer> + Send + 'static,
    ) -> Answer {
        self.enter(lb, call, work).await
    }

    fn enter(
        &self,
        lb: &LbId,
        call: Call,
        work: impl Future<Output = Answer> + Send + 'static,
    ) -> Shared<BoxFuture<'static, Answer>> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = lines.get(lb);
        if let Some(turn) = last.filter(|turn| turn.call.serves(&call, turn.begun.load(Ordering::Acquire))) {
            return turn.answer.clone();
        }
        let before = last.map(|turn| turn.answer.clone());
        let begun = Arc::new(AtomicBool::new(false));
        let (lines_of_all, lb_of_this, begun_by_this) = (self.0.clone(), lb.clone(), begun.clone());
        let running = tokio::spawn(async move {
            if let Some(before) = before {
                drop(before.await); // it is for whoever asked for it
            }
            begun_by_this.store(true, Ordering::Release);
            // Also when it panics, and before anybody is told: a call that follows the answer is a new one.
            let answer = std::panic::AssertUnwindSafe(work).catch_unwind().await.unwrap_or(Err(Error::Panicked));
            let mut lines = lines_of_all.lock().unwrap_or_else(PoisonError::into_inner);
            if lines.get(&lb_of_this).is_some_and(|last| Arc::ptr_eq(&last.begun, &begun_by_this)) {
                lines.remove(&lb_of_this);
            }
            answer
        });
        let answer = running.map(|ended| ended.unwrap_or(Err(Error::Panicked))).boxed().shared();
        lines.insert(lb.clone(), Turn { call, begun, answer: answer.clone() });
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::sync::Semaphore;

    use super::*;

    /// Work that counts itself and waits to be let go.
    struct Gate {
        begun: AtomicUsize,
        open: Semaphore,
    }

    impl Gate {
        fn new() -> Arc<Self> {
            Arc::new(Self { begun: AtomicUsize::new(0), open: Semaphore::new(0) })
        }

        async fn pass(self: Arc<Self>, answer: Answer) -> Answer {
            self.begun.fetch_add(1, Ordering::SeqCst);
            self.open.acquire().await.unwrap().forget();
            answer
        }

        async fn until_begun(&self, count: usize) {
            while self.begun.load(Ordering::SeqCst) < count {
                tokio::task::yield_now().await;
            }
        }
    }

    fn lb(id: &str) -> LbId {
        LbId::new(id).unwrap()
    }

    #[tokio::test]
    async fn the_same_call_joins_another_waits_and_other_load_balancers_do_not() {
        let (turns, gate) = (Turns::default(), Gate::new());
        let one = lb("one");
        let start = || turns.enter(&one, Call::Start, gate.clone().pass(Ok(Done::Started)));
        let (first, joined) = (start(), start());
        gate.until_begun(1).await;
        let while_it_runs = start();
        let stop = turns.enter(&one, Call::Stop, gate.clone().pass(Ok(Done::Stopped)));
        let after_the_stop = start();
        let other = turns.take(&lb("other"), Call::Stop, async { Ok(Done::Stopped) }).await;
        assert_eq!(other, Ok(Done::Stopped));
        assert_eq!(gate.begun.load(Ordering::SeqCst), 1, "nothing else of this one has begun");
        gate.open.add_permits(3);
        for start in [first, joined, while_it_runs, after_the_stop] {
            assert_eq!(start.await, Ok(Done::Started));
        }
        assert_eq!(stop.await, Ok(Done::Stopped));
        assert_eq!(gate.begun.load(Ordering::SeqCst), 3, "start, stop, start");
        assert!(turns.0.lock().unwrap().is_empty(), "nothing is kept of what is done");
    }

    #[tokio::test]
    async fn a_reload_that_has_begun_serves_nobody_else() {
        let (turns, gate) = (Turns::default(), Gate::new());
        let reload = || turns.enter(&lb("one"), Call::Reload, gate.clone().pass(Ok(Done::Reloaded)));
        let begun = reload();
        gate.until_begun(1).await;
        let (waiting, joined) = (reload(), reload());
        gate.open.add_permits(2);
        for reload in [begun, waiting, joined] {
            assert_eq!(reload.await, Ok(Done::Reloaded));
        }
        assert_eq!(gate.begun.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_call_ends_without_its_caller_and_after_a_panic_comes_the_next() {
        let (turns, gate) = (Turns::default(), Gate::new());
        let one = lb("one");
        drop(turns.enter(&one, Call::Stop, gate.clone().pass(Ok(Done::Stopped))));
        gate.until_begun(1).await;
        let broken = turns.enter(&one, Call::Start, async { panic!("on purpose") });
        let next = turns.enter(&one, Call::Stop, async { Ok(Done::Stopped) });
        gate.open.add_permits(1);
        assert_eq!(broken.await, Err(Error::Panicked));
        assert_eq!(next.await, Ok(Done::Stopped));
    }
}
