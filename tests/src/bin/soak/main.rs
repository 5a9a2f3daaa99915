//! `make soak`: three amphorae behind one ToR serve clients while agents, speakers and haproxies are killed at random and
//! load balancers are made, changed and deleted. Fails when a VIP is routed to an amphora that has not bound it, when a
//! request fails that nothing explains, or when agents or speakers grow. See docs/failures.md.
//!
//! `MINUTES` (45), `SEED` (of the clock; printed), `TOR` (`bird` or `frr`).
#![allow(clippy::doc_markdown, reason = "ToR is a word here, not code")]

mod churn;
mod clients;
mod kill;
mod random;
mod resources;
mod watch;
mod world;

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lab::TorKind;

use clients::Clients;
use random::Random;
use resources::{Resources, minutes};
use world::{Deed, World};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

const SAMPLE: Duration = Duration::from_secs(10);
const PROGRESS: Duration = Duration::from_mins(1);

/// What is asked for by the environment.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    lasts: Duration,
    seed: u64,
    tor: TorKind,
}

fn main() -> ExitCode {
    match wanted().and_then(soak) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(violations) => {
            eprintln!("the soak failed: {violations} violations");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("the soak failed: {}", lab::error::chain(&*error));
            ExitCode::FAILURE
        }
    }
}

fn wanted() -> Result<Wanted> {
    let number = |name: &str, default: u64| match std::env::var(name) {
        Ok(text) if !text.is_empty() => {
            text.parse::<u64>().map_err(|error| format!("{name} is a number, not {text:?}: {error}"))
        }
        _ => Ok(default),
    };
    let minutes = number("MINUTES", 45)?;
    if !(1..=24 * 60).contains(&minutes) {
        return Err(format!("MINUTES is 1 to 1440, not {minutes}").into());
    }
    let clock = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let tor = match std::env::var("TOR").as_deref() {
        Ok("frr") => TorKind::Frr,
        Ok("bird" | "") | Err(_) => TorKind::Bird,
        Ok(other) => return Err(format!("TOR is bird or frr, there is no {other:?}").into()),
    };
    Ok(Wanted { lasts: Duration::from_secs(60 * minutes), seed: number("SEED", clock)?, tor })
}

/// Runs, and says how many things happened that must not.
fn soak(wanted: Wanted) -> Result<usize> {
    let Wanted { lasts, seed, tor } = wanted;
    println!("soak: {} behind {tor:?}, SEED={seed}", minutes(lasts));
    let world = World::new(tor)?;
    println!("three amphorae serve ({}); clients begin", world.tor().version()?);
    let outcome = thread::scope(|scope| {
        let watch = scope.spawn(|| ends(&world, watch::run(&world)));
        let churn = scope.spawn(|| ends(&world, churn::run(&world, Random::new(seed, 1)).map_err(Into::into)));
        let kill = scope.spawn(|| ends(&world, kill::run(&world, Random::new(seed, 2)).map_err(Into::into)));
        let ours = ends(&world, observe(&world, lasts));
        world.end();
        let seen = watch.join().map_err(|_| "the watch panicked")?;
        churn.join().map_err(|_| "the churn panicked")??;
        kill.join().map_err(|_| "the kills panicked")??;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>((ours?, seen?))
    });
    let violations = world.violations();
    if outcome.is_err() || !violations.is_empty() {
        world.fabric.workdir.keep()?;
        println!("the logs are kept in {}", world.fabric.workdir.path().display());
    }
    let ((clients, resources), seen) = outcome?;
    println!("\nsummary of {} with SEED={seed}:", minutes(world.start.elapsed()));
    println!("{}", done(&world));
    println!("{clients}");
    println!(
        "a VIP was unbound {} times; a route led to where nothing listens for {:.2?} at most, \
         {:.2?} around kills of agents and speakers",
        seen.unbound, seen.deaf[0], seen.deaf[1]
    );
    resources.judge(&world);
    let violations = world.violations();
    println!("violations: {}", violations.len());
    for violation in &violations {
        println!("  {violation}");
    }
    Ok(violations.len())
}

/// A thread that fails ends the soak.
fn ends<T>(world: &World, result: Result<T>) -> Result<T> {
    if let Err(error) = &result {
        eprintln!("{}", lab::error::chain(&**error));
        world.end();
    }
    result
}

/// Samples, judges the clients' failures and tells how it goes, until the time is over.
fn observe(world: &World, lasts: Duration) -> Result<(Clients, Resources)> {
    let (mut clients, mut resources) = (Clients::start(world)?, Resources::default());
    let (mut sampled, mut told) = (Instant::now(), Instant::now());
    while world.start.elapsed() < lasts && !world.is_over() {
        world.rest(Duration::from_millis(200));
        if sampled.elapsed() >= SAMPLE {
            sampled += SAMPLE;
            resources.look(world, world.start)?;
        }
        if told.elapsed() >= PROGRESS {
            told += PROGRESS;
            clients.judge(world);
            println!(
                "{}: {clients}; {}; {}; violations: {}",
                minutes(world.start.elapsed()),
                done(world),
                resources.last(),
                world.violations().len()
            );
        }
    }
    world.end();
    clients.end(world);
    Ok((clients, resources))
}

fn done(world: &World) -> String {
    let (tally, events) = (world.tally(), world.events());
    let count = |deed: Deed| events.iter().filter(|event| event.deed == deed).count();
    format!(
        "killed {} agents, {} speakers, {} haproxies; {} calls ({} repeated): {} load balancers made, {} changed, {} deleted; \
         {} looks",
        count(Deed::AgentKilled),
        count(Deed::SpeakerKilled),
        count(Deed::HaproxyKilled),
        tally.calls,
        tally.repeated,
        tally.created,
        tally.changed,
        tally.deleted,
        tally.looks
    )
}
