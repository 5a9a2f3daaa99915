//! `docs/bench.md`, which a whole run writes: one section with the agent's floors, which is always measured, and one with
//! Octavia's Python agent, which is measured with `PEER=1` and otherwise kept as it was.

use std::{fmt::Write as _, fs, io, path::Path, time::Duration};

use crate::report::Reports;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/bench.md");
const PEER: &str = "## Beside Octavia's Python agent\n";
const INTRODUCTION: &str = "# Speed

`make bench` writes this page: a release build, then `target/release/bench`. With `PEER=1` it measures the last section \
too, and otherwise leaves that as it was. `target/release/bench plug scale` shows parts and writes nothing.

Every time is shown as median (first to third quartile, number of samples) where nothing else is said. What a figure is \
compared to is measured in the same run, mostly in turn with it; the ratio is of the same statistic of both. All of it \
runs in the lab's namespaces on one machine: clients, agents, speaker and ToR share its processors. The agents' state is \
on the machine's disk where nothing else is said.
";

/// Writes the page. `setting` is what the figures were measured on and with.
pub(crate) fn write(reports: &Reports, setting: &str, took: Duration) -> io::Result<&'static Path> {
    let path = Path::new(PAGE);
    let before = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        before => before?,
    };
    fs::write(path, render(reports, setting, took, &before))?;
    Ok(path)
}

fn render(reports: &Reports, setting: &str, took: Duration, before: &str) -> String {
    let mut page = format!("{INTRODUCTION}\n## Beside its floors\n\n{setting}");
    let seconds = took.as_secs();
    let _ = write!(page, " The run took {seconds} s.\n\n{}", reports.floors.table("floor"));
    if !reports.peer.is_empty() {
        let table = reports.peer.table("Python agent");
        let _ = write!(
            page,
            "\n{PEER}\n{setting} Octavia 19.0.0, each agent in an amphora of its own. A script runs the commands of the \
             units that the Python agent writes, in systemd's place.\n\n{table}"
        );
    } else if let Some(at) = before.find(PEER) {
        let _ = write!(page, "\n{}", &before[at..]);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(reports: &mut crate::report::Report, figure: &str, value: f64) {
        reports.amount(figure, ("<= 2 MiB", Some(2.0)), (value, Some(1.0)), "MiB", "so");
    }

    #[test]
    fn a_run_without_the_peer_keeps_what_was_measured_beside_it() {
        let mut both = Reports::default();
        measured(&mut both.floors, "alone", 1.0);
        measured(&mut both.peer, "beside", 3.0);
        let first = render(&both, "then.", Duration::from_secs(9), "# Something else\n");
        assert!(first.contains("| beside | <= 2 MiB | 3.00 MiB | 1.00 MiB | 3.00 | **NO** | so |"), "{first}");
        assert!(first.contains("1 target is missed") && !first.contains("Something else"), "{first}");

        let mut alone = Reports::default();
        measured(&mut alone.floors, "alone", 2.0);
        let second = render(&alone, "now.", Duration::from_secs(9), &first);
        assert!(second.contains("| alone | <= 2 MiB | 2.00 MiB |") && !second.contains("| alone | <= 2 MiB | 1.00"));
        assert_eq!(first[first.find(PEER).unwrap()..], second[second.find(PEER).unwrap()..]);
        assert_eq!(render(&alone, "now.", Duration::from_secs(9), &second), second);
    }
}
