//! What the agent tells Prometheus (`GET /1.0/metrics`).
//!
//! Whoever does a thing counts it (`health`, `heartbeat`, `speaker`, `haproxy`, the layer in [`http`]) and knows nothing of
//! Prometheus; here the counts and the state of the moment become text. A scrape reads what the agent knows anyway, and
//! asks gobgpd one question, with an end.

pub mod http;
pub mod list;
mod process;
pub mod text;
mod vips;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bgp::Family;

use crate::{api::App, config::Paths, heartbeat::Monitor, loadbalancers, server::tls::Reloader};
use http::Requests;
pub(crate) use process::Process;
use text::Text;

/// How long gobgpd may take. Prometheus gives a scrape 10 s, unless told otherwise.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// What a scrape reads beside the rest of [`App`].
#[derive(Clone, Debug)]
pub struct Sources {
    /// The API's requests.
    pub requests: Requests,
    /// The heartbeats.
    pub heartbeats: Monitor,
    /// The certificates.
    pub tls: Arc<Reloader>,
}

/// All of it, now.
pub async fn exposition(app: &App) -> String {
    let mut text = Text::default();
    agent(&mut text, app);
    speaker(&mut text, app).await;
    vips::write(&mut text, app);
    heartbeats(&mut text, &app.metrics.heartbeats);
    requests(&mut text, &app.metrics.requests);
    haproxy(&mut text, app).await;
    certificates(&mut text, &app.metrics.tls);
    process(&mut text);
    text.into_string()
}

fn agent(text: &mut Text, app: &App) {
    let build = [env!("CARGO_PKG_VERSION"), env!("AMPHORA_COMMIT"), env!("AMPHORA_RUSTC")].map(ToOwned::to_owned);
    text.metric(&list::BUILD, [(build, 1)]);
    let freshness = app.running.freshness();
    text.value(&list::CONFIG_STALE, u8::from(!freshness.stale.is_empty()));
    text.value(&list::CONFIG_RELOADED, since_1970(freshness.taken));
}

async fn speaker(text: &mut Text, app: &App) {
    let Some(view) = &app.speaker else { return };
    let announced = app.progress.read(|report| report.announced.len());
    let seen = view.observe(announced, PATIENCE).await;
    text.value(&list::SPEAKER_UP, u8::from(seen.up));
    text.metric(&list::SPEAKER_INFO, seen.version.map(|(major, minor)| ([format!("{major}.{minor}")], 1)));
    let peers = || seen.peers.iter().map(|(peer, session, _)| (peer.to_string(), session.as_ref()));
    let is_up = |session: &bgp::Session| session.state == bgp::SessionState::Established;
    text.metric(&list::SESSION_UP, peers().map(|(peer, session)| ([peer], u8::from(session.is_some_and(is_up)))));
    let uptime = |session: &bgp::Session| session.since.filter(|_| is_up(session))?.elapsed().ok();
    text.metric(&list::PEER_UPTIME, peers().filter_map(|(peer, session)| Some(([peer], uptime(session?)?.as_secs()))));
    let prefixes = peers().flat_map(|(peer, session)| {
        let families = session.into_iter().flat_map(|session| &session.advertised_by_family);
        families.map(move |(family, count)| ([peer.clone(), name_of(*family).to_owned()], *count))
    });
    text.metric(&list::PREFIXES, prefixes);
    let transitions = seen.peers.iter().flat_map(|(peer, _, counts)| {
        [("up", counts.up), ("down", counts.down)].map(|(to, count)| ([peer.to_string(), to.to_owned()], count))
    });
    text.metric(&list::SESSION_TRANSITIONS, transitions);
}

fn name_of(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "ipv4",
        Family::Ipv6 => "ipv6",
    }
}

fn heartbeats(text: &mut Text, monitor: &Monitor) {
    let status = monitor.status();
    let sent = status.targets.iter().map(|(target, tally)| ([target.to_string()], tally.sent));
    text.metric(&list::HEARTBEATS_SENT, sent);
    let errors = status.targets.iter().flat_map(|(target, tally)| {
        tally.failed.iter().map(move |(reason, count)| ([target.to_string(), (*reason).to_owned()], *count))
    });
    text.metric(&list::HEARTBEAT_ERRORS, errors);
    text.value(&list::HEARTBEAT_PAYLOAD, status.size);
    text.value(&list::HEARTBEAT_LEFT_OUT, status.members_left_out);
    text.value(&list::HEARTBEAT_SILENT, u8::from(status.silent.is_some()));
}

fn requests(text: &mut Text, requests: &Requests) {
    let counted = requests.counted();
    let answers = counted.answers.into_iter();
    text.metric(
        &list::REQUESTS,
        answers.map(|((method, route, code), count)| ([method.to_owned(), route, code], count)),
    );
    text.histogram(&list::REQUEST_DURATION, counted.durations.iter().map(|(route, took)| ([route.clone()], took)));
}

async fn haproxy(text: &mut Text, app: &App) {
    let reloads = app.haproxy.reloads().by_result();
    text.metric(&list::RELOADS, reloads.map(|(result, count)| ([result.to_owned()], count)));
    let paths: Arc<Paths> = app.paths.clone();
    let workers = tokio::task::spawn_blocking(move || workers(&paths.base)).await;
    text.metric(&list::WORKERS, workers.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())));
}

/// By load balancer. Asks the kernel alone: a haproxy that hangs holds up no scrape.
fn workers(base: &Path) -> Vec<([String; 1], usize)> {
    let running = loadbalancers::running(base).unwrap_or_default(); // heartbeats log it
    let of = |lb: &loadbalancers::LbId| process::children(loadbalancers::master(base, lb)?);
    running.iter().filter_map(|lb| Some(([lb.to_string()], of(lb)?))).collect()
}

fn certificates(text: &mut Text, tls: &Reloader) {
    let expiry = tls.expiry();
    let both = [("server", expiry.server), ("client_ca", expiry.client_ca)];
    text.metric(&list::CERT_NOT_AFTER, both.into_iter().filter_map(|(which, end)| Some(([which.to_owned()], end?))));
}

fn process(text: &mut Text) {
    let process = Process::read();
    text.known(&list::CPU, process.cpu);
    text.known(&list::RESIDENT, process.resident);
    text.known(&list::OPEN_DESCRIPTORS, process.open_descriptors);
    text.known(&list::MOST_DESCRIPTORS, process.most_descriptors);
    text.known(&list::STARTED, process.started);
}

fn since_1970(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests;
