//! Agents, speakers and haproxies are killed. One at a time of the kind that clients would notice: two amphorae go on.

use std::time::{Duration, Instant};

use lab::Result;
use nix::sys::signal::Signal;

use crate::random::Random;
use crate::world::{AMPHORAE, Deed, SPARED, Which, World};

/// How long an amphora is left alone after something of it was killed.
const ALONE: Duration = Duration::from_secs(5);

/// Works until the soak is over. Every agent runs then.
pub(crate) fn run(world: &World, mut random: Random) -> Result<()> {
    while !world.is_over() {
        world.rest(random.time(Duration::from_secs(2), Duration::from_secs(4)));
        let (index, what) = (random.below(AMPHORAE), random.below(10));
        let away = random.time(Duration::ZERO, Duration::from_secs(3));
        let deeds = [Deed::HaproxyKilled, Deed::SpeakerKilled, Deed::AgentBack];
        let touched = world.last(index, &deeds).is_some_and(|at| at.elapsed() < ALONE);
        if world.is_over() || touched || !world.is_well(index) {
            continue;
        }
        match what {
            0..=2 if index != SPARED => agent(world, index, away)?,
            3..=4 if index != SPARED => speaker(world, index)?,
            // Both at the same moment: nobody but the next agent can mend it.
            5 if index != SPARED => {
                speaker(world, index)?;
                agent(world, index, away)?;
            }
            6..=9 if (0..AMPHORAE).all(|index| world.is_well(index)) => haproxy(world, index),
            _ => {}
        }
    }
    Ok(())
}

fn agent(world: &World, index: usize, away: Duration) -> Result<()> {
    let amphora = world.amphora(index);
    world.note(Deed::AgentKilled, index);
    amphora.kill_agent()?;
    std::thread::sleep(away);
    amphora.start_agent(&[])?;
    world.note(Deed::AgentBack, index);
    Ok(())
}

fn speaker(world: &World, index: usize) -> Result<()> {
    world.note(Deed::SpeakerKilled, index);
    world.amphora(index).kill_program("gobgpd", Signal::SIGKILL).map(drop)
}

/// The steady VIP's, master and workers.
fn haproxy(world: &World, index: usize) {
    let node = world.amphora(index).node();
    let lb = Which::Steady.lb();
    let found = node.run(["pgrep", "-f", &format!("^[^ ]*haproxy .*{lb}")]).unwrap_or_default();
    let start = Instant::now();
    world.note(Deed::HaproxyKilled, index);
    for pid in found.split_whitespace() {
        // A worker may have ended with its master.
        let _ = node.run(["kill", "-9", pid]);
    }
    if found.is_empty() || start.elapsed() > ALONE {
        world.violation(&format!("{}: no haproxy of the steady VIP to kill: {found:?}", world.amphora(index).name()));
    }
}
