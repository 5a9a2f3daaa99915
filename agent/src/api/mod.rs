//! The API: one list of routes from which the router and the OpenAPI document both come.
//!
//! A handler parses, has the owner commit, waits where the call promises that the work is done, and words
//! the answer. It decides nothing else.

pub mod action;
pub mod body;
pub mod certificate;
pub mod certificates;
pub mod config;
pub mod details;
mod digest;
pub mod distributor;
pub mod error;
pub mod info;
pub mod interface;
pub mod listeners;
pub mod loadbalancer;
pub mod metrics;
pub mod plug;
pub mod rules;
pub mod udp_listener;
pub mod vrrp;

use std::{net::IpAddr, path::Path, sync::Arc, time::Duration};

use axum::{Router, extract::FromRef, middleware::from_fn_with_state, routing::put};
use netns::{Link, Mac};
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    config::Paths,
    converge::{Progress, Report, Unready},
    drain,
    haproxy::Haproxy,
    health,
    kernel::Kernel,
    metrics::{Sources, http},
    owner::Owner,
    reload::Running,
    resolve::{self, Policy},
    services::Services,
    speaker::View,
    state::{Desired, Plug, VipMode},
};
use action::Action;
use error::{ApiError, Status};

/// How long a call waits for the kernel's work. The controller gives up on a silent call after 60 s.
const WORK: Duration = Duration::from_secs(30);
/// How long a call waits for the speaker to take a withdrawal.
const WITHDRAWAL: Duration = Duration::from_secs(5);

/// What the handlers work with.
#[derive(Clone, Debug)]
pub struct App {
    /// The desired state.
    pub owner: Owner,
    /// How far the world has followed it.
    pub progress: Progress,
    /// The kernel's network, to look at.
    pub kernel: Kernel,
    /// The gates of this amphora's own VIPs, to look at.
    pub gates: health::Watch,
    /// What is being drained, to look at.
    pub drains: drain::View,
    /// The speaker, to look at; absent without `[bgp]`.
    pub speaker: Option<View>,
    /// haproxy, keepalived and the like, to be started and stopped.
    pub services: Services,
    /// The haproxies among them.
    pub haproxy: Haproxy,
    /// What the configuration says about plugs and announcements. This and the other parts of the configuration are as
    /// they were when the call came.
    pub policy: Arc<Policy>,
    /// `[distributor] vip_mode`.
    pub default_mode: VipMode,
    /// The indices of the links outside that were in use when the agent started; never to be plugged.
    pub management: Arc<[u32]>,
    /// Where the load balancers' files are.
    pub paths: Arc<Paths>,
    /// `[distributor] require_ramfs`.
    pub require_ramfs: bool,
    /// `agent_server_cert`.
    pub server_cert: Arc<Path>,
    /// Package versions.
    pub versions: info::Versions,
    /// The configuration, to replace it.
    pub running: Arc<Running>,
    /// What only metrics read.
    pub metrics: Sources,
}

/// What the router holds; every call gets an [`App`] of its moment, so that a new configuration is in effect for the
/// next call and does not change under a running one.
#[derive(Clone, Debug)]
struct Calls(App);

impl FromRef<Calls> for App {
    fn from_ref(Calls(app): &Calls) -> Self {
        let config = app.running.current();
        Self {
            policy: Arc::new(Policy::of(&config)),
            default_mode: config.distributor.vip_mode,
            paths: Arc::new(config.paths.clone()),
            require_ramfs: config.distributor.require_ramfs,
            server_cert: config.api.server_cert.as_path().into(),
            ..app.clone()
        }
    }
}

impl App {
    /// Whether a link outside is in use: since the agent started, or by this very connection, which came to that address
    /// of ours. One that came to none (by the UNIX socket) tells nothing, so every link with a global address counts.
    pub async fn is_management(&self, link: &Link, connection: Option<IpAddr>) -> Result<bool, netns::Error> {
        let known = link.loopback || self.management.contains(&link.index);
        let in_use = |a: &netns::Address| match connection {
            Some(ip) => a.ip == ip,
            None => a.scope == netns::Scope::Global,
        };
        Ok(known || self.kernel.outside().addresses().await?.iter().any(|a| a.index == link.index && in_use(a)))
    }

    /// Whether keepalived chooses between this amphora and another.
    #[must_use]
    pub fn active_standby(&self) -> bool {
        self.owner.shared().read(|d| resolve::active_standby(d, &self.policy))
    }

    /// Tells the neighbours where the VIPs are: those on a NIC, unless keepalived does.
    pub fn advertise_vips(&self) {
        let here = |p: &&Plug| p.mode == VipMode::Interface && !resolve::by_keepalived(p, &self.policy);
        let vips = |d: &Desired| d.plugs.values().filter(here).flat_map(|p| &p.vips).map(|v| v.ip).collect();
        self.kernel.advertise(self.owner.shared().read(vips));
    }

