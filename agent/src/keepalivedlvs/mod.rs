//! Listeners for UDP and SCTP: each is a keepalived of its own that sets up the kernel's IPVS.

pub mod config;
pub mod files;
mod health;
mod leftovers;
pub mod table;

use std::{
    io,
    path::{Path, PathBuf},
};

use netns::Namespace;

pub use health::{Health, Pool, Stats, health, judge};

use crate::{
    api::action::Action,
    crash,
    files::{Directory, Name},
    keepalived,
    loadbalancers::LbId,
    services::{Service, ServiceError, ServiceName, Services, blocking},
    vrrp,
};
use files::{configuration_name, directory, name, pid_names};

/// What a pool's UDP-CONNECT health monitor runs for each member (the controller writes its path into the
/// configuration).
const UDP_CHECK: &str = "udp_check.sh";

/// Stores a listener's configuration and what it needs, all of it durably. Blocks.
///
/// # Errors
/// The system's. What was there is there, or is the new one.
pub fn store(base: &Path, id: &LbId, configuration: &[u8], active_standby: bool) -> io::Result<()> {
    let directory = Directory::open_or_make(base)?.inner_or_make_open(&name("lvs"))?;
    let check = format!(
        "#!/bin/sh\nexec {} amphora-health-checker udp \"$1\" \"$2\"\n",
        vrrp::scripts::quoted(&crate::programs::own_path())
    );
    directory.inner_or_make_open(&name("check"))?.replace_program(&name(UDP_CHECK), check.as_bytes())?;
    crash::point("lvs: scripts written");
    directory.replace(&name(&configuration_name(id)), configuration)?;
    if active_standby {
        vrrp::scripts::check_lvs(base)?;
        vrrp::scripts::update(base, None)?;
    }
    Ok(())
}

/// A listener's keepalived as a service of `services`. `facility` is the number of `LOG_LOCAL` for the amphora's own logs.
#[must_use]
pub fn service(services: &Services, base: &Path, id: &LbId, facility: u8) -> Service {
    let lvs = directory(base);
    let [pid, vrrp, check] = pid_names(id).map(|file| lvs.join(file));
    let service = keepalived::service(
        ServiceName::keepalived_lvs(id),
        "UDP or SCTP listener by keepalived and LVS",
        &lvs.join(configuration_name(id)),
        facility,
        &[("-p", pid), ("-r", vrrp), ("-c", check)],
    );
    Service { before: vec![ServiceName::keepalived()], notify: keepalived::notifies(services), ..service }
}

/// Starts a listener's keepalived, until it can be reloaded.
async fn start(services: &Services, base: &Path, id: &LbId) -> Result<(), ServiceError> {
    let name = ServiceName::keepalived_lvs(id);
    let (base, id) = (base.to_owned(), id.clone());
    let pid = blocking(move || Ok(ready_pid(&base, &id))).await;
    let pid = pid.map_err(|e| ServiceError::Backend { name: name.clone(), what: "start", text: e.to_string() })?;
    keepalived::start(services, &name, &pid).await
}

/// The pid file that tells when a listener's keepalived can be reloaded: the checker's, or without a pool its own.
fn ready_pid(base: &Path, id: &LbId) -> PathBuf {
    let text = files::read(base, id).ok().flatten().unwrap_or_default();
    let balances = !config::parse(&String::from_utf8_lossy(&text)).members.is_empty();
    let [own, _, checker] = pid_names(id);
    directory(base).join(if balances { checker } else { own })
}

/// Starts, stops or reloads a listener that has a configuration; the past participle for the answer.
///
/// A reload is a reload: Octavia's agent restarts, for keepalived before 2.0.14 did not bring members back into their
/// initial state, and every restart takes the virtual service away for as long as keepalived is gone, with what
/// arrives meanwhile and every connection's entry. The answer is still `restarted`, as Octavia's.
///
/// # Errors
/// The service's own.
pub async fn act(
    services: &Services,
    namespace: &Namespace,
    base: &Path,
    id: &LbId,
    action: Action,
    facility: u8,
) -> Result<&'static str, ServiceError> {
    let name = ServiceName::keepalived_lvs(id);
    match action {
        Action::Stop => {
            match services.stop(&name).await {
                Ok(()) | Err(ServiceError::Unknown(_)) => {}
                Err(error) => return Err(error),
            }
            clear(namespace, base, id, "stop").await?;
            Ok(action.done())
        }
        Action::Start => {
            // One that came with another agent's files has no service yet.
            services.install(&service(services, base, id, facility)).await?;
            start(services, base, id).await?;
            Ok(action.done())
        }
        Action::Reload => {
            services.install(&service(services, base, id, facility)).await?;
            match services.reload(&name).await {
                Ok(()) => {
                    let (base, id) = (base.to_owned(), id.clone());
                    let touch = move || {
                        health::in_effect(&base, &id);
                        Ok(())
                    };
                    let _ = blocking(touch).await; // what it cannot do it has told
                }
                Err(ServiceError::NotActive(_)) => start(services, base, id).await?,
                Err(error) => return Err(error),
            }
            Ok("restarted")
        }
    }
}

/// Stops a listener's keepalived and forgets all of it; also when it is not there. The configuration goes last: while it
/// is there, so is the listener.
///
/// # Errors
/// The service's own, or the system's as one.
pub async fn delete(services: &Services, namespace: &Namespace, base: &Path, id: &LbId) -> Result<(), ServiceError> {
    let service = ServiceName::keepalived_lvs(id);
    services.remove(&service).await?;
    crash::point("lvs: service removed");
    clear(namespace, base, id, "remove").await?;
    let (base, id) = (base.to_owned(), id.clone());
    let removed = blocking(move || {
        let Some(directory) = Directory::open(&directory(&base))? else { return Ok(()) };
        let names = pid_names(&id).into_iter().chain([configuration_name(&id)]);
        names.map(|text| name(&text)).try_for_each(|name: Name| directory.remove(&name))
    });
    removed.await.map_err(|e| ServiceError::Backend { name: service, what: "remove the files of", text: e.to_string() })
}

/// What its keepalived, which has ended, has left in the kernel goes.
async fn clear(namespace: &Namespace, base: &Path, id: &LbId, what: &'static str) -> Result<(), ServiceError> {
    let (inside, base, listener) = (namespace.clone(), base.to_owned(), id.clone());
    let cleared = blocking(move || leftovers::clear(&base, &listener, &inside)).await;
    let name = ServiceName::keepalived_lvs(id);
    cleared.map_err(|e| ServiceError::Backend { name, what, text: crate::api::error::with_causes(&e) })
}
