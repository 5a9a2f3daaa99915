//! Services as processes of our own, where no systemd runs.
//!
//! Each service has a task ([`actor`]) that starts its main process, hears of its end and starts it again. The agent's
//! end is not theirs: they have sessions of their own, log to files, and nothing of ours is open in them. The next
//! agent finds them by a mark in their environment ([`super::processes`]). While no agent is there nobody restarts them.

mod actor;
pub mod exec;
mod files;
mod launch;
mod notify;
mod process;

use std::{
    collections::BTreeMap,
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{broadcast, mpsc, oneshot, watch};

pub use files::Places;

use super::{Service, ServiceError, ServiceName, Status, blocking, jobs::Kind, processes};
use crate::crash;
use actor::{Actor, Begin, Call, Task};
use files::Record;
use process::Process;

/// Events a receiver may be behind before it has to look at everything.
const EVENTS: usize = 64;

/// The direct backend. Dropping the last clone ends nothing but the supervision. To be made within a tokio runtime.
#[derive(Clone)]
pub struct Direct(Arc<Inner>);

struct Inner {
    places: Arc<Places>,
    boot: String,
    units: Mutex<BTreeMap<ServiceName, Unit>>,
    events: broadcast::Sender<ServiceName>,
}

/// A service's task, as others see it.
#[derive(Debug)]
struct Unit {
    calls: mpsc::Sender<Call>,
    status: watch::Receiver<Status>,
}

impl fmt::Debug for Direct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Direct").field(&self.0.places).finish()
    }
}

impl Direct {
    /// Finds what is installed. What runs is taken over; what should run and does not is started, in its order and in
    /// the background; what was being stopped is stopped.
    ///
    /// # Errors
    /// The system's, about our own directories.
    pub fn open(places: Places) -> io::Result<Self> {
        places.make()?;
        let inner = Inner {
            boot: processes::boot()?,
            units: Mutex::default(),
            events: broadcast::channel(EVENTS).0,
            places: Arc::new(places),
        };
        let direct = Self(Arc::new(inner));
        let services = direct.0.places.installed()?;
        // All of them have a status before the first waits for another's.
        let made: Vec<_> = services.iter().map(|service| direct.begin(service)).collect::<io::Result<_>>()?;
        let made: Vec<_> = services.into_iter().zip(made).collect();
        let before = |service: &Service| {
            let others = made
                .iter()
                .filter(|(other, _)| service.after.contains(&other.name) || other.before.contains(&service.name));
            others.map(|(_, (_, _, status))| status.subscribe()).collect::<Vec<_>>()
        };
        let before: Vec<_> = made.iter().map(|(service, _)| before(service)).collect();
        for ((service, (begin, record, status)), before) in made.into_iter().zip(before) {
            direct.spawn(service, begin, record, status, before).map_err(io::Error::other)?;
        }
        Ok(direct)
    }

    /// What a service begins with when the agent does: how it is, and what is to be done.
    fn begin(&self, service: &Service) -> io::Result<(Begin, Record, watch::Sender<Status>)> {
        let record = self.0.places.record(&service.name).unwrap_or_else(|error| {
            tracing::warn!(service = %service.name, %error, "its record is unusable; it is to run");
            None
        });
        let record = record.filter(|record| record.boot == self.0.boot);
        let record = record.unwrap_or_else(|| Record { boot: self.0.boot.clone(), wanted: true, ready: None });
        let main = processes::main_of(&service.name)?;
        let main = main.map(|seen| Process::adopt(&seen)).transpose()?.flatten();
        let (begin, status) = match (record.wanted, main) {
            (true, Some(process)) if record.ready == Some(process.identity()) => {
                tracing::info!(service = %service.name, pid = process.pid, "found running");
                let status = Status::Active { pid: process.pid, since: process.since };
                (Begin::Running(process), status)
            }
            (true, _) => (Begin::Start, Status::Starting), // which first kills what is left
            (false, Some(process)) => (Begin::Stop(process), Status::Inactive),
            (false, None) => (Begin::Rest, Status::Inactive),
        };
        Ok((begin, record, watch::channel(status).0))
    }