    /// Waits until the kernel's part of `generation` is done for this NIC and no address that nobody wants is left of those
    /// that are `asked` for; why it is not, otherwise.
    pub async fn converged(
        &self,
        generation: u64,
        nic: Option<Mac>,
        asked: impl Fn(IpAddr) -> bool,
    ) -> Result<(), String> {
        let lingers = |r: &Report| r.lingering.iter().find(|(ip, _)| asked(**ip)).map(|(ip, why)| (*ip, why.clone()));
        let unready = |r: &Report| nic.and_then(|mac| r.nics.get(&mac).cloned());
        let done = async {
            self.progress.reached(generation).await;
            // Duplicate address detection ends by itself.
            self.progress.until(|r| !matches!(unready(r), Some(Unready::Waiting(_)))).await;
        };
        if tokio::time::timeout(WORK, done).await.is_err() {
            let why = self.progress.read(|r| unready(r).map(|u| format!(": {}", u.why()))).unwrap_or_default();
            return Err(format!("not done after {} s, the agent goes on trying{why}", WORK.as_secs()));
        }
        // A speaker that has just been lost, or has just been found by a new agent, is back in a moment.
        let left = self.progress.until(|r| lingers(r).is_none());
        let _ = tokio::time::timeout(WITHDRAWAL, left).await; // which of the two it was is read below
        self.progress.read(|r| match (unready(r), lingers(r)) {
            (Some(unready), _) => Err(unready.why().to_owned()),
            (None, Some((vip, why))) => Err(format!("{vip} is still bound: {why}")),
            (None, None) => Ok(()),
        })
    }
}

/// What the OpenAPI document says of itself.
#[derive(Debug, OpenApi)]
#[openapi(
    info(
        title = "Amphora API",
        description = "The Amphora API 1.0 of OpenStack Octavia and the distributor calls of an active-active amphora. \
                       Mutual TLS: a client certificate is required for every call on the network. The \
                       same calls are there without TLS and certificate on the UNIX socket /run/amphora-agent/api.sock, \
                       for root of this machine alone.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    tags(
        (name = "Amphora API 1.0", description = "As the stock Octavia controller speaks it"),
        (name = "Distributor API", description = "Registering, unregistering and listing what is announced"),
    )
)]
struct Doc;

fn routes() -> OpenApiRouter<Calls> {
    OpenApiRouter::with_openapi(Doc::openapi())
        .routes(routes!(info::version_discovery))
        .routes(routes!(info::info))
        .routes(routes!(details::details))
        .routes(routes!(listeners::listeners))
        .routes(routes!(listeners::haproxy_configuration))
        .routes(routes!(loadbalancer::upload))
        .routes(routes!(loadbalancer::act))
        .routes(routes!(loadbalancer::delete))
        .routes(routes!(certificates::upload, certificates::digest, certificates::delete))
        .routes(routes!(certificate::update))
        .routes(routes!(config::update))
        .routes(routes!(interface::interface))
        .routes(routes!(rules::set_interface_rules))
        .routes(routes!(vrrp::upload))
        .routes(routes!(vrrp::act))
        .routes(routes!(udp_listener::upload))
        .routes(routes!(udp_listener::configuration))
        .routes(routes!(plug::plug_vip, plug::unplug_vip))
        .routes(routes!(plug::network::plug_network))
        .routes(routes!(distributor::amphorae::list, distributor::amphorae::register))
        .routes(routes!(distributor::amphorae::unregister))
        .routes(routes!(distributor::drain::drain))
        .routes(routes!(distributor::drain::undrain))
        .routes(routes!(distributor::vips::list, distributor::vips::register))
        .routes(routes!(distributor::vips::unregister))
        .routes(routes!(distributor::own::own))
        .routes(routes!(distributor::peers::list))
        .routes(routes!(distributor::why::why))
        .routes(routes!(distributor::status::status))
        .routes(routes!(metrics::metrics))
}

/// The router of all calls; unknown ones get Octavia's 404 and 405.
pub fn router(app: App) -> Router {
    let (router, _) = routes().split_for_parts();
    // To Octavia's router that is an action like any other, and none it knows; here the GET's path would make it a 405.
    let router =
        router.route("/1.0/loadbalancer/{lb_id}/haproxy", put(|| async { Action::parse("haproxy").map(drop) }));
    let count = from_fn_with_state(app.metrics.requests.clone(), http::count);
    router.fallback(unknown_url).method_not_allowed_fallback(wrong_method).layer(count).with_state(Calls(app))
}

/// The OpenAPI document, as it is checked in.
#[must_use]
pub fn openapi() -> String {
    let (_, document) = routes().split_for_parts();
    let mut text = document.to_pretty_json().expect("the document is built from literals");
    text.push('\n');
    text
}

async fn unknown_url() -> ApiError {
    ApiError::http(Status::NotFound, "No such URL; GET / tells the API version", None)
}

async fn wrong_method() -> ApiError {
    ApiError::http(Status::MethodNotAllowed, "The method is not allowed for this URL", None)
}

#[cfg(test)]
mod tests;
