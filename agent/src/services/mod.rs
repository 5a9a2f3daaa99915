//! Programs that outlive the agent: haproxy, keepalived, the Prometheus proxy.
//!
//! The boundary is here so that nobody else knows who runs them. In the image that is systemd, asked over D-Bus
//! ([`systemd`]). Where there is none (containers, the lab, CI) they are processes of our own ([`direct`]) that stay
//! when the agent goes and are found when it comes back. Both keep the same contract, and the same tests show it
//! (`tests/tests/services`).
//!
//! An installed service is started at boot. A call returns when its work is done and judged. One job a service at a
//! time; calls that ask for the same as one under way get its answer ([`jobs`]).

pub mod direct;
mod error;
mod jobs;
mod processes;
pub mod reload_main;
mod service;
pub mod systemd;

use std::{
    io,
    time::{Duration, Instant},
};

use tokio::sync::broadcast;

pub use direct::{Direct, Places};
pub use error::ServiceError;
pub use service::{ReloadSignal, Sandbox, Service, ServiceName};
pub use systemd::{Settings, Systemd};

use jobs::{Jobs, Kind};

/// Does on a thread for it what waits for a disk or for another process.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|panic| Err(io::Error::other(panic)))
}
/// How long a call waits for its job and those before it. The stock controller gives a call up after 60 s without an
/// answer, and then makes it again.
const PATIENCE: Duration = Duration::from_secs(50);

/// How a service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It does not run and is not meant to.
    Inactive,
    /// It is being started, or waits to be started again after it ended by itself.
    Starting,
    /// It runs, and was ready once.
    Active {
        /// The main process.
        pid: u32,
        /// When the main process was started.
        since: Instant,
    },
    /// It has ended by itself, and nobody will start it again.
    Failed {
        /// How it ended.
        why: String,
    },
}

/// Runs services. Clones are the same.
#[derive(Clone, Debug)]
pub struct Services {
    backend: Backend,
    jobs: Jobs,
}

/// Who runs the services.
#[derive(Clone, Debug)]
pub enum Backend {
    /// systemd.
    Systemd(Systemd),
    /// The agent, as processes of its own.
    Direct(Direct),
}

impl Services {
    /// On top of one of the backends.
    #[must_use]
    pub fn new(backend: Backend) -> Self {
        Self { backend, jobs: Jobs::default() }
    }

    /// Whether systemd is who runs them, and so the parent of their processes.
    #[must_use]
    pub fn are_systemds(&self) -> bool {
        matches!(self.backend, Backend::Systemd(_))
    }

    /// Installs a service, or changes it: durable, and started at every boot from now on. Starts nothing now; what
    /// runs goes on as it was started until it is restarted. Whether anything changed.
    pub async fn install(&self, service: &Service) -> Result<bool, ServiceError> {
        let (backend, service) = (self.backend.clone(), service.clone());
        let name = service.name.clone();
        let work = async move {
            match &backend {
                Backend::Systemd(systemd) => systemd.install(&service).await,
                Backend::Direct(direct) => direct.install(&service).await,
            }
        };
        in_time(&name, Kind::Install, self.jobs.run(&name, Kind::Install, work)).await
    }

    /// Stops a service and forgets it; one that is not installed is fine.
    pub async fn remove(&self, name: &ServiceName) -> Result<(), ServiceError> {
        self.job(name, Kind::Remove).await
    }

    /// Starts a service; one that runs is fine. Returns when it is ready. One that failed is tried again in the
    /// background, as after a crash.
    pub async fn start(&self, name: &ServiceName) -> Result<(), ServiceError> {
        self.job(name, Kind::Start).await
    }

    /// Stops a service until it is started again, or the machine; one that does not run is fine.
    pub async fn stop(&self, name: &ServiceName) -> Result<(), ServiceError> {
        self.job(name, Kind::Stop).await
    }

    /// Has a running service read its configuration again; one that does not run is [`ServiceError::NotActive`].
    /// What fails leaves the old configuration serving.
    pub async fn reload(&self, name: &ServiceName) -> Result<(), ServiceError> {
        self.job(name, Kind::Reload).await
    }

    /// Stops, if it runs, and starts.
    pub async fn restart(&self, name: &ServiceName) -> Result<(), ServiceError> {
        self.job(name, Kind::Restart).await
    }

    /// How a service is now.
    pub async fn status(&self, name: &ServiceName) -> Result<Status, ServiceError> {
        match &self.backend {
            Backend::Systemd(systemd) => systemd.status(name).await,
            Backend::Direct(direct) => direct.status(name).await,
        }
    }

    /// What is installed.
    #[must_use]
    pub fn installed(&self) -> Vec<ServiceName> {
        match &self.backend {
            Backend::Systemd(systemd) => systemd.installed(),
            Backend::Direct(direct) => direct.installed(),
        }
    }

    /// Tells of every service whose status has changed, as it happens. A receiver that lags
    /// ([`broadcast::error::RecvError::Lagged`]) looks at them all.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<ServiceName> {
        match &self.backend {
            Backend::Systemd(systemd) => systemd.events(),
            Backend::Direct(direct) => direct.events(),
        }
    }

    async fn job(&self, name: &ServiceName, kind: Kind) -> Result<(), ServiceError> {
        let (backend, service) = (self.backend.clone(), name.clone());
        let work = async move {
            match &backend {
                Backend::Systemd(systemd) => systemd.job(&service, kind).await.map(|()| false),
                Backend::Direct(direct) => direct.job(&service, kind).await.map(|()| false),
            }
        };
        in_time(name, kind, self.jobs.run(name, kind, work)).await.map(drop)
    }
}

/// What came of a job, or that it goes on without its caller.
async fn in_time(
    name: &ServiceName,
    kind: Kind,
    outcome: impl Future<Output = Result<bool, ServiceError>>,
) -> Result<bool, ServiceError> {
    tokio::time::timeout(PATIENCE, outcome).await.unwrap_or_else(|_| {
        let text = format!("it goes on after {} s", PATIENCE.as_secs());
        Err(ServiceError::TimedOut { name: name.clone(), what: kind.unfinished(), text })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_caller_is_answered_before_the_controller_gives_up() {
        let (jobs, name) = (Jobs::default(), ServiceName::keepalived());
        let (begin, (tell, ended)) = (tokio::time::Instant::now(), tokio::sync::oneshot::channel());
        let slow = async move {
            tokio::time::sleep(Duration::from_secs(70)).await;
            let _ = tell.send(()); // the test may have failed
            Ok(true)
        };
        let first = in_time(&name, Kind::Restart, jobs.run(&name, Kind::Restart, slow));
        let second = in_time(&name, Kind::Stop, jobs.run(&name, Kind::Stop, async { Ok(true) }));
        for answer in <[_; 2]>::from(tokio::join!(first, second)) {
            assert!(matches!(answer, Err(ServiceError::TimedOut { .. })), "{answer:?}");
        }
        assert!(begin.elapsed() < Duration::from_mins(1));
        ended.await.expect("the job goes on");
    }
}
