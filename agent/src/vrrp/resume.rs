//! VRRP after a reboot. keepalived is started at boot, but gives up without its NIC, and that is moved into the
//! namespace by the agent, which may come later, or by Nova, which may come later still. The controller says nothing
//! then: the amphora would be a standby for ever.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    converge::Progress,
    keepalived,
    owner::Shared,
    services::{Service, ServiceError, ServiceName, Services, Status},
    state::VipMode,
};

/// How often a start that somebody else makes is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// A keepalived that runs this long with its NIC there goes on running.
const SETTLED: Duration = Duration::from_secs(3);

/// Waits until the NICs of all VIPs are there, and has keepalived started then if it was given up before. One that was
/// stopped by a call is left alone.
pub async fn resume(services: Services, progress: Progress, shared: Arc<Shared>, base: PathBuf, default_mode: VipMode) {
    let _ = progress.passes().wait_for(|passes| *passes > 0).await; // an error means the end of the agent
    progress.until(|report| !shared.read(|d| d.plugs.values().any(|p| report.nics.contains_key(&p.mac)))).await;
    let unwanted = shared.read(|d| d.plugs.is_empty() || d.silenced || super::is_routed(d, default_mode));
    if unwanted || !super::is_configured(&base) {
        return;
    }
    match given_up(&services).await {
        Ok(true) => {}
        // Without a service it was never to be started at boot.
        Ok(false) | Err(ServiceError::Unknown(_)) => return,
        Err(error) => return complain(&error),
    }
    tracing::info!("VRRP was given up before its NIC was there; starting it");
    if let Err(error) = keepalived::start(&services, &ServiceName::keepalived(), &super::child_pid(&base)).await {
        complain(&error);
    }
}

fn complain(error: &ServiceError) {
    tracing::warn!(error = error as &dyn std::error::Error, "VRRP does not run; vrrp/start tries it again");
}

/// Whether nobody goes on trying to run keepalived. One that is being tried is waited for.
async fn given_up(services: &Services) -> Result<bool, ServiceError> {
    let begin = Instant::now();
    loop {
        match services.status(&ServiceName::keepalived()).await? {
            Status::Failed { .. } => return Ok(true),
            Status::Inactive => return Ok(false),
            Status::Active { since, .. } if since.elapsed() > SETTLED => return Ok(false),
            // By then the limit on starts would have been reached.
            _ if begin.elapsed() > 2 * Service::START_INTERVAL => return Ok(false),
            Status::Active { .. } | Status::Starting => tokio::time::sleep(LOOK).await,
        }
    }
}
