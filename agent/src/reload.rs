//! The configuration in effect, and its replacement while the agent runs: by `PUT /1.0/config` and by SIGHUP.
//!
//! There is one [`watch`] of the whole [`Config`]; whoever depends on it derives what they need and acts on a change.
//! A configuration that is not usable changes nothing. What a running agent cannot change (its socket, its AS) is kept
//! as it is, so that nobody behind the watch ever sees it change, and is named as waiting for a restart.

use std::{
    fmt, io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use tokio::sync::watch;

use crate::{
    api::error::with_causes,
    config::{Config, Problem, Sources},
    crash, files,
    server::tls::{Reloader, TlsError},
};

/// Turns debug messages on or off.
pub type SetDebug = Box<dyn Fn(bool) + Send + Sync>;

/// Why a configuration was not taken. The one in effect stays.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// It does not say what it must; all that is wrong.
    #[error("{}", lines(.0))]
    Unusable(Vec<Problem>),
    /// It names certificates the API could not serve with.
    #[error("the API cannot have its TLS")]
    Tls(#[from] TlsError),
    /// The disk did not take it.
    #[error("{}: cannot be replaced", .0.display())]
    Store(PathBuf, #[source] io::Error),
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// How the files and the configuration in effect differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// What of the files is not in effect, and why; empty when all of it is.
    pub stale: Vec<String>,
    /// When a configuration was last taken.
    pub taken: SystemTime,
}

/// The configuration in effect.
pub struct Running {
    sources: Sources,
    tls: Arc<Reloader>,
    set_debug: SetDebug,
    config: watch::Sender<Arc<Config>>,
    freshness: Mutex<Freshness>,
    /// One replacement at a time.
    replacing: Mutex<()>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("sources", &self.sources).field("config", &self.config).finish_non_exhaustive()
    }
}

impl Running {
    /// What the agent was started with.
    #[must_use]
    pub fn new(config: Config, sources: Sources, tls: Arc<Reloader>, set_debug: SetDebug) -> Self {
        let freshness = Mutex::new(Freshness { stale: Vec::new(), taken: SystemTime::now() });
        Self {
            sources,
            tls,
            set_debug,
            config: watch::Sender::new(Arc::new(config)),
            freshness,
            replacing: Mutex::default(),
        }
    }

    /// To be told of each new configuration.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<Config>> {
        self.config.subscribe()
    }

    /// The configuration now.
    #[must_use]
    pub fn current(&self) -> Arc<Config> {
        self.config.borrow().clone()
    }

    /// Whether the files are in effect.
    #[must_use]
    pub fn freshness(&self) -> Freshness {
        lock(&self.freshness).clone()
    }

    /// Reads the files again. Blocks for as long as the disk does.
    ///
    /// # Errors
    /// Why the files are not usable; that is also remembered, for they are what the next start would meet.
    pub fn reload(&self) -> Result<(), ReloadError> {
        let _one = lock(&self.replacing);
        let taken = Config::load(&self.sources).map_err(ReloadError::Unusable).and_then(|new| {
            let tls = self.new_tls(&new)?;
            self.take(new, tls);
            Ok(())
        });
        if let Err(error) = &taken {
            lock(&self.freshness).stale = vec![with_causes(error)];
        }
        taken
    }

    /// Puts `contents` in the place of the main file (`amphora-agent.conf`), if that makes a usable configuration with
    /// the other files, and takes it. Blocks for as long as the disk does.
    ///
    /// # Errors
    /// Why the old file stays.
    pub fn replace(&self, contents: &[u8]) -> Result<(), ReloadError> {
        let _one = lock(&self.replacing);
        let new = Config::load_with(&self.sources, contents).map_err(ReloadError::Unusable)?;
        let tls = self.new_tls(&new)?;
        let path = self.sources.main();
        files::replace(path, contents).map_err(|error| ReloadError::Store(path.to_owned(), error))?;
        crash::point("configuration: stored, not in effect");
        self.take(new, tls);
        Ok(())
    }

    /// The files of a changed TLS, looked into before anything is changed; the unchanged ones are the reloader's.
    fn new_tls(&self, new: &Config) -> Result<Option<Reloader>, TlsError> {
        let (old, new) = (&self.current().api, &new.api);
        let same =
            (&old.server_cert, &old.client_ca, old.minimum_tls) == (&new.server_cert, &new.client_ca, new.minimum_tls);
        if same { Ok(None) } else { Reloader::new(&new.server_cert, &new.client_ca, new.minimum_tls).map(Some) }
    }

    /// Makes a configuration the one in effect.
    fn take(&self, mut new: Config, tls: Option<Reloader>) {
        let old = self.current();
        let stale = keep(&old, &mut new);
        new.warnings.iter().for_each(|warning| tracing::warn!(%warning, "configuration"));
        for what in &stale {
            tracing::warn!(what, "configuration");
        }
        let mut changed = changed(&old, &new);
        if tls.is_none() && self.tls.refresh() {
            changed.push("certificates");
        }
        if changed.is_empty() {
            tracing::info!("configuration read again: nothing to change");
        } else {
            tracing::info!(changed = changed.join(", "), "configuration read again: in effect");
        }
        if let Some(tls) = tls {
            self.tls.become_other(tls);
        }
        (self.set_debug)(new.logging.debug);
        self.config.send_if_modified(|config| {
            let modified = **config != new;
            if modified {
                *config = Arc::new(new);
            }
            modified
        });
        *lock(&self.freshness) = Freshness { stale, taken: SystemTime::now() };
    }
}

