//! haproxy: a load balancer's configuration, and the process that serves it.
//!
//! The boundary is here so that the API words answers and `services` runs programs, and only this knows what an upload, a
//! start or a deletion is made of and in which order. The order is what survives a kill: `haproxy.cfg` under its name is
//! the load balancer. It gets there when everything else is in place, and a deletion takes it away last but for what
//! nobody looks at.

mod check;
mod edit;
mod life;
mod peer;
pub mod policy;
mod reloads;
mod service;
mod turns;

use std::{io, net::IpAddr, path::PathBuf, sync::Arc};

use bytes::Bytes;
use netns::Namespace;

pub use peer::peer_name;
pub use reloads::Reloads;

use crate::{
    config::{HaproxyPolicy, Paths},
    crash,
    files::{Directory, Name},
    health::{self, Leaver},
    loadbalancers::{self, LbId},
    services::{ServiceError, ServiceName, Services},
    vrrp,
};
use turns::{Call, Turns};

/// What a call did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// The configuration is in its place.
    Stored,
    /// haproxy runs, and did not before.
    Started,
    /// haproxy does not run.
    Stopped,
    /// haproxy serves what its configuration says now.
    Reloaded,
    /// There is no such load balancer.
    Deleted,
}

/// Why a call did nothing, or not all of it. Cloned for every caller that joined the same call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no configuration of that name.
    #[error("no load balancer {0}")]
    Unknown(LbId),
    /// Not text.
    #[error("haproxy.cfg is not UTF-8: byte {0} is part of no character; send it as UTF-8")]
    NotText(usize),
    /// haproxy's own words on the configuration.
    #[error("haproxy refuses the configuration: {0}")]
    Refused(String),
    /// What Octavia's templates do not write, with `haproxy_policy = enforce`.
    #[error(
        "the configuration is none that Octavia's templates produce, and [distributor] haproxy_policy = enforce: {0}"
    )]
    Foreign(String),
    /// haproxy did not say whether it takes the configuration.
    #[error("haproxy cannot check the configuration: {0}")]
    Unchecked(String),
    /// A file or directory.
    #[error("cannot {what}: {cause}")]
    Files {
        /// What was tried, as a verb and its object.
        what: &'static str,
        /// The system's words.
        cause: String,
    },
    /// The service.
    #[error("cannot {what} haproxy")]
    Service {
        /// What was tried, as a verb.
        what: &'static str,
        /// Why it did not work.
        #[source]
        cause: ServiceError,
    },
    /// A fault of the agent's.
    #[error("the agent failed at it; the log says how")]
    Panicked,
}

/// What a call needs of the configuration of its moment.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Where things are.
    pub paths: Arc<Paths>,
    /// `amphora_id`, for a load balancer whose service is not installed.
    pub amphora_id: Option<String>,
    /// Whether keepalived judges by haproxy who is the master (`ACTIVE_STANDBY`).
    pub active_standby: bool,
    /// What becomes of a configuration that Octavia's templates cannot have produced.
    pub policy: HaproxyPolicy,
    /// The VIPs that are plugged, which it may bind.
    pub vips: Vec<IpAddr>,
}

/// The haproxies of this amphora. Clones are the same.
#[derive(Clone, Debug)]
pub struct Haproxy {
    services: Services,
    inside: Namespace,
    leaver: Option<Leaver>,
    turns: Turns,
    reloads: Arc<Reloads>,
}

impl Haproxy {
    /// With the services they are, in the namespace they run in. With a leaver, VIPs are withdrawn before their haproxy is
    /// stopped.
    #[must_use]
    pub fn new(services: Services, inside: Namespace, leaver: Option<Leaver>) -> Self {
        Self { services, inside, leaver, turns: Turns::default(), reloads: Arc::default() }
    }

    /// Takes a configuration: haproxy checks it, then it replaces the one there is. It is served after the next start or
    /// reload. One that is refused stays beside it as `haproxy.cfg.new-failed`.
    pub async fn upload(&self, setting: &Setting, lb: &LbId, amphora_id: String, body: Bytes) -> Result<Done, Error> {
        let (this, setting, id) = (self.clone(), setting.clone(), lb.clone());
        let call = Call::Upload { amphora_id: amphora_id.clone(), body: body.clone() };
        self.turns.take(lb, call, async move { this.store(&setting, &id, &amphora_id, &body).await }).await
    }

