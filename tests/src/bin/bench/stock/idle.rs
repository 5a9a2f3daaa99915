//! A minute of nothing but heartbeats in both amphorae at once.

use std::{thread, time::Duration};

use lab::{Amphora, Place, command};

use super::{Stock, memory, processes};
use crate::{Result, floors::insist, heartbeats::cpu, report::Report};

/// What the agents use and weigh with one load balancer and heartbeats every 3 s. Ours alone is measured by
/// [`crate::heartbeats`].
pub(crate) fn beside_the_peer(stock: &Stock, report: &mut Report) -> Result<()> {
    let Some(peer) = stock.peer() else { return Ok(()) };
    let inside: Place = peer.haproxy_netns()?;
    let program = lab::octavia::environment()?.join("bin/prometheus-proxy");
    // The image's unit starts it; ours has been started by the agent.
    let proxy = inside.spawn("prometheus-proxy", &mut command([program]))?;
    let scrape = "curl -sf http://127.0.0.1:9102/metrics >/dev/null";
    for amphora in [stock.ours(), peer] {
        insist("the proxy's metrics", || Ok(amphora.haproxy_netns()?.run(["sh", "-c", scrape])?))?;
    }
    thread::sleep(Duration::from_secs(5)); // what both do after a call is not idleness
    let before = [used(stock.ours())?, used(peer)?];
    thread::sleep(Duration::from_mins(1));
    let after = [used(stock.ours())?, used(peer)?];
    let took = |n: usize| after[n].saturating_sub(before[n]).as_secs_f64() * 1e3;
    let how = "one load balancer; all threads' time on a processor by schedstat, of agent, watcher and \
               prometheus-proxy; both in the same minute";
    let figure = "CPU of an idle minute with heartbeats every 3 s";
    report.amount(figure, ("<= 20 ms", Some(20.0)), (took(0), Some(took(1))), "ms", how);
    let [ours, theirs] = [stock.ours(), peer].map(|amphora| memory(amphora, "smaps_rollup", "Pss:"));
    let how = "with heartbeats and one load balancer, after some thousand calls (smaps_rollup)";
    report.amount("PSS of agent and prometheus-proxy", ("<= 15 MiB", Some(15.0)), (ours?, Some(theirs?)), "MiB", how);
    proxy.kill_and_wait()?;
    Ok(())
}

fn used(amphora: &Amphora) -> Result<Duration> {
    processes(amphora)?.into_iter().map(cpu).sum()
}
