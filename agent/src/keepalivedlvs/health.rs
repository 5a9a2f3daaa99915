//! How the LVS listeners, their pools and members are, for the heartbeats: a pure judgement over three texts, and the
//! reading of them (`octavia/amphorae/backends/utils/keepalivedlvs_query.py`).

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

use netns::Namespace;

use super::{
    config::{self, Configuration},
    files,
    table::{self, Counters, Service, Table},
};
use crate::{child, loadbalancers::LbId};

/// How long `ipvsadm` may take; heartbeats wait for it.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long keepalived has to set the kernel up after it has read its configuration.
const SETTLING: Duration = Duration::from_secs(3);

/// A listener whose keepalived runs. In a heartbeat its status is `OPEN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Its counters; `None` when the kernel could not be asked: then nothing is known of them, which is not zero.
    pub stats: Option<Stats>,
    /// Its pool, if it has one that is enabled.
    pub pool: Option<Pool>,
}

/// Counters of a listener in Octavia's words. There are no request errors (`ereq`) here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes to clients since the service was made.
    pub bout: u64,
    /// Bytes from clients since the service was made.
    pub bin: u64,
    /// Connections there are.
    pub scur: u64,
    /// Connections there have been since the service was made.
    pub stot: u64,
}

/// A pool and its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Its id, which is its key in the heartbeat.
    pub id: String,
    /// `UP` or `DOWN`.
    pub status: &'static str,
    /// `UP`, `DOWN`, `DRAIN`, `MAINT`, `RESTARTING` or `no check`, by member id.
    pub members: BTreeMap<String, &'static str>,
}

/// The health of every LVS listener whose keepalived runs and that is enabled, by its id. Blocks for the time of some
/// file reads, and at most two seconds for `ipvsadm`, which is asked only when there is such a listener with a pool.
///
/// # Errors
/// The system's, where a file is there and cannot be read.
pub fn health(base: &Path, namespace: &Namespace) -> io::Result<BTreeMap<String, Health>> {
    let mut running = Vec::new();
    for id in files::listeners(base)? {
        let Some(text) = files::read(base, &id)? else { continue };
        if files::is_running(base, &id)? {
            let restarting = is_restarting(base, &id);
            running.push((id, config::parse(&String::from_utf8_lossy(&text)), restarting));
        }
    }
    running.retain(|(_, configuration, _)| !configuration.disabled);
    let (mut table, mut counters) = (Table::new(), Some(BTreeMap::new()));
    if running.iter().any(|(_, configuration, _)| !configuration.addresses.is_empty()) {
        table = table::read(namespace)?;
        counters = ipvsadm(namespace);
    }
    let judged = running.iter().map(|(id, configuration, restarting)| {
        (id.to_string(), judge(configuration, &table, counters.as_ref(), *restarting))
    });
    Ok(judged.collect())
}

fn ipvsadm(namespace: &Namespace) -> Option<BTreeMap<Service, Counters>> {
    let mut command = Command::new("ipvsadm");
    match child::run(command.args(["-Ln", "--stats", "--exact"]), Some(namespace), b"", PATIENCE) {
        Ok(ended) if ended.status.success() => Some(table::counters(&ended.text)),
        Ok(ended) => {
            tracing::debug!(status = %ended.status, text = ended.text.trim(), "ipvsadm does not tell the counters");
            None
        }
        Err(error) => {
            tracing::debug!(%error, "the counters of LVS cannot be read");
            None
        }
    }
}

/// Whether what the kernel holds is not what is configured yet: then a member that is not there is not down. The
/// checker's pid file is as old as the configuration in effect: keepalived writes it at its start, and [`in_effect`]
/// after a reload.
fn is_restarting(base: &Path, id: &LbId) -> bool {
    let modified = |name: &str| std::fs::metadata(files::directory(base).join(name)).and_then(|m| m.modified());
    let configured = modified(&files::configuration_name(id)).unwrap_or(SystemTime::UNIX_EPOCH);
    let [_, _, checker] = files::pid_names(id);
    modified(&checker)
        .map_or(true, |since| configured > since || since.elapsed().is_ok_and(|elapsed| elapsed < SETTLING))
}

/// The stored configuration is in effect since now: its keepalived has read it again.
pub(super) fn in_effect(base: &Path, id: &LbId) {
    let [_, _, checker] = files::pid_names(id);
    let touched =
        std::fs::File::open(files::directory(base).join(checker)).and_then(|f| f.set_modified(SystemTime::now()));
    // Without a pool there is no checker, and no member to be taken for down.
    touched.unwrap_or_else(|error| tracing::debug!(%id, %error, "the checker's pid file cannot be touched"));
}

/// What is to be said of one listener.
#[must_use]
pub fn judge(
    configuration: &Configuration,
    table: &Table,
    counters: Option<&BTreeMap<Service, Counters>>,
    restarting: bool,
) -> Health {
    let services = configuration.services();
    let held: BTreeMap<SocketAddr, table::Destination> =
        services.iter().filter_map(|s| table.get(s)).flatten().map(|(a, d)| (*a, *d)).collect();
    let active = |s: &Service| table.get(s).map_or(0, |members| members.values().map(|d| d.active).sum());
    let stats = counters.map(|counters| {
        services.iter().filter_map(|s| Some((s, counters.get(s)?))).fold(Stats::default(), |sum, (s, c)| Stats {
            bout: sum.bout + c.bytes_out,
            bin: sum.bin + c.bytes_in,
            scur: sum.scur + active(s),
            stot: sum.stot + c.connections,
        })
    });
    let gone = if restarting { "RESTARTING" } else { "DOWN" };
    let present = if configuration.monitored { "UP" } else { "no check" };
    let status = |address: Option<SocketAddr>| match address.map(|a| held.get(&a)) {
        None => "MAINT",
        Some(Some(destination)) if destination.weight == 0 => "DRAIN",
        Some(Some(_)) => present,
        // Without a monitor nobody takes a member out: none of them there means that the whole service is on its way.
        Some(None) if held.is_empty() && !configuration.monitored => present,
        Some(None) => gone,
    };
    let pool = configuration.pool.as_ref().filter(|_| !services.is_empty()).map(|id| Pool {
        id: id.clone(),
        status: if held.is_empty() && configuration.monitored && !configuration.members.is_empty() {
            "DOWN"
        } else {
            "UP"
        },
        members: configuration.members.iter().map(|m| (m.id.clone(), status(m.address))).collect(),
    });
    Health { stats, pool }
}

#[cfg(test)]
mod tests;
