//! What a machine says of itself after a boot: whose agent it has, how long it took, what failed, what memory is used.

use std::time::{Duration, Instant};

use lab::error::chain;
use lab::{Result, Vm};

use crate::report::{Report, check};
use crate::site::{BOOT_TIME, Kind, Site};

/// How long the shell may take for a command.
pub(crate) const COMMAND_TIME: Duration = Duration::from_mins(1);
/// How long it may take to be there once the agent answers.
const SHELL_TIME: Duration = Duration::from_mins(2);
/// The units that failed, one a line.
pub(crate) const FAILED_UNITS: &str = "systemctl list-units --failed --no-legend --plain | cut -d' ' -f1";
/// The files that systemd-networkd has found for the NICs it looks after, one a line.
const NETWORK_FILES: &str = "sed -n 's/^NETWORK_FILE=//p' /run/systemd/netif/links/* | sort -u";

/// Waits until the agent of a machine that was just powered on answers, and takes the boot's figures.
pub(crate) fn booted(report: &mut Report, site: &Site, vm: &mut Vm, kind: &Kind, on: Instant) -> Result<()> {
    site.wait_api(report, vm)?;
    let name = format!("{} ({}, {:?})", vm.name(), kind.machine.name(), kind.birth.medium);
    report.took(&format!("{name}: power on to API ready"), on);
    agent_of(report, site, vm)?;
    settled(report, vm, &name)?;
    // The image's own eth0 asks DHCP too, so an address alone does not tell that the drive's file is in use.
    let files = vm.shell().run(NETWORK_FILES, COMMAND_TIME)?;
    let nic = lab::vm::management_mac(kind.birth.index).replace(':', "-");
    let mut files = files.lines().filter(|file| !file.ends_with("/99-amphora-unmanaged.network"));
    let file = files.next().unwrap_or("none");
    report.figure(&format!("{name}: the file of eth0"), file);
    // Ours, or that of an image with cloud-init.
    let from_drive = ["10-config-drive-", "10-cloud-init-eth0."].map(|of| format!("/etc/systemd/network/{of}"));
    check(
        from_drive.iter().any(|of| file.starts_with(of)) && files.next().is_none(),
        &format!("eth0 ({nic}) alone is networkd's, by the config drive's file"),
        file,
    )
}

/// Says which commit the image's agent is of: an image is not built anew because the agent's source has changed.
fn agent_of(report: &mut Report, site: &Site, vm: &Vm) -> Result<()> {
    let metrics = vm.api(&site.fabric)?.get("/1.0/metrics")?.text();
    let build = metrics.lines().find(|line| line.starts_with("amphora_build_info{")).unwrap_or("unknown");
    let of = build.split("commit=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or("unknown").to_owned();
    let here = lab::command(["git", "rev-parse", "--short=12", "HEAD"]).output();
    let here = here.map(|said| String::from_utf8_lossy(&said.stdout).trim().to_owned()).unwrap_or_default();
    report.figure(&format!("{}: the image's agent is of commit", vm.name()), &of);
    if of != here {
        report.say(&format!("NOTE: this tree is at {here}: `make image` builds an image with its agent"));
    }
    Ok(())
}

/// Waits for the shell inside.
pub(crate) fn wait_shell(report: &Report, vm: &mut Vm) -> Result<()> {
    let what = format!(
        "the shell in {}: systemd takes its unit from the firmware from version 256 on, so not in a Debian 12 image",
        vm.name()
    );
    report.wait(&what, SHELL_TIME, || match vm.shell().is_there() {
        Ok(true) => Ok(()),
        Ok(false) => Err("no answer on the second serial port".to_owned()),
        Err(error) => Err(chain(&error)),
    })
}

/// Waits until systemd says that the boot is over, and takes its figures. A unit that failed is a fault, and no reason not
/// to look at the rest.
pub(crate) fn settled(report: &mut Report, vm: &mut Vm, name: &str) -> Result<()> {
    wait_shell(report, vm)?;
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
    let failed = vm.shell().run(FAILED_UNITS, COMMAND_TIME)?;
    report.figure(&format!("{name}: failed units"), if failed.is_empty() { "none" } else { &failed });
    let memory = "awk '/^MemTotal/ { all = $2 } /^MemAvailable/ { print int((all - $2) / 1024) \" of \" int(all / 1024) \" \
                  MiB\" }' /proc/meminfo";
    report.figure(&format!("{name}: memory used"), vm.shell().run(memory, COMMAND_TIME)?);
    for program in ["amphora-agent", "gobgpd"] {
        // A process that was there may be gone: the agent asks gobgpd for its version.
        let resident = format!(
            "for i in $({}); do sed -n 's/^VmRSS:[ \t]*//p' /proc/$i/status 2>/dev/null; done; true",
            pids(program)
        );
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
