//! One heartbeat: whether, what, and that it was sent. What it meets is logged where it changes, not every time.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use netns::Namespace;
use tokio::time::Instant;

use super::{
    Status,
    counters::Counters,
    fit::{DATAGRAM, Fitted, fit},
    lvs::Lvs,
    message::{Message, Reading},
    socket, stat,
    target::{Targets, reason},
};
use crate::{
    config::{Config, Controller},
    loadbalancers,
    owner::Shared,
    vrrp::is_routed,
};

/// Sizes in bytes that are told once when they are passed: one that no longer goes into one packet, and one that is
/// near the end of what a datagram carries.
const REMARKABLE: [usize; 2] = [1400, 60 * 1024];
/// A size has passed a limit down again when it is a tenth below.
const BELOW: (usize, usize) = (9, 10);

/// Why there is no heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Silence {
    #[error("[health_manager] controller_ip_port_list is empty")]
    NoTarget,
    #[error("[health_manager] heartbeat_key is not set")]
    NoKey,
    #[error("[amphora_agent] amphora_id is not set")]
    NoId,
    #[error("keepalived is configured and not running ({0})")]
    Keepalived(String),
}

/// What is kept from one heartbeat to the next.
#[derive(Debug)]
pub(super) struct Beats {
    base: PathBuf,
    state: Arc<Shared>,
    lvs: Lvs,
    status: Arc<Mutex<Status>>,
    seq: u64,
    counters: Counters,
    targets: Targets,
    /// Load balancers that did not answer, with what came instead.
    unread: BTreeMap<String, String>,
    /// How many of [`REMARKABLE`] the last one passed.
    passed: usize,
}

impl Beats {
    pub(super) fn new(base: &Path, state: Arc<Shared>, namespace: Namespace, status: Arc<Mutex<Status>>) -> Self {
        Self {
            base: base.to_owned(),
            state,
            lvs: Lvs::new(base, namespace),
            status,
            seq: 0,
            counters: Counters::load(base),
            targets: Targets::default(),
            unread: BTreeMap::new(),
            passed: 0,
        }
    }

    /// Sends one, if one is to be sent. Reading and resolving end at `until`.
    pub(super) async fn beat(&mut self, config: &Config, until: Instant) {
        self.targets.configure(&config.heartbeat.controllers);
        let ready = configured(config).and_then(|ready| self.keepalived(config).map(|()| ready));
        self.note_silence(ready.as_ref().err());
        let Ok((id, key)) = ready else { return };

        let reading = self.read(until).await;
        let before = self.counters.snapshot();
        let message = Message::new(id, self.seq, reading, |listener, totals| self.counters.report(listener, totals));
        self.seq += 1;
        let Fitted { datagram, members_left_out, pools_left_out } = fit(message, key, DATAGRAM);
        self.note_size(datagram.len(), members_left_out, pools_left_out);
        self.counters.store().await;
        let status = self.status.clone();
        let note = |controller: &Controller, sent: io::Result<()>| note_sent(&status, controller, sent);
        if !self.targets.send(&datagram, until, note).await {
            self.counters.take_back(before).await;
        }
        let controllers = &config.heartbeat.controllers;
        self.lock().targets.retain(|controller, _| controllers.contains(controller));
    }

    /// What all processes tell. One that does not run is left out, and so is one that does not answer: the controller is
    /// told what is known, which is that its listeners are not known to work.
    async fn read(&mut self, until: Instant) -> Reading {
        let mut reading = Reading::default();
        let mut unread = BTreeMap::new();
        let running = loadbalancers::running(&self.base).unwrap_or_else(|error| {
            unread.insert("all".to_owned(), error.to_string());
            Vec::new()
        });
        for id in running {
            let socket = self.base.join(format!("{id}.sock"));
            let read = socket::ask(&socket, stat::COMMAND, until).await.map_err(|error| error.to_string());
            match read.and_then(|text| stat::reading(&text).map_err(|error| error.to_string())) {
                Ok(read) => reading.extend(read),
                Err(error) => drop(unread.insert(id.to_string(), error)),
            }
        }
        match self.lvs.read(until).await {
            Ok(read) => reading.extend(read),
            Err(error) => drop(unread.insert("LVS".to_owned(), error.to_string())),
        }
        for (id, error) in unread.iter().filter(|(id, _)| !self.unread.contains_key(*id)) {
            tracing::warn!(id, error, "does not tell how it is; heartbeats go without its listeners");
        }
        for id in self.unread.keys().filter(|id| !unread.contains_key(*id)) {
            tracing::info!(id, "tells how it is again, or runs no more");
        }
        self.unread = unread;
        reading
    }

