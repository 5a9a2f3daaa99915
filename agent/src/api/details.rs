//! `GET /1.0/details`: how this amphora is doing. Everything is read from the kernel at every call, and no
//! process is started for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Read as _},
};

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::{
    App,
    error::{ApiError, Fault, Status, with_causes},
    info::{self, Info},
    listeners::from_files,
};
use crate::loadbalancers::{self, Overview};

/// An interface's counters, in bytes since it was made.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Traffic {
    network_tx: u64,
    network_rx: u64,
}

/// Processor time since boot in ticks. All but the total are strings, as Octavia's agent has them.
#[derive(Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Cpu {
    total: u64,
    user: String,
    system: String,
    soft_irq: String,
}

/// Memory in kB.
#[derive(Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Memory {
    total: u64,
    free: u64,
    buffers: u64,
    cached: u64,
    /// `SwapCached`, by Octavia's custom.
    swap_used: u64,
    shared: u64,
    slab: u64,
}

/// The root file system, in bytes.
#[derive(Debug, Serialize, ToSchema)]
pub struct Disk {
    used: u64,
    available: u64,
}

/// How this amphora is doing.
#[derive(Debug, Serialize, ToSchema)]
pub struct Details {
    #[serde(flatten)]
    info: Info,
    /// The interfaces of the namespace whose names start with `eth`.
    networks: BTreeMap<String, Traffic>,
    active: bool,
    /// How many haproxy processes run.
    haproxy_count: usize,
    cpu_count: usize,
    cpu: Cpu,
    memory: Memory,
    disk: Disk,
    /// The load averages, as strings.
    load: Vec<String>,
    active_tuned_profiles: String,
    topology: &'static str,
    topology_status: &'static str,
    /// The ids of all listeners, sorted.
    listeners: BTreeSet<String>,
    packages: BTreeMap<String, String>,
    /// How many keepalived processes for LVS run.
    lvs_listener_process_count: usize,
    /// Files for TLS that load balancers name and that are not there: keys are in memory, and gone after a reboot. Absent
    /// when there is none; Octavia's agent does not know it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing_files: Vec<String>,
}

/// Tell how this amphora is doing.
#[utoipa::path(get, path = "/1.0/details", operation_id = "details", tag = "Amphora API 1.0",
    responses(
        (status = 200, body = Details),
        (status = 500, description = "The kernel could not be read", body = Fault),
    ))]
pub async fn details(State(app): State<App>) -> Result<Json<Details>, ApiError> {
    let failed = |e: &dyn std::error::Error| {
        ApiError::new(Status::Internal, "Cannot tell how this amphora is doing", with_causes(e))
    };
    // Both take their time in other threads: at once.
    let (traffic, files) = tokio::join!(
        app.kernel.inside().traffic(),
        from_files(&app, |base| Ok((loadbalancers::overview(base)?, host())))
    );
    let networks = traffic.map_err(|e| failed(&e))?.into_iter().filter(|(name, _)| name.starts_with("eth"));
    let networks = networks.map(|(name, t)| (name, Traffic { network_tx: t.tx_bytes, network_rx: t.rx_bytes }));
    let (Overview { haproxy_running, haproxy, missing_files, lvs_running, lvs }, host) = files?;
    let Host { stat, root, meminfo, loadavg, tuned } = host.map_err(|e| failed(&e))?;
    Ok(Json(Details {
        info: info::collect(&app).await,
        networks: networks.collect(),
        active: true,
        haproxy_count: haproxy_running,
        cpu_count: cpu_count(&stat),
        cpu: cpu(&stat),
        memory: memory(&meminfo),
        disk: Disk {
            used: root.blocks().saturating_sub(root.blocks_free()) * root.fragment_size(),
            available: root.blocks_available() * root.fragment_size(),
        },
        load: load(&loadavg),
        active_tuned_profiles: tuned,
        topology: "SINGLE",
        topology_status: "OK",
        listeners: haproxy.into_iter().chain(lvs).map(|listener| listener.id).collect(),
        packages: BTreeMap::new(),
        lvs_listener_process_count: lvs_running,
        missing_files,
    }))
}

