//! What becomes of a load balancer when its machine goes down, in each of the ways it can.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use lab::{Load, Result, error::chain};
use serde_json::json;

use crate::evidence::{COMMAND_TIME, FAILED_UNITS, settled, wait_shell};
use crate::report::{Report, check};
use crate::serve::Single;
use crate::site::{FAMILIES, HOLD_TIME, LB, PATIENCE, PROMPT};

/// How long the ToR keeps the routes of a machine that went without a word: the hold time since it last spoke.
pub(crate) const SILENT: Duration = Duration::from_secs(HOLD_TIME + 10);
/// How long a VIP that must not be announced is watched.
const WATCHED: Duration = Duration::from_secs(15);
/// How often a client asks while the machine goes down, and how long it may take.
const PAUSE: Duration = Duration::from_millis(20);
const CLIENT: Duration = Duration::from_secs(3);

/// A hard reboot of a load balancer with a TLS listener: its keys were in memory only, so it is not announced, and says so,
/// until the controller has brought them again.
pub(crate) fn with_keys_gone(report: &mut Report, single: &mut Single) -> Result<()> {
    let on = Instant::now();
    single.vm.reset()?;
    single.wait_withdrawn(report, SILENT)?;
    report.took_at_most("reset, TLS keys gone: withdrawn in the ToR", on, SILENT)?;
    let routes = single.site.tor().watch_routes()?;
    single.site.wait_api(report, &single.vm)?;
    report.took("reset to API ready", on);
    wait_shell(report, &mut single.vm)?;
    single.site.wait_session(report, &single.vm)?;
    let mut api = single.vm.api(&single.site.fabric)?;
    let missing = report.wait("the details to name what is missing", PATIENCE, || {
        let details = api.get("/1.0/details").map_err(|error| chain(&error))?.json();
        let missing: Vec<_> = details["missing_files"].as_array().into_iter().flatten().collect();
        let missing: Vec<_> = missing.into_iter().filter_map(|file| file.as_str().map(ToOwned::to_owned)).collect();
        if missing.is_empty() { Err(details.to_string()) } else { Ok(missing) }
    })?;
    report.figure("details: missing_files", missing.join(" "));
    let unannounced = Instant::now();
    while unannounced.elapsed() < WATCHED {
        for family in FAMILIES {
            let why = api.get(&format!("/1.0/distributor/why/{}", single.vip.of(family)))?.json();
            let reason = why["reason"].as_str().unwrap_or_default();
            let named = missing.iter().any(|file| reason.contains(file.as_str()));
            check(why["announced"] == false && named, "not announced, and why names a file", &why)?;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    let why = api.get(&format!("/1.0/distributor/why/{}", single.vip.v4))?.json();
    report.figure("why it is not announced then", &why["reason"]);
    routes.still_follows()?;
    let vips = FAMILIES.map(|family| single.vip.of(family).to_string());
    let told = routes.so_far().into_iter().map(|event| event.line);
    let told: Vec<_> = told.filter(|line| vips.iter().any(|vip| line.contains(vip))).collect();
    check(told.is_empty(), "no route to a load balancer without its keys", format!("{told:?}"))?;
    // haproxy cannot start without its certificates: that is as designed. systemd tries again and again, so that it is
    // hardly ever seen as failed, and never as active.
    let failed = single.vm.shell().run(FAILED_UNITS, COMMAND_TIME)?;
    let haproxy = format!("haproxy-{LB}.service");
    let state = single.vm.shell().run(&format!("systemctl show -P ActiveState {haproxy}"), COMMAND_TIME)?;
    report.figure("after the reset: failed units; haproxy is", format!("{failed:?}; {state}"));
    check(failed.is_empty() || failed == haproxy, "no other failed unit", failed)?;
    check(["activating", "failed"].contains(&state.as_str()), "a haproxy that does not come up", state)?;

    let call = Instant::now();
    single.does(report, "update", json!({}))?;
    single.wait_announced(report)?;
    report.took("the controller's update brings the keys: announced again", call);
    single.wait_served_by_all(report)?;
    single.wait_served_by_udp(report)
}

/// A soft reboot of one without TLS: withdrawn before its haproxy goes, and back without a call, UDP too.
pub(crate) fn by_its_system(report: &mut Report, single: &mut Single) -> Result<()> {
    let vip = single.vip;
    let routes = single.site.tor().watch_routes()?;
    let to = SocketAddr::new(vip.v4.into(), 80);
    let load = Load::start(&single.site.fabric.client, vec![to], 4, PAUSE, CLIENT)?;
    std::thread::sleep(Duration::from_secs(2));
    let steady = load.take();
    check(steady.failures.is_empty() && steady.requests() > 10, "clients that are served", format!("{steady:?}"))?;
    let off = Instant::now();
    // The machine is told to reboot as Nova's soft reboot does, by the system itself.
    single.vm.shell().run("systemctl --no-block reboot", COMMAND_TIME)?;
    let gone = |line: &str| line.starts_with("Deleted") && line.contains(&vip.v4.to_string());
    let withdrawn = routes.wait("the ToR's route is deleted", PROMPT, gone)?.at;
    single.wait_withdrawn(report, PROMPT)?;
    report.took_at_most("rebooted: withdrawn in the ToR", off, PROMPT)?;
    std::thread::sleep(CLIENT + Duration::from_secs(1));
    let outcome = load.take();
    drop(load);
    let first = outcome.failures.iter().map(|failure| failure.ended).min();
    let after = first.map_or_else(
        || "none".to_owned(),
        |first| match first.checked_duration_since(withdrawn) {
            Some(after) => format!("{:.0} ms after", after.as_secs_f64() * 1e3),
            None => format!("{:.0} ms BEFORE", withdrawn.duration_since(first).as_secs_f64() * 1e3),
        },
    );
    report.figure(
        "rebooted: requests; the first failure, seen from the withdrawal",
        format!("{}; {after}", outcome.requests()),
    );
    let early: Vec<_> = outcome.failures.iter().filter(|failure| failure.ended < withdrawn).collect();
    check(early.is_empty(), "no client fails before the VIP is withdrawn", format!("{early:?}"))?;

    report.wait("the agent's end", PATIENCE, || {
        let mut api = single.vm.api(&single.site.fabric).map_err(|error| chain(&error))?;
        if api.get("/").is_err() { Ok(()) } else { Err("it answers".to_owned()) }
    })?;
    single.site.wait_api(report, &single.vm)?;
    report.took("rebooted: API ready", off);
    single.wait_announced(report)?;
    report.took("rebooted: announced again, without a call", off);
    single.wait_served_by_all(report)?;
    single.wait_served_by_udp(report)?;
    report.took("rebooted: HTTP, TCP and UDP served again, without a call", off);
    let name = single.vm.name().to_owned();
    settled(report, &mut single.vm, &format!("{name}, after the reboot"))?;
    let mut api = single.vm.api(&single.site.fabric)?;
    let listed = api.get("/1.0/listeners")?.json();
    let active = listed.as_array().is_some_and(|all| all.len() == 3 && all.iter().all(|one| one["status"] == "ACTIVE"));
    report.figure("rebooted: listeners", &listed);
    check(active, "three listeners that are active", listed)
}

/// The host dies: no word to anybody.
pub(crate) fn power_cut(report: &mut Report, single: &mut Single) -> Result<()> {
    single.wait_announced(report)?;
    let off = Instant::now();
    single.vm.cut_power()?;
    single.wait_withdrawn(report, SILENT)?;
    report.took_at_most("powered off: withdrawn in the ToR", off, SILENT)
}
