//! Services as systemd's, asked over D-Bus.
//!
//! A call makes a job and waits for that very job: the signal that tells of its end is listened for before it is made.
//! What systemd's answer leaves open (which command failed, in what words) is read from the journal.

mod bus;
mod judge;
mod shipped;
mod unit;

use std::{
    collections::{BTreeSet, HashMap},
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::sync::broadcast;
use zbus::{OwnedObjectPath, OwnedVariant};

pub use shipped::{Shipped, shipped};

use super::{Service, ServiceError, ServiceName, Status, blocking, jobs::Kind, processes};
use crate::{config::Runner, crash, files::Directory};
use bus::{Bus, BusError};

/// Events a receiver may be behind before it has to look at everything.
const EVENTS: usize = 256;
/// Nobody waits longer for a job: systemd ends each by the times its unit has, and our callers' patience ends first.
const LONGEST: Duration = super::PATIENCE;
/// Where `WantedBy=multi-user.target` puts its links, below the units.
const WANTS: &str = "multi-user.target.wants";

/// What the systemd backend works with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where its unit files go: `/etc/systemd/system`.
    pub units: PathBuf,
    /// Where Octavia's Python agent writes its own, of the same names: `/usr/lib/systemd/system`. They are run as they are
    /// until a call installs ours over them, and go with a service that is removed.
    pub upstream: PathBuf,
    /// The network namespace of the services, as a mounted file.
    pub namespace: PathBuf,
    /// The `amphora-agent` program, by a path that a new version of it has too.
    pub agent: PathBuf,
}

/// The systemd backend. To be made within a tokio runtime.
#[derive(Clone)]
pub struct Systemd(Arc<Inner>);

struct Inner {
    settings: Settings,
    bus: Bus,
    known: Arc<Known>,
}

/// The services that are ours among all units, and who wants to hear of them.
struct Known {
    names: Mutex<BTreeSet<ServiceName>>,
    events: broadcast::Sender<ServiceName>,
}

impl Known {
    fn names(&self) -> MutexGuard<'_, BTreeSet<ServiceName>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of a unit if it is ours; of all of ours without one.
    fn changed(&self, unit: Option<ServiceName>) {
        let names = self.names();
        match unit {
            Some(name) if names.contains(&name) => drop(self.events.send(name)), // nobody may be listening
            Some(_) => {}
            None => names.iter().for_each(|name| drop(self.events.send(name.clone()))),
        }
    }
}

impl fmt::Debug for Systemd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Systemd").field(&self.0.settings).finish()
    }
}

/// Whether systemd runs this machine (`sd_booted(3)`), as its process 1 that we can see.
#[must_use]
pub fn booted() -> bool {
    let first = std::fs::read_to_string("/proc/1/comm").unwrap_or_default();
    Path::new("/run/systemd/system").is_dir() && first.trim_end() == "systemd"
}

/// Whether services are systemd's by this choice of the configuration.
#[must_use]
pub fn chosen(runner: Runner) -> bool {
    match runner {
        Runner::Auto => booted(),
        Runner::Systemd => true,
        Runner::Direct => false,
    }
}

impl Systemd {
    /// Finds what is installed. Connects to systemd in the background: it may be restarting.
    ///
    /// # Errors
    /// The system's, about the directory of the units.
    pub fn open(settings: Settings) -> io::Result<Self> {
        let mut names = BTreeSet::new();
        for entry in std::fs::read_dir(&settings.units)? {
            let entry = entry?;
            let Ok(file) = entry.file_name().into_string() else { continue };
            let Some(name) = file.strip_suffix(".service").and_then(ServiceName::new) else { continue };
            let ours = std::fs::read_to_string(entry.path()).is_ok_and(|text| text.starts_with(unit::HEADER));
            names.extend(ours.then_some(name));
        }
        let known = Arc::new(Known { names: Mutex::new(names), events: broadcast::channel(EVENTS).0 });
        let listener = known.clone();
        let bus = Bus::start(move |unit| listener.changed(unit));
        Ok(Self(Arc::new(Inner { settings, bus, known })))
    }

