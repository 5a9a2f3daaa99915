//! The agent is stopped for good: after 30 s nobody can judge the load balancer's health, so gobgpd is stopped.

use std::time::Duration;

use lab::Result;

use crate::evidence::{COMMAND_TIME, pids};
use crate::report::{Report, check};
use crate::serve::Single;
use crate::site::now;

/// As documented: 30 s, and stopping takes a moment.
const DEADMAN: (f32, f32) = (30.0, 35.0);
/// An absence that is none: an upgrade, say.
const SHORT: Duration = Duration::from_secs(15);

pub(crate) fn run(report: &mut Report, single: &mut Single) -> Result<()> {
    back_earlier(report, single)?;
    for_good(report, single)
}

fn back_earlier(report: &mut Report, single: &mut Single) -> Result<()> {
    let watch = single.site.tor().watch_routes()?;
    let before = single.vm.shell().run(&pids("gobgpd"), COMMAND_TIME)?;
    single.vm.shell().run("systemctl stop amphora-agent", COMMAND_TIME)?;
    std::thread::sleep(SHORT);
    single.vm.shell().run("systemctl start amphora-agent", COMMAND_TIME)?;
    single.site.wait_api(report, &single.vm)?;
    // Past the moment at which it would have been too late.
    std::thread::sleep(Duration::from_secs(30));
    let after = single.vm.shell().run(&pids("gobgpd"), COMMAND_TIME)?;
    check(before == after, "the same gobgpd", format!("{before}, then {after}"))?;
    let vip = single.vip.v4.to_string();
    let changes: Vec<_> = watch.so_far().into_iter().filter(|event| event.line.contains(&vip)).collect();
    check(changes.is_empty(), "no change of the ToR's routes", format!("{changes:?}"))?;
    report.figure("agent gone for 15 s", "the same gobgpd, no change in the ToR");
    Ok(())
}

fn for_good(report: &mut Report, single: &mut Single) -> Result<()> {
    // The emulated machine's own clock says when: seconds since its boot.
    let stop = "systemctl stop amphora-agent; cut -d' ' -f1 /proc/uptime";
    let stopped: f32 = seconds(&single.vm.shell().run(stop, COMMAND_TIME)?);
    let start = now();
    let listed = pids("gobgpd");
    let watched = format!("while [ -n \"$({listed})\" ]; do sleep 0.2; done; cut -d' ' -f1 /proc/uptime");
    let ended: f32 = seconds(&single.vm.shell().run(&watched, Duration::from_mins(2))?);
    let took = ended - stopped;
    report.figure("agent gone for good: gobgpd stopped after", format!("{took:.1} s"));
    single.wait_withdrawn(report, Duration::from_mins(1))?;
    report.took("agent gone for good: routes gone after", start);
    check((DEADMAN.0 - 1.0..DEADMAN.1 + 1.0).contains(&took), "gobgpd stopped after 30 to 35 s", took)?;
    back(report, single)
}

fn back(report: &mut Report, single: &mut Single) -> Result<()> {
    let start = now();
    single.vm.shell().run("systemctl start amphora-agent", COMMAND_TIME)?;
    single.wait_announced(report)?;
    report.took("agent back: announced again", start);
    Ok(())
}

fn seconds(text: &str) -> f32 {
    text.lines().last().unwrap_or_default().trim().parse().unwrap_or_default()
}