/// A panic leaves neither half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sets what a running agent cannot change back to what it is, and names it.
fn keep(running: &Config, new: &mut Config) -> Vec<String> {
    let mut waiting = Vec::new();
    let mut kept = |what: &str| waiting.push(format!("{what}: takes effect when the agent is restarted"));
    if new.api.bind != running.api.bind {
        kept("[haproxy_amphora] bind_host, bind_port");
        new.api.bind = running.api.bind;
    }
    if new.paths.base != running.paths.base {
        kept("[haproxy_amphora] base_path");
        new.paths.base.clone_from(&running.paths.base);
    }
    let (old, distributor) = (&running.distributor, &mut new.distributor);
    if distributor.role != old.role {
        kept("[distributor] role, and allowed_nexthops with it");
        distributor.role = old.role;
        // They were checked together.
        distributor.allowed_nexthops.clone_from(&old.allowed_nexthops);
    }
    if distributor.services != old.services {
        kept("[distributor] services");
        distributor.services = old.services;
    }
    match (&running.bgp, &mut new.bgp) {
        (None, None) => {}
        (Some(running), Some(new)) => {
            if new.local_as != running.local_as {
                kept("[bgp] local_as");
                new.local_as = running.local_as;
            }
            if new.router_id != running.router_id {
                kept("[bgp] router_id");
                new.router_id = running.router_id;
            }
            if new.speaker != running.speaker {
                kept("[bgp] speaker");
                new.speaker.clone_from(&running.speaker);
            }
        }
        (_, bgp) => {
            kept("[bgp] (there or not), and [distributor] with it");
            bgp.clone_from(&running.bgp);
            // It was checked together with the other [bgp].
            new.distributor.clone_from(&running.distributor);
        }
    }
    waiting
}

/// What differs, in the words of the files.
fn changed(old: &Config, new: &Config) -> Vec<&'static str> {
    [
        ("log settings", old.logging != new.logging),
        ("the API", old.api != new.api),
        ("paths", old.paths != new.paths),
        ("heartbeats", old.heartbeat != new.heartbeat),
        ("loadbalancer_topology", old.topology != new.topology),
        ("amphora_id", old.amphora_id != new.amphora_id),
        ("[distributor]", old.distributor != new.distributor),
        ("[bgp]", old.bgp != new.bgp),
    ]
    .into_iter()
    .filter_map(|(what, changed)| changed.then_some(what))
    .collect()
}

#[cfg(test)]
mod tests;
