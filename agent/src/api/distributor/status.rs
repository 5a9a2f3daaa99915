//! `GET /1.0/distributor/status`: how this amphora is, and what to do about each thing that is not well.

mod judge;
mod vips;

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    api::App,
    clock,
    config::{Announce, Role, Topology},
    converge::Unready,
    metrics::Process,
    speaker::PeerView,
    state::VipMode,
};
use vips::VipView;

/// How long the speaker may take to answer.
const SPEAKER: Duration = Duration::from_secs(2);

/// Whether all is as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[schema(as = Health)]
pub enum Operating {
    /// It is.
    Online,
    /// `problems` names what is not.
    Degraded,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// What, in one line.
    problem: String,
    /// What to do about it, in one line.
    fix: String,
}

/// The configuration in effect, in the words of the files.
#[derive(Debug, Serialize, ToSchema)]
pub struct Configuration {
    role: &'static str,
    vip_mode: VipMode,
    announce: &'static str,
    loadbalancer_topology: &'static str,
    /// What of the files is not in effect, and why; empty when all of it is.
    stale: Vec<String>,
    /// When a configuration was last taken, in seconds since 1970.
    taken: u64,
}

/// How long a certificate is good for.
#[derive(Debug, Serialize, ToSchema)]
pub struct Certificate {
    /// Where it was read.
    #[schema(value_type = String)]
    path: PathBuf,
    /// Its last second, since 1970; null where it cannot be read. Of several the first to end.
    not_after: Option<u64>,
}

/// The certificates in use.
#[derive(Debug, Serialize, ToSchema)]
pub struct Certificates {
    /// What this agent shows.
    server: Certificate,
    /// What clients are verified by.
    client_ca: Certificate,
}

/// The BGP speaker.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SpeakerStatus)]
pub struct Speaker {
    /// It answers.
    up: bool,
    /// gobgpd's major and minor version, as far as it is known.
    version: Option<String>,
    local_as: u32,
}

/// How one health manager fares.
#[derive(Debug, Serialize, ToSchema)]
pub struct HealthManager {
    /// Address and port, as configured.
    target: String,
    /// Heartbeats that left this machine for it; there is no answer.
    sent: u64,
    /// Heartbeats that could not be sent to it.
    failed: u64,
    /// Why the last one could not; null where it could.
    last_error: Option<String>,
}

/// The heartbeats.
#[derive(Debug, Serialize, ToSchema)]
pub struct Heartbeats {
    /// A health manager is configured, and waits for them.
    expected: bool,
    /// Why there are none at present; null where there are.
    silent: Option<String>,
    /// The size of the last one in bytes.
    size: usize,
    /// Members the last one had no room for.
    members_left_out: usize,
    targets: Vec<HealthManager>,
}

/// How this amphora is.
#[derive(Debug, Serialize, ToSchema)]
pub struct AmphoraStatus {
    /// Null outside a cloud.
    amphora_id: Option<String>,
    /// The agent's.
    version: &'static str,
    /// When the agent started, in seconds since 1970; 0 where that cannot be told.
    started: u64,
    operating_status: Operating,
    /// Each thing that is not as it should be.
    problems: Vec<Problem>,
    /// What works and is still worth a word.
    warnings: Vec<String>,
    configuration: Configuration,
    certificates: Certificates,
    /// Null without BGP.
    speaker: Option<Speaker>,
    peers: Vec<PeerView>,
    vips: Vec<VipView>,
    /// What the kernel did not take, or still holds although nobody wants it.
    network: Vec<String>,
    heartbeats: Heartbeats,
}

/// Tell how this amphora is, and what to do about each thing that is not well.
#[utoipa::path(
    get, path = "/1.0/distributor/status", operation_id = "status", tag = "Distributor API",
    responses((status = 200, body = AmphoraStatus)),
)]
pub async fn status(State(app): State<App>) -> Json<AmphoraStatus> {
    let mut status = look(&app).await;
    (status.problems, status.warnings) = (judge::problems(&status, clock::now()), judge::warnings(&status));
    status.operating_status = if status.problems.is_empty() { Operating::Online } else { Operating::Degraded };
    Json(status)
}

/// The facts, not judged yet.
async fn look(app: &App) -> AmphoraStatus {
    let (config, freshness) = (app.running.current(), app.running.freshness());
    let expiry = app.metrics.tls.expiry();
    let certificate = |path: &Path, not_after| Certificate { path: path.to_owned(), not_after };
    let (mut speaker, mut peers, mut silent) = (None, Vec::new(), None);
    if let (Some(view), Some(bgp)) = (&app.speaker, &config.bgp) {
        let announced = app.progress.read(|report| report.announced.len());
        let (seen, sessions) = view.look(announced, SPEAKER).await;
        let version = seen.version.map(|(major, minor)| format!("{major}.{minor}"));
        speaker = Some(Speaker { up: seen.up, version, local_as: bgp.local_as.get() });
        peers = sessions;
        silent = (!seen.up).then(|| "the speaker does not answer".to_owned());
    }
    let beats = app.metrics.heartbeats.status();
    let target = |(controller, tally): (_, crate::heartbeat::Tally)| HealthManager {
        target: format!("{controller}"),
        sent: tally.sent,
        failed: tally.failed.values().sum(),
        last_error: tally.error,
    };
    AmphoraStatus {
        amphora_id: config.amphora_id.clone(),
        version: env!("CARGO_PKG_VERSION"),
        started: Process::read().started.map_or(0, |at| Duration::from_secs_f64(at.max(0.0)).as_secs()),
        operating_status: Operating::Online,
        problems: Vec::new(),
        warnings: Vec::new(),
        configuration: Configuration {
            role: match config.distributor.role {
                Role::Amphora => "amphora",
                Role::Distributor => "distributor",
            },
            vip_mode: config.distributor.vip_mode,
            announce: match config.distributor.announce {
                Announce::Listener => "listener",
                Announce::Api => "api",
            },
            loadbalancer_topology: match config.topology {
                Topology::Single => "SINGLE",
                Topology::ActiveStandby => "ACTIVE_STANDBY",
            },
            stale: freshness.stale,
            taken: seconds(freshness.taken),
        },
        certificates: Certificates {
            server: certificate(&config.api.server_cert, expiry.server),
            client_ca: certificate(&config.api.client_ca, expiry.client_ca),
        },
        speaker,
        peers,
        vips: vips::look(app, silent).await,
        network: network(app),
        heartbeats: Heartbeats {
            expected: !config.heartbeat.controllers.is_empty(),
            silent: beats.silent,
            size: beats.size,
            members_left_out: beats.members_left_out,
            targets: beats.targets.into_iter().map(target).collect(),
        },
    }
}

fn network(app: &App) -> Vec<String> {
    app.progress.read(|report| {
        let failed = |unready: &Unready| match unready {
            Unready::Failed(why) => Some(why.clone()),
            Unready::Waiting(_) => None,
        };
        let nics = report.nics.iter().filter_map(|(mac, unready)| Some(format!("NIC {mac}: {}", failed(unready)?)));
        let filter = report.filter.iter().filter_map(|unready| Some(format!("firewall: {}", failed(unready)?)));
        let lingering = report.lingering.iter().map(|(ip, why)| format!("{ip} is still bound: {why}"));
        nics.chain(filter).chain(lingering).collect()
    })
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
