//! Start, stop, reload.

use std::time::{Duration, Instant};

use super::{Done, Error, Setting, exists, leave, name, on_disk, service, tell_keepalived};
use crate::{
    crash,
    files::Directory,
    health::Leaver,
    heartbeat,
    loadbalancers::LbId,
    services::{ServiceError, ServiceName, Services, Status},
};

/// How often a reload is tried that finds haproxy not running, or ending.
const RELOADS: usize = 3;
/// A haproxy that was started no longer ago has read the configuration a reload was asked for.
const FRESH: Duration = Duration::from_secs(15);
/// How long a haproxy that has ended may take to be started again.
const RESTART: Duration = Duration::from_secs(5);
/// How long haproxy may take to tell the state of its servers.
const STATE: Duration = Duration::from_secs(2);

/// Starts haproxy. That somebody is at it already is fine.
pub(super) async fn start(services: &Services, setting: &Setting, lb: &LbId) -> Result<Done, Error> {
    known(setting, lb).await?;
    tell_keepalived(setting, None).await?;
    let service = ServiceName::haproxy(lb);
    crash::point("haproxy: before the start");
    let mut started = services.start(&service).await;
    // A deletion that was cut short, or a state directory without its services.
    if let (Err(ServiceError::Unknown(_)), Some(amphora_id)) = (&started, &setting.amphora_id) {
        started = match services.install(&super::service::service(&setting.paths, lb, amphora_id)).await {
            Ok(_) => services.start(&service).await,
            Err(error) => Err(error),
        };
    }
    tolerant(started).map_err(|cause| Error::Service { what: "start", cause })?;
    crash::point("haproxy: started, not answered");
    Ok(Done::Started)
}

/// Stops haproxy, until it is started again. Its pid file goes too, for others take it that a process of this number is
/// this haproxy.
pub(super) async fn stop(
    services: &Services,
    leaver: Option<&Leaver>,
    setting: &Setting,
    lb: &LbId,
) -> Result<Done, Error> {
    known(setting, lb).await?;
    tell_keepalived(setting, Some(lb)).await?;
    let _away = leave(leaver, lb).await;
    crash::point("haproxy: before the stop");
    let stopped = match services.stop(&ServiceName::haproxy(lb)).await {
        Err(ServiceError::Unknown(_)) => Ok(()),
        stopped => tolerant(stopped),
    };
    stopped.map_err(|cause| Error::Service { what: "stop", cause })?;
    crash::point("haproxy: stopped");
    let pid = name(&format!("{lb}.pid"));
    on_disk("remove haproxy's pid file", &setting.paths, lb, move |_, directory| directory.remove(&pid)).await?;
    crash::point("haproxy: stopped, not answered");
    Ok(Done::Stopped)
}

/// Reloads haproxy, or starts it. The servers' state goes over to the new workers; a haproxy that does not tell it is
/// reloaded without.
pub(super) async fn reload(services: &Services, setting: &Setting, lb: &LbId) -> Result<Done, Error> {
    known(setting, lb).await?;
    let service = ServiceName::haproxy(lb);
    let failed = |cause| Error::Service { what: "reload", cause };
    tell_keepalived(setting, None).await?;
    if !runs(services, &service).await.map_err(failed)? {
        return start(services, setting, lb).await;
    }
    if let Err(error) = save_state(setting, lb).await {
        tracing::warn!(%lb, %error, "the state of haproxy's servers was not saved; the reload loses it");
    }
    crash::point("haproxy: before the reload");
    let mut last = None;
    for _ in 0..RELOADS {
        let asked = Instant::now();
        let error = match tolerant(services.reload(&service).await) {
            Ok(()) => {
                crash::point("haproxy: reloaded, not answered");
                return Ok(Done::Reloaded);
            }
            Err(error @ (ServiceError::NotActive(_) | ServiceError::Failed { .. })) => error,
            Err(error) => return Err(failed(error)),
        };
        // Has it crashed, before the reload or by it, then whoever runs it starts it again
        // (https://bugs.launchpad.net/octavia/+bug/2054666).
        let was_inactive = matches!(error, ServiceError::NotActive(_));
        if let Some(since) = back(services, &service).await
            && (since >= asked || (was_inactive && since.elapsed() <= FRESH))
        {
            tracing::warn!(%lb, "haproxy crashed while it was to be reloaded, and was started anew; its log says why");
            return Ok(Done::Reloaded);
        }
        if !runs(services, &service).await.map_err(failed)? {
            return start(services, setting, lb).await;
        }
        last = Some(error);
    }
    Err(failed(last.expect("the loop ends early or with an error")))
}

async fn known(setting: &Setting, lb: &LbId) -> Result<(), Error> {
    if exists(&setting.paths, lb).await? { Ok(()) } else { Err(Error::Unknown(lb.clone())) }
}

fn tolerant(result: Result<(), ServiceError>) -> Result<(), ServiceError> {
    match result {
        Err(ServiceError::JobRunning(_)) => Ok(()),
        other => other,
    }
}

/// Whether there is something to reload, or will be in a moment.
async fn runs(services: &Services, name: &ServiceName) -> Result<bool, ServiceError> {
    match services.status(name).await {
        Ok(status) => Ok(matches!(status, Status::Active { .. } | Status::Starting)),
        Err(ServiceError::Unknown(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Since when it runs, once it does.
async fn back(services: &Services, name: &ServiceName) -> Option<Instant> {
    let asked = Instant::now();
    loop {
        match services.status(name).await {
            Ok(Status::Active { since, .. }) => return Some(since),
            Ok(Status::Starting) if asked.elapsed() < RESTART => tokio::time::sleep(Duration::from_millis(50)).await,
            _ => return None,
        }
    }
}

async fn save_state(setting: &Setting, lb: &LbId) -> Result<(), Error> {
    let what = "save the servers' state";
    let until = tokio::time::Instant::now() + STATE;
    let state = heartbeat::ask(&service::socket(&setting.paths, lb), "show servers state", until).await;
    let state = state.map_err(|error| Error::Files { what, cause: error.to_string() })?;
    // haproxy ends it with an empty line and reads it back only with one end of line.
    let state = state.trim_end().to_owned() + "\n";
    let keep = move |_: &Directory, directory: &Directory| directory.replace(&name("servers-state"), state.as_bytes());
    on_disk(what, &setting.paths, lb, keep).await
}
