//! The agent is stopped for good: after 30 s nobody can judge the load balancer's health, so gobgpd is stopped.

use std::time::{Duration, Instant};

use lab::Result;

use crate::evidence::{COMMAND_TIME, pids};
use crate::report::{Report, check};
use crate::serve::Single;
use crate::site::FAMILIES;

/// As documented: 30 s, and stopping takes a moment.
const DEADMAN: (f32, f32) = (30.0, 35.0);
/// An absence that is none: an upgrade, say.
const SHORT: Duration = Duration::from_secs(15);
const MAIN_PID: &str = "systemctl show -P MainPID gobgpd";
/// How long after gobgpd's end the ToR may have its routes: it hears of it by a closed connection.
const CLOSED: Duration = Duration::from_secs(5);

pub(crate) fn run(report: &mut Report, single: &mut Single) -> Result<()> {
    back_earlier(report, single)?;
    for_good(report, single)
}

fn back_earlier(report: &mut Report, single: &mut Single) -> Result<()> {
    let watch = single.site.tor().watch_routes()?;
    let before = single.vm.shell().run(MAIN_PID, COMMAND_TIME)?;
    check(before != "0", "a gobgpd", &before)?;
    single.vm.shell().run("systemctl stop amphora-agent", COMMAND_TIME)?;
    std::thread::sleep(SHORT);
    single.vm.shell().run("systemctl start amphora-agent", COMMAND_TIME)?;
    single.site.wait_api(report, &single.vm)?;
    // Past the moment at which it would have been too late.
    std::thread::sleep(Duration::from_secs(30));
    let after = single.vm.shell().run(MAIN_PID, COMMAND_TIME)?;
    check(before == after, "the same gobgpd", format!("{before}, then {after}"))?;
    let vips = FAMILIES.map(|family| single.vip.of(family).to_string());
    watch.still_follows()?;
    let changes = watch.so_far().into_iter().map(|event| event.line);
    let changes: Vec<_> = changes.filter(|line| vips.iter().any(|vip| line.contains(vip))).collect();
    check(changes.is_empty(), "no change of the ToR's routes", format!("{changes:?}"))?;
    report.figure("agent gone for 15 s", "the same gobgpd, no change in the ToR");
    Ok(())
}

fn for_good(report: &mut Report, single: &mut Single) -> Result<()> {
    // The emulated machine's own clock says when, seconds since its boot: before and after the agent's end.
    let clock = "cut -d' ' -f1 /proc/uptime";
    let stop = single.vm.shell().run(&format!("{clock}; systemctl stop amphora-agent; {clock}"), COMMAND_TIME)?;
    let start = Instant::now();
    let listed = pids("gobgpd");
    let watched = format!("while [ -n \"$({listed})\" ]; do sleep 0.2; done; {clock}");
    let ended = single.vm.shell().run(&watched, Duration::from_mins(2))?;
    let over = Instant::now();
    single.wait_withdrawn(report, CLOSED)?;
    report.took("agent gone for good: routes gone after", start);
    report.took("gobgpd's end seen: routes gone after another", over);
    let (before, after, ended) = match (stop.split_once('\n'), seconds(&ended)) {
        (Some((before, after)), ended) => (seconds(before), seconds(after), ended),
        (None, _) => return Err(crate::report::wrong("two times", stop)),
    };
    // Since the agent's end, which was between the two.
    let took = (ended - after, ended - before);
    report.figure("agent gone for good: gobgpd stopped after", format!("{:.1} to {:.1} s", took.0, took.1));
    check(DEADMAN.0 <= took.1 && took.0 <= DEADMAN.1, "gobgpd stopped after 30 to 35 s", format!("{took:?}"))?;
    back(report, single)
}

fn back(report: &mut Report, single: &mut Single) -> Result<()> {
    let start = Instant::now();
    single.vm.shell().run("systemctl start amphora-agent", COMMAND_TIME)?;
    single.wait_announced(report)?;
    report.took("agent back: announced again", start);
    Ok(())
}

/// Not a number where there is none, which is between no bounds.
fn seconds(text: &str) -> f32 {
    text.lines().last().unwrap_or_default().trim().parse().unwrap_or(f32::NAN)
}
