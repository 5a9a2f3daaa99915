//! `make bench`: every speed figure of the agent beside the floor it stands on, measured in the same run, as Markdown on
//! standard output. A missed target is shown and is no failure; a figure that cannot be had is.
//!
//! Parts can be named (`bench plug scale`): `heartbeats`, `http`, `plug`, `register`, `scale`.
#![allow(clippy::doc_markdown, reason = "ToR is a word here, not code")]

mod client;
mod floors;
mod heartbeats;
mod http;
mod kernel;
mod plug;
mod report;
mod routes;
mod scale;
mod site;
mod stats;

use std::{fs, process::ExitCode, time::Instant};

use lab::{TorKind, workdir::built_program};

use report::Report;
use site::Site;

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

fn main() -> ExitCode {
    let start = Instant::now();
    let mut report = Report::default();
    match run(&mut report) {
        Ok(setting) => {
            println!("# Speed\n\n{setting}\n\n{}", report.table());
            println!("{} targets missed. The run took {:.0} s.", report.missed(), start.elapsed().as_secs_f64());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}", report.table());
            eprintln!("the bench failed: {}", lab::error::chain(&*error));
            ExitCode::FAILURE
        }
    }
}

fn run(report: &mut Report) -> Result<String> {
    let agent = built_program("amphora-agent")?;
    #[expect(clippy::cast_precision_loss, reason = "a file's size")]
    let bytes = fs::metadata(agent)?.len() as f64 / 1024.0 / 1024.0;
    let how = "the release profile: thin LTO, one codegen unit, debug sections stripped, symbol table kept";
    report.amount("binary as built", ("-", None), (bytes, None), "MiB", how);

    if wanted("heartbeats") {
        heartbeats::idle(report)?;
    }
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

/// Whether a part is to be measured: one of those named on the command line, or all of them.
fn wanted(part: &str) -> bool {
    std::env::args().len() < 2 || std::env::args().any(|named| named == part)
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
        "`make bench` (a release build, then `target/release/bench`) on Linux {}, {} x {model}, load {} at the end. {}.\n\n\
         Every time is shown as median (first to third quartile, number of samples) where nothing else is said. Each \
         floor is measured in the same run, mostly in turn with what it is compared to; the ratio is of the same \
         statistic of both. All of it runs in the lab's namespaces on one machine: client, agent, speaker and ToR share \
         its processors. The agents' state is on the machine's disk where nothing else is said.",
        kernel.trim(),
        models.len(),
        load.join(" "),
        versions.join("; ")
    ))
}
