//! What a machine says of itself after a boot: how long it took, what failed, what memory is used.

use std::time::{Duration, Instant};

use lab::error::chain;
use lab::{Result, Vm};

use crate::report::Report;
use crate::site::{BOOT_TIME, Kind, Site};

/// How long the shell may take for a command.
pub(crate) const COMMAND_TIME: Duration = Duration::from_mins(1);

/// Waits until the agent of a machine that was just powered on answers, and takes the boot's figures.
pub(crate) fn booted(report: &mut Report, site: &Site, vm: &mut Vm, kind: &Kind, on: Instant) -> Result<()> {
    site.wait_api(report, vm)?;
    let name = format!("{} ({}, {:?})", vm.name(), kind.machine.name(), kind.medium);
    report.took(&format!("{name}: power on to API ready"), on);
    settled(report, vm, &name)
}

/// Waits until systemd says that the boot is over, and takes its figures. A unit that failed is a fault, and no reason not
/// to look at the rest.
pub(crate) fn settled(report: &mut Report, vm: &mut Vm, name: &str) -> Result<()> {
    vm.shell().wait(BOOT_TIME)?;
    report.wait(&format!("the end of {name}'s boot"), BOOT_TIME, || {
        // It ends with another status than 0 unless all is well.
        match vm.shell().run("systemctl is-system-running || true", COMMAND_TIME) {
            Ok(state) if state == "running" || state == "degraded" => Ok(()),
            Ok(state) => Err(state),
            Err(error) => Err(chain(&error)),
        }
    })?;
    let split = vm.shell().run("systemd-analyze time | head -n 1", COMMAND_TIME)?;
    report.figure(&format!("{name}: boot"), split.trim_start_matches("Startup finished in "));
    let failed = vm.shell().run("systemctl list-units --failed --no-legend --plain | cut -d' ' -f1", COMMAND_TIME)?;
    report.figure(&format!("{name}: failed units"), if failed.is_empty() { "none" } else { &failed });
    let memory = "awk '/^MemTotal/ { all = $2 } /^MemAvailable/ { print int((all - $2) / 1024) \" of \" int(all / 1024) \" \
                  MiB\" }' /proc/meminfo";
    report.figure(&format!("{name}: memory used"), vm.shell().run(memory, COMMAND_TIME)?);
    for program in ["amphora-agent", "gobgpd"] {
        let resident = format!("for i in $({}); do sed -n 's/^VmRSS:[ \t]*//p' /proc/$i/status; done", pids(program));
        report.figure(&format!("{name}: {program}, resident"), vm.shell().run(&resident, COMMAND_TIME)?);
    }
    if !failed.is_empty() {
        let units = failed.lines().collect::<Vec<_>>().join(" ");
        let said = vm.shell().run(&format!("systemctl status --no-pager -n 20 {units} || true"), COMMAND_TIME)?;
        report.say(&said);
        report.fault(&format!("{name}: failed units: {units}"));
    }
    Ok(())
}

/// The command that lists the processes of a program.
pub(crate) fn pids(program: &str) -> String {
    // The kernel keeps 15 characters of a name (TASK_COMM_LEN).
    format!("grep -lx '{program:.15}' /proc/[0-9]*/comm 2>/dev/null | cut -d/ -f3")
}
