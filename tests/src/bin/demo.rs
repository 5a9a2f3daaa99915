//! The demo: one ToR and three amphorae become one anycast load balancer by mutual-TLS calls, lose a member and a
//! speaker, and say at each step what the fabric sees.
//!
//! `TOR=bird` takes BIRD instead of FRR, `KEEP=1` leaves the fabric up to be looked at.
#![allow(clippy::doc_markdown, reason = "ToR is a word here, not code")]

use std::io::{self, BufRead};
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use lab::error::chain;
use lab::{
    Amphora, Api, Dual, Fabric, Family, Neighbours, Options, Result, Tor, TorKind, addresses, balancers, traffic,
    wait_for,
};
use nix::sys::signal::Signal;

const PATIENCE: Duration = Duration::from_secs(20);
const CLIENTS: usize = 300;
const PORT: u16 = 80;
const LB: &str = "6f4b2f0e-4a4e-4c1b-9f0a-0d3b7a1c2d3e";
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

fn main() -> ExitCode {
    let start = Instant::now();
    let say = |text: &str| {
        for line in text.lines() {
            match line {
                "" => println!(),
                line => println!("{:7.2} s  {line}", start.elapsed().as_secs_f64()),
            }
        }
    };
    match run(&say) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the demo failed: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(say: &dyn Fn(&str)) -> Result<()> {
    let kind = match std::env::var("TOR").as_deref() {
        Ok("bird") => TorKind::Bird,
        Ok("frr") | Err(_) => TorKind::Frr,
        Ok(other) => return Err(lab::Error::Missing(format!("TOR is frr or bird, there is no {other:?}"))),
    };
    let mut options = Options::new(kind);
    options.tors[0].neighbours = Neighbours::Each(Family::V4);
    let fabric = Fabric::new("demo", &options)?;
    let story = tell(say, &fabric);
    if story.is_err() {
        fabric.workdir.keep()?;
    }
    if std::env::var_os("KEEP").is_some_and(|keep| !keep.is_empty() && keep != "0") {
        leave_up(&fabric)?;
    }
    let (logs, down) = (fabric.workdir.path().to_path_buf(), Instant::now());
    drop(fabric);
    say(&format!("\nevery process, link and namespace of the fabric is gone again ({:.0?})", down.elapsed()));
    if story.is_err() {
        say(&format!("the logs are kept in {}", logs.display()));
    }
    story
}

fn tell(say: &dyn Fn(&str), fabric: &Fabric) -> Result<()> {
    let (tor, vip) = (&fabric.tors[0], addresses::vip(7));
    say(&format!("the fabric is up: a client, a router, {}, {} amphorae", tor.version()?, fabric.amphorae.len()));
    let mut controllers = boot(say, fabric)?;

    say(&format!("\nPLUG: the VIP {} and {}, one mutual-TLS call per amphora", vip.v4, vip.v6));
    for (amphora, api) in fabric.amphorae.iter().zip(&mut controllers) {
        let call = Instant::now();
        let reply = api.plug_vip(vip.v4.into(), &amphora.plug_body(vip))?.success()?;
        say(&format!("{}: {} in {:.1?}: {}", amphora.name(), reply.status, call.elapsed(), reply.text().trim()));
    }

    say("\nSTART: each amphora announces the VIP, with its front-end IP as next hop, once its listener accepts");
    for (amphora, api) in fabric.amphorae.iter().zip(&mut controllers) {
        start(say, tor, amphora, api, vip)?;
    }
    let mut serving: Vec<&Amphora> = fabric.amphorae.iter().collect();
    look(say, fabric, vip, &serving)?;

    let leaver = serving.remove(1);
    say(&format!("\nSTOP: the listener of {}", leaver.name()));
    let call = Instant::now();
    controllers[1].act(LB, "stop")?.success()?;
    wait_routes(tor, vip, &serving)?;
    say(&format!("the ToR's kernel has {} next hops {:.1?} after the call", serving.len(), call.elapsed()));
    look(say, fabric, vip, &serving)?;

    let victim = fabric.amphorae.last().expect("there are three");
    say(&format!("\nFAULT: kill -9 of gobgpd in {}; nobody is told", victim.name()));
    kill_speaker(say, tor, victim)?;
    wait_routes(tor, vip, &serving)?;
    look(say, fabric, vip, &serving)
}

/// Starts the agents and waits for their API and their BGP sessions.
fn boot(say: &dyn Fn(&str), fabric: &Fabric) -> Result<Vec<Api>> {
    let mut controllers = Vec::new();
    for amphora in &fabric.amphorae {
        let sections = amphora.distributor_sections().replace("announce = api\n", ""); // `listener` is the default
        amphora.write_config(&(sections + &fabric.tors[0].peer_section(Family::V4)))?;
        amphora.start_agent(&[])?;
    }
    for amphora in &fabric.amphorae {
        let (mut api, took) = amphora.wait_api(PATIENCE)?;
        let info = api.info()?.success()?;
        say(&format!("{}: the agent answers after {took:.0?}: {}", amphora.name(), info.text().trim()));
        controllers.push(api);
    }
    for amphora in &fabric.amphorae {
        fabric.tors[0].wait_established(amphora.management(Family::V4), PATIENCE)?;
    }
    let speaker = fabric.amphorae[0].node().run(["gobgpd", "--version"])?;
    say(&format!("BGP sessions are up with all of them, on the management network ({})", speaker.trim()));
    Ok(controllers)
}

/// Uploads and starts a load balancer that answers with the amphora's name, and tells when the ToR has its routes.
fn start(say: &dyn Fn(&str), tor: &Tor, amphora: &Amphora, api: &mut Api, vip: Dual) -> Result<()> {
    let binds = FAMILIES.map(|family| SocketAddr::new(vip.of(family), PORT));
    let watch = tor.watch_routes()?;
    api.upload(amphora, LB, balancers::configuration(LB, &binds, amphora.name(), ""))?.success()?;
    let call = Instant::now();
    api.act(LB, "start")?.success()?;
    say(&format!("{}: started in {:.0?}", amphora.name(), call.elapsed()));
    let answered = Instant::now();
    for family in FAMILIES {
        let (route, next_hop) = (vip.of(family), amphora.frontend(family));
        let what = format!("{} routes {route} to {next_hop}", tor.name());
        let (route, via) = (route.to_string(), format!("via {next_hop} "));
        let event = watch.wait(&what, PATIENCE, |line| line.starts_with(&route) && line.contains(&via))?;
        let after = event.at.saturating_duration_since(answered);
        say(&format!("{} {family:?}: in the ToR's kernel {after:.0?} after the answer", amphora.name()));
    }
    Ok(())
}

fn wait_routes(tor: &Tor, vip: Dual, serving: &[&Amphora]) -> Result<()> {
    for family in FAMILIES {
        let hops: Vec<IpAddr> = serving.iter().map(|amphora| amphora.frontend(family)).collect();
        tor.wait_next_hops(IpNet::from(vip.of(family)), &hops, PATIENCE)?;
    }
    Ok(())
}

/// What the fabric sees: the ToR's kernel routes, and who answers the clients.
fn look(say: &dyn Fn(&str), fabric: &Fabric, vip: Dual, serving: &[&Amphora]) -> Result<()> {
    let tor = &fabric.tors[0];
    wait_routes(tor, vip, serving)?;
    for (family, flag) in [(Family::V4, "-4"), (Family::V6, "-6")] {
        let route = tor.node().run(["ip", flag, "route", "show", "exact", &vip.of(family).to_string()])?;
        say(&format!("{}'s kernel: {}", tor.name(), route.trim_end()));
    }
    for family in FAMILIES {
        let vip = SocketAddr::new(vip.of(family), PORT);
        let start = Instant::now();
        let split = traffic::connect(&fabric.client, vip, CLIENTS)?;
        say(&format!("{CLIENTS} connections to {vip} in {:.0?}: {split}", start.elapsed()));
        if split.failed() > 0 || split.answers.len() != serving.len() {
            let names: Vec<&str> = serving.iter().map(|amphora| amphora.name()).collect();
            let what = format!("{CLIENTS} connections to {vip}");
            return Err(lab::Error::Http { what, reason: format!("want answers from {names:?}, got {split}") });
        }
    }
    Ok(())
}

/// Kills an amphora's speaker and tells what the ToR sees until the session is back.
fn kill_speaker(say: &dyn Fn(&str), tor: &Tor, victim: &Amphora) -> Result<()> {
    let old = victim.pids("gobgpd")?;
    let peer = victim.management(Family::V4);
    let watch = tor.watch_routes()?;
    let start = Instant::now();
    victim.kill_program("gobgpd", Signal::SIGKILL)?;
    let restarted = || match victim.pids("gobgpd").map_err(|error| error.to_string())? {
        new if !new.is_empty() && new.iter().all(|pid| !old.contains(pid)) => Ok(()),
        pids => Err(format!("gobgpd has the pids {pids:?}")),
    };
    wait_for("the agent starts gobgpd again", PATIENCE, restarted)?;
    say(&format!("the agent has started it again {:.0?} after the kill", start.elapsed()));
    tor.wait_established(peer, PATIENCE)?;
    say(&format!("the session is back {:.1?} after the kill", start.elapsed()));
    let events = watch.so_far();
    if events.is_empty() {
        say("the ToR's kernel routes did not change meanwhile (BGP graceful restart)");
    }
    for event in events {
        say(&format!("+{:.1?} the ToR's kernel: {}", event.at - start, event.line));
    }
    Ok(())
}

/// Tells how to look around, and stays until Enter or a signal.
fn leave_up(fabric: &Fabric) -> Result<()> {
    let (ca, client, identity) =
        ("/etc/octavia/certs/ca.pem", "/etc/octavia/certs/client.pem", fabric.pki.controller());
    fabric.controller.write_file(ca, fabric.pki.ca(), 0o644)?;
    fabric.controller.write_file(client, format!("{}{}", identity.certificate, identity.key), 0o600)?;
    let (first, agent) = (&fabric.amphorae[0], lab::workdir::built_program("amphora-agent")?);
    println!("\nThe fabric stays up. A shell in each machine:");
    let tors = fabric.tors.iter().map(Tor::node);
    let amphorae = fabric.amphorae.iter().map(Amphora::node);
    for node in [&fabric.client, &fabric.router, &fabric.controller].into_iter().chain(tors).chain(amphorae) {
        println!("  {:<11} {}", node.name(), node.how_to_enter());
    }
    println!("\nIn an amphora:  nsenter --net=/run/netns/amphora-haproxy ip address");
    println!("                gobgp --target unix://{} neighbor", lab::speaker::SOCKET);
    println!("                alias amphoractl='{} amphoractl'; amphoractl status", agent.display());
    println!("In the controller:");
    println!(
        "  curl --cert {client} --cacert {ca} --connect-to {id}:9443:{}:9443 https://{id}:9443/1.0/distributor/why/{}",
        first.management(Family::V4),
        addresses::vip(7).v4,
        id = first.id()
    );
    println!("In the ToR:     vtysh -c 'show bgp summary' (or birdc show protocols), ip route");
    println!("In the client:  curl http://{}/", addresses::vip(7).v4);
    println!("\nThe logs are in {}", fabric.workdir.path().display());
    println!("Enter or `kill {}` ends it all.", std::process::id());
    let mut line = String::new();
    // Without a terminal there is no Enter: then only a signal ends it, and the kernel cleans up all the same.
    while let Ok(0) | Err(_) = io::stdin().lock().read_line(&mut line) {
        std::thread::park();
    }
    Ok(())
}
