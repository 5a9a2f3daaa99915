//! Descriptors and memory of agents and speakers, and whether they grow.

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
    descriptors: f64,
}

/// What was seen of the processes of all amphorae.
#[derive(Debug, Default)]
pub(crate) struct Resources {
    /// Of the amphora whose agent and speaker are never killed, so that these are the same two processes all the time.
    spared: [Vec<Sample>; 2],
    /// The most of any process: MiB, descriptors.
    most: [(f64, f64); 2],
}

impl Resources {
    /// Looks at all of them.
    pub(crate) fn look(&mut self, world: &World, start: Instant) -> Result<()> {
        for index in 0..AMPHORAE {
            for (which, program) in PROGRAMS.iter().enumerate() {
                // Killed ones may be gone between two looks.
                let Some((pss, descriptors)) = of(world.amphora(index), program)? else { continue };
                let most = &mut self.most[which];
                *most = (most.0.max(pss), most.1.max(descriptors));
                if index == SPARED {
                    self.spared[which].push(Sample { at: start.elapsed().as_secs_f64(), pss, descriptors });
                }
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
        for ((program, samples), most) in PROGRAMS.iter().zip(&self.spared).zip(&self.most) {
            let half = &samples[samples.len() / 2..];
            if half.len() < 3 {
                println!("{program}: {} samples: too few to tell whether it grows", samples.len());
                continue;
            }
            let lasts = half[half.len() - 1].at - half[0].at;
            let name = world.amphora(SPARED).name();
            for (what, unit, value, most, spare) in [
                ("PSS", "MiB", (|s| s.pss) as fn(&Sample) -> f64, most.0, MEMORY),
                ("descriptors", "", |s| s.descriptors, most.1, (DESCRIPTORS, 0.0)),
            ] {
                let points: Vec<_> = half.iter().map(|sample| (sample.at, value(sample))).collect();
                let (slope, mean) = slope(&points);
                let growth = slope * lasts;
                let limit = spare.0.max(spare.1 * mean);
                println!(
                    "{name}'s {program}, {what}: mean {mean:.2} {unit}, slope {:+.3} {unit}/h over the last {} (growth \
                     {growth:+.2}, judged against {limit:.2}); the most of any amphora's: {most:.2}",
                    slope * 3600.0,
                    minutes(Duration::from_secs_f64(lasts))
                );
                if lasts >= LONG_ENOUGH.as_secs_f64() && growth > limit {
                    world.violation(&format!("{name}'s {program} grows: {what} {growth:+.2} {unit}"));
                }
            }
        }
    }
}

/// MiB and descriptors of a program's process: the agent itself, not what else the binary is.
fn of(amphora: &Amphora, program: &str) -> Result<Option<(f64, f64)>> {
    for pid in amphora.pids(program)? {
        let look = || {
            let proc = std::path::PathBuf::from(format!("/proc/{pid}"));
            let words = std::fs::read_to_string(proc.join("cmdline")).ok()?;
            if ["deadman", "prometheus-proxy", "run-service"].iter().any(|other| words.contains(other)) {
                return None;
            }
            let rollup = std::fs::read_to_string(proc.join("smaps_rollup")).ok()?;
            let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
            let kib: u32 = line.trim().trim_end_matches(" kB").parse().ok()?;
            let descriptors = u32::try_from(std::fs::read_dir(proc.join("fd")).ok()?.count()).ok()?;
            Some((f64::from(kib) / 1024.0, f64::from(descriptors)))
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
