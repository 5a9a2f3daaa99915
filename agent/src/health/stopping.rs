//! Which load balancers are being stopped because somebody asked for it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::loadbalancers::LbId;

/// The load balancers that are being stopped, and how many calls are at it. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Stopping(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    calls: Mutex<BTreeMap<LbId, usize>>,
    changed: Notify,
}

/// A call that stops a load balancer, until it is dropped.
#[derive(Debug)]
pub struct Call {
    stopping: Stopping,
    lb: LbId,
}

impl Stopping {
    /// Notes that a load balancer is about to be stopped.
    #[must_use]
    pub fn begin(&self, lb: &LbId) -> Call {
        *self.calls().entry(lb.clone()).or_default() += 1;
        self.0.changed.notify_one();
        Call { stopping: self.clone(), lb: lb.clone() }
    }

    /// Whether somebody is stopping it.
    #[must_use]
    pub fn contains(&self, lb: &LbId) -> bool {
        self.calls().contains_key(lb)
    }

    /// Waits until one has begun or ended.
    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }

    fn calls(&self) -> MutexGuard<'_, BTreeMap<LbId, usize>> {
        self.0.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut calls = self.stopping.calls();
        if let Some(count) = calls.get_mut(&self.lb) {
            *count -= 1;
        }
        calls.retain(|_, count| *count > 0);
        drop(calls);
        self.stopping.0.changed.notify_one();
    }
}
