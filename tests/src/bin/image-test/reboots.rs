//! What becomes of a load balancer when its machine goes down, in each of the ways it can.

use std::time::Duration;

use lab::{Result, error::chain};
use serde_json::json;

use crate::evidence::{COMMAND_TIME, settled};
use crate::report::{Report, check};
use crate::serve::Single;
use crate::site::{BOOT_TIME, HOLD_TIME, PATIENCE, now};

/// How long the ToR keeps the routes of a machine that went without a word: the hold time, then the graceful restart time.
const SILENT: Duration = Duration::from_secs(HOLD_TIME + 30 + 30);

/// A hard reboot of a load balancer with a TLS listener: its keys were in memory only, so it is not announced, and says so,
/// until the controller has brought them again.
pub(crate) fn with_keys_gone(report: &mut Report, single: &mut Single) -> Result<()> {
    let on = now();
    single.vm.reset()?;
    single.wait_withdrawn(report, SILENT)?;
    report.took("reset, TLS keys gone: withdrawn in the ToR", on);
    single.site.wait_api(report, &single.vm)?;
    report.took("reset to API ready", on);
    let name = single.vm.name().to_owned();
    single.vm.shell().wait(BOOT_TIME)?;
    let failed = "systemctl list-units --failed --no-legend --plain | cut -d' ' -f1";
    let failed = single.vm.shell().run(failed, COMMAND_TIME)?;
    // haproxy cannot start without its certificates: that is as designed.
    report.figure(&format!("{name}, after the reset: failed units"), &failed);
    single.site.wait_session(report, &single.vm)?;
    let mut api = single.vm.api(&single.site.fabric)?;
    let missing = report.wait("the details to name what is missing", PATIENCE, || {
        let details = api.get("/1.0/details").map_err(|error| chain(&error))?.json();
        let missing = details["missing_files"].clone();
        if missing.as_array().is_some_and(|all| !all.is_empty()) { Ok(missing) } else { Err(details.to_string()) }
    })?;
    report.figure("details: missing_files", missing);
    let why = api.get(&format!("/1.0/distributor/why/{}", single.vip.v4))?.json();
    report.figure("why it is not announced then", &why["reason"]);
    check(why["announced"] == false, "a load balancer without its keys is not announced", why)?;
    let call = now();
    single.does("update", json!({}))?;
    single.wait_announced(report)?;
    report.took("the controller's update brings the keys: announced again", call);
    single.wait_served(report)?;
    single.wait_served_by_udp(report)
}

/// A soft reboot of one without TLS: withdrawn before it goes, and back without a call.
pub(crate) fn by_its_system(report: &mut Report, single: &mut Single) -> Result<()> {
    let off = now();
    // The machine is told to reboot as Nova's soft reboot does, by the system itself.
    single.vm.shell().run("systemctl --no-block reboot", PATIENCE)?;
    single.wait_withdrawn(report, PATIENCE)?;
    report.took("rebooted: withdrawn in the ToR", off);
    report.wait("the agent's end", PATIENCE, || {
        let mut api = single.vm.api(&single.site.fabric).map_err(|error| chain(&error))?;
        if api.get("/").is_err() { Ok(()) } else { Err("it answers".to_owned()) }
    })?;
    single.site.wait_api(report, &single.vm)?;
    report.took("rebooted: API ready", off);
    single.wait_announced(report)?;
    report.took("rebooted: announced again, without a call", off);
    single.wait_served(report)?;
    let name = single.vm.name().to_owned();
    settled(report, &mut single.vm, &format!("{name}, after the reboot"))?;
    let mut api = single.vm.api(&single.site.fabric)?;
    let listed = api.get("/1.0/listeners")?.json();
    report.figure("rebooted: listeners", listed);
    Ok(())
}

/// The host dies: no word to anybody.
pub(crate) fn power_cut(report: &mut Report, single: &mut Single) -> Result<()> {
    single.wait_announced(report)?;
    let off = now();
    single.vm.cut_power()?;
    single.wait_withdrawn(report, SILENT)?;
    report.took("powered off: withdrawn in the ToR", off);
    Ok(())
}