    /// Starts haproxy; one that runs is fine.
    pub async fn start(&self, setting: &Setting, lb: &LbId) -> Result<Done, Error> {
        let (this, setting, id) = (self.clone(), setting.clone(), lb.clone());
        self.turns.take(lb, Call::Start, async move { life::start(&this.services, &setting, &id).await }).await
    }

    /// Stops haproxy; one that does not run is fine.
    pub async fn stop(&self, setting: &Setting, lb: &LbId) -> Result<Done, Error> {
        let (this, setting, id) = (self.clone(), setting.clone(), lb.clone());
        self.turns
            .take(lb, Call::Stop, async move { life::stop(&this.services, this.leaver.as_ref(), &setting, &id).await })
            .await
    }

    /// Has haproxy serve what its configuration says now; one that does not run is started.
    pub async fn reload(&self, setting: &Setting, lb: &LbId) -> Result<Done, Error> {
        let (this, setting, id) = (self.clone(), setting.clone(), lb.clone());
        let reload = async move {
            let reloaded = life::reload(&this.services, &setting, &id).await;
            this.reloads.count(&reloaded);
            reloaded
        };
        self.turns.take(lb, Call::Reload, reload).await
    }

    /// How often haproxy was reloaded, and with what result.
    #[must_use]
    pub fn reloads(&self) -> &Reloads {
        &self.reloads
    }

    /// Stops haproxy and forgets the load balancer, its certificates included; also when there is none, or half of one.
    pub async fn delete(&self, setting: &Setting, lb: &LbId) -> Result<Done, Error> {
        let (this, setting, id) = (self.clone(), setting.clone(), lb.clone());
        self.turns.take(lb, Call::Delete, async move { this.forget(&setting, &id).await }).await
    }

    async fn store(&self, setting: &Setting, lb: &LbId, amphora_id: &str, body: &[u8]) -> Result<Done, Error> {
        let paths = &setting.paths;
        let text = std::str::from_utf8(body).map_err(|e| Error::NotText(e.valid_up_to()))?;
        let mut text = edit::without_group(text);
        if text.contains("external-check") && check::version(paths).await.is_some_and(|version| version < (1, 6)) {
            tracing::warn!("this haproxy knows no external checks; health monitors of type PING become TCP");
            text = edit::without_external_checks(&text);
        }
        // Before haproxy reads it: to check a configuration is to run what it names.
        let foreign = foreign(setting, lb, &text);
        let new = on_disk("store the new haproxy.cfg", paths, lb, move |base, directory| {
            // Present in Octavia's images, and then as the image wants it.
            if base.read(&name(service::USER_GROUP))?.is_none() {
                base.replace(&name(service::USER_GROUP), service::user_group().as_bytes())?;
            }
            directory.replace(&name(NEW), text.as_bytes())
        });
        new.await?;
        crash::point("haproxy: new configuration written");
        let checked = match foreign {
            Ok(()) => check::check(&self.inside, paths, &service::file(paths, lb, NEW), amphora_id).await,
            refused => refused,
        };
        match checked {
            Err(refused @ (Error::Refused(_) | Error::Foreign(_))) => {
                let keep = |_: &Directory, directory: &Directory| directory.rename(&name(NEW), &name(FAILED));
                on_disk("keep the refused haproxy.cfg", paths, lb, keep).await?;
                return Err(refused);
            }
            checked => checked?,
        }
        let service = service::service(paths, lb, amphora_id);
        let installed = self.services.install(&service).await;
        installed.map_err(|cause| Error::Service { what: "enable", cause })?;
        crash::point("haproxy: service installed");
        let replace = |_: &Directory, directory: &Directory| directory.rename(&name(NEW), &name(CONFIGURATION));
        on_disk("replace haproxy.cfg", paths, lb, replace).await?;
        crash::point("haproxy: configuration replaced, not answered");
        tracing::info!(%lb, "a haproxy configuration was stored");
        Ok(Done::Stored)
    }