    /// Upstream's rule: an amphora whose keepalived is dead is to be replaced, so it goes silent. Where every VIP is routed
    /// keepalived is never started.
    fn keepalived(&self, config: &Config) -> Result<(), Silence> {
        let vrrp = self.base.join("vrrp");
        if !vrrp.join("octavia-keepalived.conf").is_file()
            || self.state.read(|desired| is_routed(desired, config.distributor.vip_mode))
        {
            return Ok(());
        }
        let pid_file = vrrp.join("octavia-keepalived.pid");
        match fs::read(&pid_file) {
            Ok(pid) if loadbalancers::is_running(&pid) => Ok(()),
            Ok(_) => Err(Silence::Keepalived(format!("{} names no process", pid_file.display()))),
            Err(error) => Err(Silence::Keepalived(format!("{}: {error}", pid_file.display()))),
        }
    }

    fn note_silence(&self, silence: Option<&Silence>) {
        let silent = silence.map(ToString::to_string);
        let mut status = self.lock();
        if status.silent != silent {
            match &silent {
                Some(why) if matches!(silence, Some(Silence::Keepalived(_))) => {
                    tracing::error!(why, "no heartbeats: the controller will replace this amphora");
                }
                Some(why) => tracing::warn!(why, "no heartbeats"),
                None => tracing::info!("heartbeats again"),
            }
            status.silent = silent;
        }
    }

    fn note_size(&mut self, size: usize, members_left_out: usize, pools_left_out: bool) {
        let limits = REMARKABLE.iter().take_while(|limit| size > **limit).count();
        let still = REMARKABLE.iter().take_while(|limit| size * BELOW.1 > **limit * BELOW.0).count();
        if limits > self.passed {
            let limit = REMARKABLE[limits - 1];
            tracing::info!(
                size,
                limit,
                "heartbeats have grown: over 1400 bytes they travel in fragments, 65507 is the end"
            );
        }
        self.passed = self.passed.clamp(limits, still);
        let mut status = self.lock();
        let left_out = std::mem::replace(&mut status.members_left_out, members_left_out);
        status.size = size;
        drop(status);
        match (left_out, members_left_out) {
            (0, 1..) => tracing::error!(
                members_left_out,
                pools_left_out,
                "heartbeats do not fit into a datagram: the controller shows the members left out as OFFLINE"
            ),
            (1.., 0) => tracing::info!("heartbeats fit into a datagram again"),
            _ => {}
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Status> {
        lock(&self.status)
    }
}

/// The amphora's id and the key; or what is missing.
pub(super) fn configured(config: &Config) -> Result<(&str, &crate::config::Secret), Silence> {
    if config.heartbeat.controllers.is_empty() {
        return Err(Silence::NoTarget);
    }
    let key = config.heartbeat.key.as_ref().ok_or(Silence::NoKey)?;
    Ok((config.amphora_id.as_deref().ok_or(Silence::NoId)?, key))
}

fn note_sent(status: &Mutex<Status>, controller: &Controller, sent: io::Result<()>) {
    let mut status = lock(status);
    let tally = status.targets.entry(controller.clone()).or_default();
    match sent {
        Ok(()) => {
            tally.sent += 1;
            let again = std::mem::replace(&mut tally.sent_since, tally.error.is_some());
            if again && tally.error.take().is_some() {
                tally.sent_since = false;
                tracing::info!(%controller, "heartbeats can be sent again");
            }
        }
        Err(error) => {
            *tally.failed.entry(reason(&error)).or_default() += 1;
            tally.sent_since = false;
            if tally.error.is_none() {
                tracing::warn!(%controller, %error, "a heartbeat cannot be sent");
            }
            tally.error = Some(error.to_string());
        }
    }
}

/// A panic cannot leave it half changed.
fn lock(status: &Mutex<Status>) -> std::sync::MutexGuard<'_, Status> {
    status.lock().unwrap_or_else(PoisonError::into_inner)
}
