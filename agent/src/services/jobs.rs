//! One job a service at a time, in the order they were asked for.
//!
//! A call that asks for what the last job in the line is about to do shares its answer, as systemd merges jobs. For
//! a start or a stop that also holds while it runs. A reload that runs has perhaps read the old file already, so
//! another one has to follow it; of those that wait one is enough. A job runs to its end whoever goes away.

use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::watch;

use super::{ServiceError, ServiceName};

/// What is done to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Install,
    Remove,
    Start,
    Stop,
    Reload,
    Restart,
}

impl Kind {
    /// That it has not come to its end, as in [`ServiceError::TimedOut`].
    pub(super) fn unfinished(self) -> &'static str {
        match self {
            Self::Install => "was not installed",
            Self::Remove => "was not removed",
            Self::Start => "did not start",
            Self::Stop => "did not stop",
            Self::Reload => "did not reload",
            Self::Restart => "did not restart",
        }
    }

    /// Whether a second one may share the answer of the first, which has begun or not.
    fn merges(self, begun: bool) -> bool {
        match self {
            Self::Start | Self::Stop | Self::Remove => true,
            Self::Reload | Self::Restart => !begun,
            Self::Install => false, // its content may be another
        }
    }
}

type Outcome = Result<bool, ServiceError>;

#[derive(Debug)]
struct Job {
    kind: Kind,
    begun: Arc<AtomicBool>,
    outcome: watch::Receiver<Option<Outcome>>,
}

type Lines = Mutex<HashMap<ServiceName, Vec<Job>>>;

/// The jobs of all services.
#[derive(Clone, Debug, Default)]
pub(super) struct Jobs(Arc<Lines>);

/// Takes a job out of its line, also when its work panics.
struct Leave {
    lines: Arc<Lines>,
    name: ServiceName,
    begun: Arc<AtomicBool>,
}

impl Drop for Leave {
    fn drop(&mut self) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(line) = lines.get_mut(&self.name) else { return };
        line.retain(|job| !Arc::ptr_eq(&job.begun, &self.begun));
        if line.is_empty() {
            lines.remove(&self.name);
        }
    }
}

impl Jobs {
    /// Does `work` when its turn has come, or joins the same that is in the line.
    pub(super) async fn run(
        &self,
        name: &ServiceName,
        kind: Kind,
        work: impl Future<Output = Outcome> + Send + 'static,
    ) -> Outcome {
        let mut outcome = self.enter(name, kind, work);
        let ended = outcome.wait_for(Option::is_some).await;
        ended.ok().and_then(|outcome| outcome.clone()).unwrap_or_else(|| {
            let text = "the job panicked; the log says why".to_owned();
            Err(ServiceError::Backend { name: name.clone(), what: "finish a job of", text })
        })
    }

    fn enter(
        &self,
        name: &ServiceName,
        kind: Kind,
        work: impl Future<Output = Outcome> + Send + 'static,
    ) -> watch::Receiver<Option<Outcome>> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let line = lines.entry(name.clone()).or_default();
        if let Some(last) = line.last()
            && last.kind == kind
            && kind.merges(last.begun.load(Ordering::Acquire))
        {
            return last.outcome.clone();
        }
        let before = line.last().map(|job| job.outcome.clone());
        let (tell, outcome) = watch::channel(None);
        let begun = Arc::new(AtomicBool::new(false));
        line.push(Job { kind, begun: begun.clone(), outcome: outcome.clone() });
        let leave = Leave { lines: self.0.clone(), name: name.clone(), begun };
        tokio::spawn(async move {
            if let Some(mut before) = before {
                let _ = before.wait_for(Option::is_some).await; // a panic ends it as well
            }
            leave.begun.store(true, Ordering::Release);
            let done = work.await;
            drop(leave); // before anybody is told: a call that follows the answer is a new job
            tell.send_replace(Some(done));
        });
        outcome
    }
}

#[cfg(test)]
mod tests;