/// What the machine tells of itself.
struct Host {
    stat: String,
    root: nix::sys::statvfs::Statvfs,
    meminfo: String,
    loadavg: String,
    tuned: String,
}

fn host() -> io::Result<Host> {
    Ok(Host {
        stat: table("/proc/stat")?,
        root: nix::sys::statvfs::statvfs("/")?,
        meminfo: table("/proc/meminfo")?,
        loadavg: table("/proc/loadavg")?,
        tuned: tuned_profiles()?,
    })
}

/// A file of the kernel's, which says 0 of its size: with room for it, one read is enough.
fn table(path: &str) -> io::Result<String> {
    let mut text = String::with_capacity(8 * 1024);
    fs::File::open(path)?.read_to_string(&mut text)?;
    Ok(text)
}

/// The first line of `/proc/stat`: `cpu user nice system idle iowait irq softirq ...`.
fn cpu(stat: &str) -> Cpu {
    let ticks: Vec<&str> = stat.lines().next().unwrap_or_default().split_whitespace().skip(1).collect();
    let column = |n: usize| ticks.get(n).map_or_else(|| "0".to_owned(), |text| (*text).to_owned());
    Cpu {
        total: ticks.iter().filter_map(|text| text.parse::<u64>().ok()).sum(),
        user: column(0),
        system: column(2),
        soft_irq: column(6),
    }
}

/// The processors that are online have a line each in /proc/stat.
pub(crate) fn cpu_count(stat: &str) -> usize {
    stat.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu ")).count()
}

fn memory(meminfo: &str) -> Memory {
    let mut memory = Memory::default();
    for (key, value) in meminfo.lines().filter_map(|line| line.split_once(':')) {
        let field = match key {
            "MemTotal" => &mut memory.total,
            "MemFree" => &mut memory.free,
            "Buffers" => &mut memory.buffers,
            "Cached" => &mut memory.cached,
            "SwapCached" => &mut memory.swap_used,
            "Shmem" => &mut memory.shared,
            "Slab" => &mut memory.slab,
            _ => continue,
        };
        *field = value.trim().trim_end_matches("kB").trim_end().parse().unwrap_or_default();
    }
    memory
}

fn load(loadavg: &str) -> Vec<String> {
    loadavg.split_whitespace().take(3).map(ToOwned::to_owned).collect()
}

/// The active profiles of `tuned`; empty where it is not installed.
fn tuned_profiles() -> io::Result<String> {
    let mut text = Vec::new();
    match fs::File::open("/etc/tuned/active_profile") {
        Ok(file) => file.take(1024).read_to_end(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    Ok(String::from_utf8_lossy(&text).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read_as_octavias_agent_reads_them() {
        let stat =
            "cpu  100 5 30 4000 7 0 9 1 0 0\ncpu0 50 5 15 2000 3 0 4 1 0 0\ncpu1 50 0 15 2000 4 0 5 0 0 0\nintr 1\n";
        let expected = Cpu { total: 4152, user: "100".into(), system: "30".into(), soft_irq: "9".into() };
        assert_eq!((cpu(stat), cpu_count(stat)), (expected, 2));
        let meminfo = "MemTotal:        2029000 kB\nMemFree:  1000 kB\nBuffers:       7 kB\nCached: 600 kB\n\
                       SwapCached:            3 kB\nShmem:  2 kB\nSlab: 44 kB\nHugePages_Total:       1\n";
        let expected =
            Memory { total: 2_029_000, free: 1000, buffers: 7, cached: 600, swap_used: 3, shared: 2, slab: 44 };
        assert_eq!(memory(meminfo), expected);
        assert_eq!(load("0.52 0.58 0.59 1/467 12345\n"), ["0.52", "0.58", "0.59"]);
    }
}