    pub(super) async fn install(&self, service: &Service) -> Result<bool, ServiceError> {
        let (name, settings) = (&service.name, &self.0.settings);
        let unable = || ServiceError::io(name, "install");
        let file = name.file(".service");
        let text = unit::render(service, &settings.namespace, &settings.agent);
        let (units, unit) = (settings.units.clone(), file.clone());
        let link = units.join(WANTS).join(file.as_str());
        let (text, same) = blocking(move || {
            let there = Directory::open_or_make(&units)?.read(&unit)?;
            let same = there.as_deref() == Some(text.as_bytes()) && link.symlink_metadata().is_ok();
            Ok((text, same))
        })
        .await
        .map_err(unable())?;
        if same && self.is_loaded(name).await? {
            self.0.known.names().insert(name.clone());
            return Ok(false);
        }
        let (units, unit) = (settings.units.clone(), file.clone());
        let published = blocking(move || Directory::open_or_make(&units)?.publish(&unit, text.as_bytes())).await;
        published.map_err(unable())?;
        crash::point("service: unit written");
        self.manager(name, "install", "Reload", &()).await?;
        self.manager(name, "install", "EnableUnitFiles", &([file.as_str()].as_slice(), false, true)).await?;
        let units = settings.units.clone();
        blocking(move || sync(&units.join(WANTS)).and_then(|()| sync(&units))).await.map_err(unable())?;
        self.0.known.names().insert(name.clone());
        Ok(true)
    }

    /// Whether systemd has read the unit as it is on disk.
    async fn is_loaded(&self, name: &ServiceName) -> Result<bool, ServiceError> {
        let properties = self.0.bus.properties(name).await.map_err(|e| backend(name, "install", &e))?;
        let stale = properties.get("NeedDaemonReload").and_then(|value| bool::try_from(value).ok());
        Ok(stale == Some(false))
    }

    pub(super) async fn job(&self, name: &ServiceName, kind: Kind) -> Result<(), ServiceError> {
        if kind != Kind::Remove {
            self.properties(name, "look for").await?;
        }
        match kind {
            Kind::Start | Kind::Restart => {
                // What was given up before is to be tried: the limit counts what nobody asked for.
                self.reset(name).await;
                let method = if kind == Kind::Start { "StartUnit" } else { "RestartUnit" };
                self.unit_job(name, method, "did not start").await
            }
            Kind::Stop => self.stop(name).await,
            Kind::Reload => self.reload(name).await,
            Kind::Remove => self.remove(name).await,
            Kind::Install => Ok(()), // is install
        }
    }

    async fn stop(&self, name: &ServiceName) -> Result<(), ServiceError> {
        self.unit_job(name, "StopUnit", "did not stop").await?;
        // One that had to be killed has failed for systemd; here it has been stopped.
        self.reset(name).await;
        Ok(())
    }

