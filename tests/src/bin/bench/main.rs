//! `make bench`: every speed figure of the agent beside the floor it stands on, measured in the same run, written to
//! `docs/bench.md`. A missed target is shown and is no failure; a figure that cannot be had is.
//!
//! Parts can be named (`bench plug scale`), and are then shown and not written: `heartbeats`, `http`, `network`, `pair`,
//! `plug`, `register`, `scale`, `stock`. With `PEER=1` Octavia's Python agent is measured beside ours, in `stock` and `pair`
//! (`tests/octavia/install.sh` installs it).
#![allow(clippy::doc_markdown, reason = "ToR is a word here, not code")]

mod client;
mod floors;
mod heartbeats;
mod http;
mod kernel;
mod network;
mod page;
mod pair;
mod plug;
mod reasons;
mod report;
mod routes;
mod scale;
mod site;
mod stats;
mod stock;

use std::{fs, process::ExitCode, time::Instant};

use lab::{TorKind, workdir::built_program};

use report::{Report, Reports};
use site::Site;

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

fn main() -> ExitCode {
    let start = Instant::now();
    let mut reports = Reports::default();
    let ran = run(&mut reports).and_then(|setting| {
        if parts().next().is_some() {
            println!("{}\n{}", reports.floors.table("floor"), reports.peer.table("Python agent"));
            return Ok(());
        }
        let path = page::write(&reports, &setting, start.elapsed())?;
        let missed = reports.floors.missed() + reports.peer.missed();
        println!("{missed} targets missed; the figures are in {}", path.canonicalize()?.display());
        Ok(())
    });
    let Err(error) = ran else { return ExitCode::SUCCESS };
    eprintln!("the bench failed: {}", lab::error::chain(&*error));
    ExitCode::FAILURE
}

fn run(reports: &mut Reports) -> Result<String> {
    let report = &mut reports.floors;
    let agent = built_program("amphora-agent")?;
    #[expect(clippy::cast_precision_loss, reason = "a file's size")]
    let bytes = fs::metadata(agent)?.len() as f64 / 1024.0 / 1024.0;
    let how = "the release profile: thin LTO, one codegen unit, debug sections stripped, symbol table kept";
    report.amount("binary as built", ("-", None), (bytes, None), "MiB", how);

    if wanted("heartbeats") {
        heartbeats::idle(report)?;
    }
    if wanted("stock") {
        stock::stock(reports)?;
    }
    if wanted("pair") && with_peer() {
        pair::pair(&mut reports.peer)?;
    }
    let report = &mut reports.floors;
    eprintln!("\nwith BIRD:");
    let site = Site::new(TorKind::Bird, true)?;
    let bird = site.tor().version()?;
    site.start_agent(site.amphora())?;
    let page = http::page(&site)?;
    if wanted("http") {
        http::start(&site, report)?;
        site.wait_session(site.amphora())?;
        http::new_connection(&site, report)?;
        site.amphora().stop_agent()?; // what it weighs is to be measured from its start
        site.start_agent(site.amphora())?;
        http::keep_alive(&site, report, page)?;
        http::idle_connections(&site, report)?;
    }
    if wanted("plug") {
        plug::plug(&site, report)?;
    }
    if wanted("network") {
        network::plug(&site, report)?;
    }
    if wanted("register") {
        register(&site, report, ("BIRD", true), 60)?;
    }
    if wanted("scale") {
        site.start_agent(site.empty())?;
        site.amphora().stop_agent()?; // what it weighs is to be what it holds, not what came before
        site.start_agent(site.amphora())?;
        scale::fill(&site, report)?;
        scale::one_more(&site, report)?;
        scale::replay(&site, report)?;
    }
    drop(site);
    if wanted("register") {
        eprintln!("\nwith BIRD, state in memory:");
        let site = Site::new(TorKind::Bird, false)?;
        site.start_agent(site.amphora())?;
        register(&site, report, ("BIRD, state in memory", false), 60)?;
    }

    eprintln!("\nwith FRR:");
    let site = Site::new(TorKind::Frr, true)?;
    let frr = site.tor().version()?;
    site.start_agent(site.amphora())?;
    if wanted("register") {
        register(&site, report, ("FRR", true), 25)?;
    }
    setting(&site, &[bird, frr])
}

/// The parts named on the command line.
fn parts() -> impl Iterator<Item = String> {
    std::env::args().skip(1)
}

/// Whether a part is to be measured: one of those named, or all of them.
fn wanted(part: &str) -> bool {
    parts().next().is_none() || parts().any(|named| named == part)
}

/// Whether Octavia's Python agent is to be measured too.
fn with_peer() -> bool {
    std::env::var_os("PEER").is_some_and(|value| value == "1")
}

fn register(site: &Site, report: &mut Report, name: (&str, bool), rounds: usize) -> Result<()> {
    let gobgpd = site::start_speaker(site.bare())?;
    let speaker = site.speaker(site.bare())?;
    site.configure(site.bare(), &speaker)?;
    site.meet(site.bare(), &speaker)?;
    routes::register(site, report, &speaker, name, rounds)?;
    gobgpd.kill_and_wait()?;
    Ok(())
}

/// The machine and the versions, for a table means nothing without.
fn setting(site: &Site, routers: &[String]) -> Result<String> {
    let node = &site.fabric.controller;
    let cpu = fs::read_to_string("/proc/cpuinfo")?;
    let models: Vec<_> = cpu.lines().filter_map(|l| l.strip_prefix("model name")?.split_once(": ")).collect();
    let model = models.first().map_or("unknown", |(_, name)| name);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let load = fs::read_to_string("/proc/loadavg")?;
    let load: Vec<_> = load.split(' ').take(3).collect();
    let versions = [node.run(["openssl", "version"])?, node.run(["gobgpd", "--version"])?, routers.join("; ")];
    let versions: Vec<_> = versions.iter().map(|v| v.trim().trim_end_matches('.')).collect();
    Ok(format!(
        "{} on Linux {}, {} x {model}, load {} at the end. {}.",
        node.run(["date", "-u", "+%F"])?.trim(),
        kernel.trim(),
        models.len(),
        load.join(" "),
        versions.join("; ")
    ))
}
