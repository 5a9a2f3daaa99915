//! Descriptors and memory of agents and speakers, and whether they grow.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use lab::{Amphora, Result};

use crate::world::{AMPHORAE, SPARED, World};

/// What growth over the second half is not taken for any: MiB, or this share of the mean, whichever is more.
const MEMORY: (f64, f64) = (1.0, 0.05);
/// Descriptors: a connection or two come and go.
const DESCRIPTORS: f64 = 2.0;

/// Below this nothing is judged: what a garbage collector has not got to yet goes up and down by a MiB or two.
const LONG_ENOUGH: Duration = Duration::from_mins(4);

const PROGRAMS: [&str; 2] = ["amphora-agent", "gobgpd"];

/// One look at a process.
#[derive(Clone, Copy, Debug)]
struct Sample {
    /// Seconds since the start of the soak.
    at: f64,
    /// MiB (smaps_rollup).
    pss: f64,
    /// Of that, what is no file's: heap and stacks. The pages of the program are shared with the other amphorae's, so a
    /// share of these goes up and down as others are killed and come back.
    anonymous: f64,
    descriptors: f64,
}

/// A figure of a sample.
type Value = fn(&Sample) -> f64;

/// What was seen of the processes of all amphorae.
#[derive(Debug, Default)]
pub(crate) struct Resources {
    /// Of the amphora whose agent and speaker are never killed, so that these are the same two processes all the time.
    spared: [Vec<Sample>; 2],
    /// Of all amphorae.
    all: [Vec<Sample>; 2],
}

impl Resources {
    /// Looks at all of them.
    pub(crate) fn look(&mut self, world: &World, start: Instant) -> Result<()> {
        for index in 0..AMPHORAE {
            for (which, program) in PROGRAMS.iter().enumerate() {
                // Killed ones may be gone between two looks.
                let Some(sample) = of(world.amphora(index), program, start)? else { continue };
                if index == SPARED {
                    self.spared[which].push(sample);
                }
                self.all[which].push(sample);
            }
        }
        Ok(())
    }

    /// The last look, for the progress.
    pub(crate) fn last(&self) -> String {
        let text = |(program, samples): (&&str, &Vec<Sample>)| {
            let last = samples.last()?;
            Some(format!("{program} {:.1} MiB, {} fds", last.pss, last.descriptors))
        };
        PROGRAMS.iter().zip(&self.spared).filter_map(text).collect::<Vec<_>>().join("; ")
    }

    /// What grew over the second half, and what the figures are.
    pub(crate) fn judge(&self, world: &World) {
        for ((program, samples), all) in PROGRAMS.iter().zip(&self.spared).zip(&self.all) {
            let half = &samples[samples.len() / 2..];
            if half.len() < 3 {
                println!("{program}: {} samples: too few to tell whether it grows", samples.len());
                continue;
            }
            let lasts = half[half.len() - 1].at - half[0].at;
            let name = world.amphora(SPARED).name();
            for (what, unit, value, spare) in [
                ("PSS", "MiB", (|s| s.pss) as Value, None),
                ("anonymous PSS", "MiB", |s| s.anonymous, Some(MEMORY)),
                ("descriptors", "", |s| s.descriptors, Some((DESCRIPTORS, 0.0))),
            ] {
                let most = all.iter().map(value).fold(0.0, f64::max);
                let points: Vec<_> = half.iter().map(|sample| (sample.at, value(sample))).collect();
                let (slope, mean) = slope(&points);
                let growth = slope * lasts;
                let limit = spare.map(|(least, share)| f64::max(least, share * mean));
                let judged = match limit {
                    Some(limit) => format!(", judged against {limit:.2}"),
                    None => String::new(),
                };
                println!(
                    "{name}'s {program}, {what}: mean {mean:.2} {unit}, slope {:+.3} {unit}/h over the last {} (growth \
                     {growth:+.2}{judged}); the most of any amphora's: {most:.2}",
                    slope * 3600.0,
                    minutes(Duration::from_secs_f64(lasts))
                );
                if lasts >= LONG_ENOUGH.as_secs_f64() && limit.is_some_and(|limit| growth > limit) {
                    world.violation(&format!("{name}'s {program} grows: {what} {growth:+.2} {unit}"));
                }
            }
        }
    }
}

/// A look at a program's process: the agent itself, not what else the binary is.
fn of(amphora: &Amphora, program: &str, start: Instant) -> Result<Option<Sample>> {
    for pid in amphora.pids(program)? {
        let look = || {
            let proc = PathBuf::from(format!("/proc/{pid}"));
            let words = std::fs::read_to_string(proc.join("cmdline")).ok()?;
            if ["deadman", "prometheus-proxy", "run-service"].iter().any(|other| words.contains(other)) {
                return None;
            }
            let rollup = std::fs::read_to_string(proc.join("smaps_rollup")).ok()?;
            let mib = |key: &str| {
                let line = rollup.lines().find_map(|line| line.strip_prefix(key))?;
                line.trim().trim_end_matches(" kB").parse::<u32>().ok().map(|kib| f64::from(kib) / 1024.0)
            };
            let descriptors = u32::try_from(std::fs::read_dir(proc.join("fd")).ok()?.count()).ok()?.into();
            let at = start.elapsed().as_secs_f64();
            Some(Sample { at, pss: mib("Pss:")?, anonymous: mib("Pss_Anon:")?, descriptors })
        };
        if let Some(found) = amphora.node().within(look)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The slope of the line with the least squares, and the mean.
fn slope(points: &[(f64, f64)]) -> (f64, f64) {
    let count = u32::try_from(points.len()).map_or(f64::MAX, f64::from);
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let (over, under) = points
        .iter()
        .fold((0.0, 0.0), |(over, under), p| (over + (p.0 - x) * (p.1 - y), under + (p.0 - x) * (p.0 - x)));
    (if under > 0.0 { over / under } else { 0.0 }, y)
}

pub(crate) fn minutes(time: Duration) -> String {
    format!("{:.1} min", time.as_secs_f64() / 60.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_slope_and_a_constant_none() {
        let (rising, mean) = slope(&[(0.0, 1.0), (10.0, 3.0), (20.0, 5.0)]);
        assert!((rising - 0.2).abs() < 1e-9 && (mean - 3.0).abs() < 1e-9);
        assert!(slope(&[(0.0, 2.0), (10.0, 2.0), (20.0, 2.0)]).0.abs() < 1e-9);
    }
}