    async fn reload(&self, name: &ServiceName) -> Result<(), ServiceError> {
        let Status::Active { pid, .. } = self.status(name).await? else {
            return Err(ServiceError::NotActive(name.clone()));
        };
        let unit = self.0.settings.units.join(name.file(".service").as_str());
        let look = move || {
            // One of Octavia's has no such command.
            let forks = match std::fs::read_to_string(unit) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => false,
                text => text?.contains(" reload-main "),
            };
            Ok((forks, processes::children(pid)?))
        };
        let (forks, before) = blocking(look).await.map_err(ServiceError::io(name, "reload"))?;
        let since = SystemTime::now();
        self.unit_job(name, "ReloadUnit", "did not reload").await?;
        // The job has lasted until READY=1: `reload-main` saw to that.
        let forked = blocking(move || Ok(!forks || processes::forked(pid, &before)?)).await;
        if !forked.map_err(ServiceError::io(name, "reload"))? {
            let verdict = judge::verdict(name, since).await;
            return Err(ServiceError::Failed { name: name.clone(), what: "did not reload", text: verdict.text });
        }
        Ok(())
    }

    async fn remove(&self, name: &ServiceName) -> Result<(), ServiceError> {
        let settings = &self.0.settings;
        let unable = || ServiceError::io(name, "remove");
        let file = name.file(".service");
        // Also without a file of ours: it may be one of Octavia's, or run on without its file.
        self.stop(name).await?;
        crash::point("service: stopped to be removed");
        let disabled = self.0.bus.manager("DisableUnitFiles", &([file.as_str()].as_slice(), false)).await;
        match disabled {
            Ok(_) => {}
            Err(BusError::Refused(kind, _)) if kind == "NoSuchUnit" => {}
            Err(error) => return Err(backend(name, "remove", &error)),
        }
        crash::point("service: disabled to be removed");
        let (units, upstream) = (settings.units.clone(), settings.upstream.clone());
        let gone = move || {
            Directory::open_or_make(&units)?.remove(&file)?;
            if upstream.join(file.as_str()).exists()
                && let Some(directory) = Directory::open(&upstream)?
            {
                directory.remove(&file)?;
            }
            Ok(())
        };
        blocking(gone).await.map_err(unable())?;
        self.manager(name, "remove", "Reload", &()).await?;
        self.reset(name).await;
        self.0.known.names().remove(name);
        let _ = self.0.known.events.send(name.clone()); // nobody may be listening
        Ok(())
    }

    pub(super) async fn status(&self, name: &ServiceName) -> Result<Status, ServiceError> {
        Ok(judge::status(&self.properties(name, "look at").await?))
    }

    /// systemd's properties of a service that it knows a unit file of, or still runs without one.
    async fn properties(
        &self,
        name: &ServiceName,
        what: &'static str,
    ) -> Result<HashMap<String, OwnedVariant>, ServiceError> {
        let properties = self.0.bus.properties(name).await.map_err(|e| backend(name, what, &e))?;
        if judge::is_unknown(&properties) { Err(ServiceError::Unknown(name.clone())) } else { Ok(properties) }
    }

    pub(super) fn installed(&self) -> Vec<ServiceName> {
        self.0.known.names().iter().cloned().collect()
    }

    pub(super) fn events(&self) -> broadcast::Receiver<ServiceName> {
        self.0.known.events.subscribe()
    }

    /// Makes a job and waits for its end.
    async fn unit_job(&self, name: &ServiceName, method: &str, what: &'static str) -> Result<(), ServiceError> {
        let (bus, since) = (&self.0.bus, SystemTime::now());
        let mut jobs = bus.jobs();
        // Without a connection the call waits for one, and a connection that came is not one that was lost.
        let lost = bus.lost().await.map_err(|error| backend(name, "ask systemd about", &error))?;
        let body = (format!("{name}.service"), "replace");
        let made = bus.manager(method, &body).await;
        let job = match made.map(|reply| reply.body().deserialize::<OwnedObjectPath>()) {
            Ok(Ok(job)) => job,
            Ok(Err(error)) => return Err(backend(name, "understand the job of", &error)),
            Err(BusError::Refused(kind, _)) if kind.starts_with("Transaction") => {
                return Err(ServiceError::JobRunning(name.clone()));
            }
            // One that was never loaded does not run.
            Err(BusError::Refused(kind, _)) if kind == "NoSuchUnit" && method == "StopUnit" => return Ok(()),
            Err(error) => return Err(backend(name, "ask systemd about", &error)),
        };
        crash::point("service: job made");
        let ended = async {
            loop {
                match jobs.recv().await {
                    Ok(ended) if ended.job == job => return Some(ended.result),
                    Ok(_) => {}
                    Err(_) => return None, // hopelessly behind, or nobody listens any more
                }
            }
        };
        let result = tokio::select! {
            result = ended => result,
            () = lost => None,
            () = tokio::time::sleep(LONGEST) => None,
        };
        self.judge(name, what, result.as_deref(), since).await
    }

    async fn judge(
        &self,
        name: &ServiceName,
        what: &'static str,
        result: Option<&str>,
        since: SystemTime,
    ) -> Result<(), ServiceError> {
        let name = name.clone();
        let Some(result) = result else {
            let text = "systemd was lost before it told of the job's end".to_owned();
            return Err(ServiceError::Backend { name, what: "wait for the job of", text });
        };
        match result {
            "done" => return Ok(()),
            "invalid" => return Err(ServiceError::NotActive(name)),
            "canceled" | "collected" => {
                let text = "another job for it took this one's place".to_owned();
                return Err(ServiceError::Failed { name, what, text });
            }
            "dependency" => {
                let text = "amphora-netns.service, which it needs, failed".to_owned();
                return Err(ServiceError::Failed { name, what, text });
            }
            _ => {}
        }
        let verdict = judge::verdict(&name, since).await;
        let text = if verdict.text.is_empty() { format!("systemd says: {result}") } else { verdict.text };
        Err(match (verdict.late || result == "timeout", verdict.check) {
            (true, _) => ServiceError::TimedOut { name, what, text },
            (false, true) => ServiceError::Check { name, text },
            (false, false) => ServiceError::Failed { name, what, text },
        })
    }

    /// Forgets earlier failures; there may be none.
    async fn reset(&self, name: &ServiceName) {
        let _ = self.0.bus.manager("ResetFailedUnit", &(format!("{name}.service"))).await;
    }

    async fn manager<B>(
        &self,
        name: &ServiceName,
        what: &'static str,
        method: &str,
        body: &B,
    ) -> Result<(), ServiceError>
    where
        B: serde::Serialize + zbus::DynamicType + Sync,
    {
        self.0.bus.manager(method, body).await.map(drop).map_err(|error| backend(name, what, &error))
    }
}

fn backend(name: &ServiceName, what: &'static str, error: &(dyn std::error::Error + 'static)) -> ServiceError {
    ServiceError::Backend { name: name.clone(), what, text: crate::api::error::with_causes(error) }
}

fn sync(directory: &Path) -> io::Result<()> {
    std::fs::File::open(directory)?.sync_all()
}