    async fn forget(&self, setting: &Setting, lb: &LbId) -> Result<Done, Error> {
        let known = exists(&setting.paths, lb).await?;
        if known {
            tell_keepalived(setting, Some(lb)).await?;
        }
        let _away = leave(self.leaver.as_ref(), lb).await;
        let removed = self.services.remove(&ServiceName::haproxy(lb)).await;
        removed.map_err(|cause| Error::Service { what: "remove", cause })?;
        crash::point("haproxy: service removed");
        let (paths, id) = (setting.paths.clone(), lb.clone());
        blocking("remove the load balancer's files", move || {
            // Certificates may be there before their load balancer is: without one they are none of ours.
            if let Some(certs) = Directory::open(&paths.certs)?.filter(|_| known) {
                certs.remove_inner(id.name())?;
            }
            crash::point("haproxy: certificates removed");
            let Some(base) = Directory::open(&paths.base)? else { return Ok(()) };
            base.remove(&name(&format!("{id}.sock")))?;
            base.remove_inner(id.name())
        })
        .await?;
        crash::point("haproxy: deleted, not answered");
        if known {
            tracing::info!(%lb, "a load balancer was deleted");
        }
        Ok(Done::Deleted)
    }
}

const CONFIGURATION: &str = "haproxy.cfg";
const NEW: &str = "haproxy.cfg.new";
const FAILED: &str = "haproxy.cfg.new-failed";

fn name(text: &str) -> Name {
    Name::new(text).expect("literals and ids make plain names")
}

/// Judges a configuration by what Octavia's templates produce, and says or refuses what is none of that.
fn foreign(setting: &Setting, lb: &LbId, text: &str) -> Result<(), Error> {
    let (paths, vips) = (&setting.paths, &setting.vips);
    let found = policy::judge(text, &policy::Surroundings { lb, base: &paths.base, certs: &paths.certs, vips });
    match setting.policy {
        HaproxyPolicy::Enforce if !found.is_empty() => {
            let all: Vec<_> = found.iter().map(ToString::to_string).collect();
            Err(Error::Foreign(all.join("; ")))
        }
        _ => {
            for violation in &found {
                tracing::warn!(%lb, %violation, "haproxy.cfg has what Octavia's templates do not write");
            }
            Ok(())
        }
    }
}

/// Whether there is such a load balancer.
async fn exists(paths: &Paths, lb: &LbId) -> Result<bool, Error> {
    let (base, id): (PathBuf, LbId) = (paths.base.clone(), lb.clone());
    blocking("read haproxy.cfg", move || Ok(loadbalancers::configuration(&base, &id)?.is_some())).await
}

/// Has keepalived check every haproxy but the one that is `leaving`, whose end is no failure.
async fn tell_keepalived(setting: &Setting, leaving: Option<&LbId>) -> Result<(), Error> {
    if !setting.active_standby {
        return Ok(());
    }
    let (paths, leaving) = (setting.paths.clone(), leaving.cloned());
    blocking("write keepalived's check script", move || vrrp::scripts::update(&paths.base, leaving.as_ref())).await
}

/// Works in a load balancer's directory, made where it is missing, and the one above.
async fn on_disk(
    what: &'static str,
    paths: &Paths,
    lb: &LbId,
    work: impl FnOnce(&Directory, &Directory) -> io::Result<()> + Send + 'static,
) -> Result<(), Error> {
    let (base, lb) = (paths.base.clone(), lb.clone());
    blocking(what, move || {
        let base = Directory::open_or_make(&base)?;
        work(&base, &base.inner_or_make(lb.name())?)
    })
    .await
}

/// Has the VIPs of a load balancer withdrawn, until the result is dropped.
async fn leave(leaver: Option<&Leaver>, lb: &LbId) -> Option<health::stopping::Call> {
    match leaver {
        Some(leaver) => Some(leaver.leave(lb).await),
        None => None,
    }
}

/// Works where waiting for a disk or a program holds nobody up.
async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    done.map_err(|error| Error::Files { what, cause: error.to_string() })
}