    fn spawn(
        &self,
        service: Service,
        begin: Begin,
        record: Record,
        status: watch::Sender<Status>,
        before: Vec<watch::Receiver<Status>>,
    ) -> Result<(), ServiceError> {
        let name = service.name.clone();
        let (calls, queue) = mpsc::channel(8);
        let unit = Unit { calls, status: status.subscribe() };
        let actor = Actor::new(service, self.0.places.clone(), record, status, self.0.events.clone())?;
        self.units().insert(name, unit);
        tokio::spawn(actor.run(begin, before, queue));
        Ok(())
    }

    pub(super) fn installed(&self) -> Vec<ServiceName> {
        self.units().keys().cloned().collect()
    }

    pub(super) async fn install(&self, service: &Service) -> Result<bool, ServiceError> {
        let name = &service.name;
        let known = self.units().contains_key(name);
        let held = self.0.places.definition(name).unwrap_or_default(); // an unreadable one is replaced
        if known && held.as_ref() == Some(service) {
            return Ok(false);
        }
        let record = Record { boot: self.0.boot.clone(), wanted: false, ready: None };
        let (places, first, new) = (self.0.places.clone(), record.clone(), service.clone());
        let write = move || {
            if !known {
                // First, or an agent that finds the definition alone would take it for a new boot and start it.
                places.put_record(&new.name, &first)?;
                crash::point("service: record written");
            }
            places.define(&new)
        };
        blocking(write).await.map_err(ServiceError::io(name, "install"))?;
        crash::point("service: installed");
        if known {
            self.call(name, Task::Change(Box::new(service.clone()))).await?;
        } else {
            self.spawn(service.clone(), Begin::Rest, record, watch::channel(Status::Inactive).0, Vec::new())?;
        }
        Ok(true)
    }

    pub(super) async fn job(&self, name: &ServiceName, kind: Kind) -> Result<(), ServiceError> {
        let done = self.call(name, Task::Do(kind)).await;
        match done {
            Err(ServiceError::Unknown(_)) if kind == Kind::Remove => {
                // A definition nobody could read may be left.
                let (places, name) = (self.0.places.clone(), name.clone());
                let error = ServiceError::io(&name, "remove");
                let of = name.clone();
                blocking(move || places.forget(&of)).await.map_err(error)
            }
            Ok(()) if kind == Kind::Remove => {
                self.units().remove(name);
                let _ = self.0.events.send(name.clone()); // nobody may be listening
                Ok(())
            }
            other => other,
        }
    }

    async fn call(&self, name: &ServiceName, task: Task) -> Result<(), ServiceError> {
        let unknown = || ServiceError::Unknown(name.clone());
        let calls = self.units().get(name).map(|unit| unit.calls.clone()).ok_or_else(unknown)?;
        let (tell, done) = oneshot::channel();
        let gone = || ServiceError::Backend {
            name: name.clone(),
            what: "supervise",
            text: "its task has ended; the log says why".to_owned(),
        };
        calls.send(Call { task, done: tell }).await.map_err(|_| gone())?;
        done.await.map_err(|_| gone())?
    }

    #[expect(clippy::unused_async, reason = "the other backend has to ask")]
    pub(super) async fn status(&self, name: &ServiceName) -> Result<Status, ServiceError> {
        let units = self.units();
        let unit = units.get(name).ok_or_else(|| ServiceError::Unknown(name.clone()))?;
        Ok(unit.status.borrow().clone())
    }

    pub(super) fn events(&self) -> broadcast::Receiver<ServiceName> {
        self.0.events.subscribe()
    }

    fn units(&self) -> MutexGuard<'_, BTreeMap<ServiceName, Unit>> {
        self.0.units.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
