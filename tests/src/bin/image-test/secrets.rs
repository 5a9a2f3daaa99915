//! Secrets: in no log of the machine, with the right modes where they are, and gone from the disk with the power. Each
//! search has something to find, so that one that does not look finds too little.

use std::collections::BTreeSet;
use std::time::Duration;

use lab::heartbeats::KEY;
use lab::{Error, Result, command};

use crate::evidence::COMMAND_TIME;
use crate::report::{Report, check, wrong};
use crate::serve::Single;
use crate::site::MD5;

/// In memory, and through the shell alone: nothing of it is logged. Its first line is what is to be found.
const SECRETS: &str = "/run/secrets-of-the-lab";

/// Says the first line of [`SECRETS`] to the journal, to a file and in a process's arguments, and looks for all of them.
const SEARCH: &str = "canary=$(head -n 1 /run/secrets-of-the-lab); \
    printf '%s\\n' \"$canary\" | systemd-cat -t lab; printf '%s\\n' \"$canary\" >/var/log/lab-canary; \
    sh -c 'sleep 60; :' lab \"$canary\" </dev/null >/dev/null 2>&1 & \
    for i in $(seq 100); do grep -qsF \"$canary\" /var/log/syslog && break; sleep 0.1; done; \
    journalctl --sync; journalctl -q --no-pager -o export | grep -aF -f /run/secrets-of-the-lab | sort -u; \
    grep -raoF -f /run/secrets-of-the-lab /var/log | sort -u; \
    cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -aF -f /run/secrets-of-the-lab | sort -u; \
    kill $!; rm /var/log/lab-canary /run/secrets-of-the-lab";

/// Every file of the agent's, with names that differ from machine to machine made the same.
const FILES: &str = "find /etc/octavia /var/lib/octavia /run/amphora-agent /run/gobgpd -printf '%m %u:%g %y %p\\n' | \
    sed -E 's/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/ID/g; s/[0-9a-f]{40}/HASH/' | sort -u -k 4";

/// What [`FILES`] says while every kind of listener is there. haproxy's socket takes commands of level `user` only, and
/// anybody may open it, as with Octavia's own agent.
const MODES: &[&str] = &[
    "755 root:root d /etc/octavia",
    "600 root:root f /etc/octavia/amphora-agent.conf",
    "755 root:root d /etc/octavia/amphora-agent.conf.d",
    "600 root:root f /etc/octavia/amphora-agent.conf.d/00-certs-ramfs.conf",
    "600 root:root f /etc/octavia/amphora-agent.conf.d/50-lab.conf",
    "700 root:root d /etc/octavia/certs",
    "600 root:root f /etc/octavia/certs/client_ca.pem",
    "600 root:root f /etc/octavia/certs/server.pem",
    "755 root:root d /etc/octavia/interfaces",
    "600 root:root f /etc/octavia/interfaces/eth1.json",
    "600 root:root f /etc/octavia/interfaces/eth2.json",
    "600 root:root f /etc/octavia/interfaces/lo.json",
    "755 root:root d /run/amphora-agent",
    "600 root:root f /run/amphora-agent/agent.lock",
    "600 root:root s /run/amphora-agent/api.sock",
    "600 root:root f /run/amphora-agent/before-silence",
    "644 root:root f /run/amphora-agent/speaker",
    "700 root:root d /run/gobgpd",
    "600 root:root s /run/gobgpd/gobgpd.sock",
    "755 root:root d /var/lib/octavia",
    "700 root:root d /var/lib/octavia/ID",
    "666 root:root s /var/lib/octavia/ID.sock",
    "644 root:root f /var/lib/octavia/ID/ID.pid",
    "600 root:root f /var/lib/octavia/ID/haproxy.cfg",
    "700 root:root d /var/lib/octavia/amphora-agent",
    "600 root:root f /var/lib/octavia/amphora-agent/config-drive",
    "600 root:root f /var/lib/octavia/amphora-agent/interfaces",
    "600 root:root f /var/lib/octavia/amphora-agent/state",
    "700 root:root d /var/lib/octavia/certs",
    "700 root:root d /var/lib/octavia/certs/ID",
    "600 root:root f /var/lib/octavia/certs/ID/HASH.pem",
    "600 root:root f /var/lib/octavia/certs/ID/ID.pem",
    "700 root:root d /var/lib/octavia/certs/lost+found",
    "644 root:root f /var/lib/octavia/haproxy-default-user-group.conf",
    "755 root:root d /var/lib/octavia/lvs",
    "755 root:root d /var/lib/octavia/lvs/check",
    "755 root:root f /var/lib/octavia/lvs/check/udp_check.sh",
    "644 root:root f /var/lib/octavia/lvs/octavia-keepalivedlvs-ID.check.pid",
    "600 root:root f /var/lib/octavia/lvs/octavia-keepalivedlvs-ID.conf",
    "644 root:root f /var/lib/octavia/lvs/octavia-keepalivedlvs-ID.pid",
    "755 root:root f /var/lib/octavia/ping-wrapper.sh",
    "600 root:root f /var/lib/octavia/plugged_interfaces",
    "640 root:root f /var/lib/octavia/stats_counters.json",
];

/// Lines that only a key has: those of the keys that the controller's listeners have.
fn key_lines(single: &Single) -> Result<Vec<String>> {
    let storage = "/run/controller/certificates";
    let text = single.site.fabric.controller.run([
        "sh",
        "-c",
        &format!("cat {storage}/*key* {storage}/*.pem 2>/dev/null; true"),
    ])?;
    let lines = lines_of_keys(&text);
    if lines.is_empty() {
        return Err(wrong("keys in the controller's certificate manager", text.len()));
    }
    Ok(lines)
}

/// The whole lines of private keys' bodies.
fn lines_of_keys(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut in_key = false;
    for line in text.lines() {
        match line {
            line if line.starts_with("-----BEGIN") => in_key = line.contains("PRIVATE KEY"),
            line if in_key && line.len() == 64 => lines.push(line.to_owned()),
            _ => {}
        }
    }
    lines
}

/// The lines of the agent's own key, which is on the disk.
fn server_key_lines(single: &mut Single) -> Result<Vec<String>> {
    let lines = lines_of_keys(&single.vm.shell().run("cat /etc/octavia/certs/server.pem", COMMAND_TIME)?);
    check(!lines.is_empty(), "a key in server.pem", lines.len())?;
    Ok(lines)
}

/// Searches the journal since the boot, `/var/log`, every process's arguments and the console. To be done before each
/// reboot, for the journal is in memory.
pub(crate) fn in_no_log(report: &mut Report, single: &mut Single, boot: &str) -> Result<()> {
    // What is below systemd's "notice" (5): tracing's "info" is that one.
    let debug = "journalctl -q --no-pager -o cat _SYSTEMD_UNIT=amphora-agent.service PRIORITY=6 PRIORITY=7 | wc -l";
    let debug = single.vm.shell().run(debug, COMMAND_TIME)?;
    check(debug.parse().is_ok_and(|lines: u32| lines > 0), "the agent logs at level debug", debug)?;
    let mut secrets = vec![MD5.to_owned(), KEY.to_owned()];
    secrets.extend(key_lines(single)?);
    secrets.extend(server_key_lines(single)?);
    let canary = format!("canary-of-{}", boot.replace(' ', "-"));
    let write = format!("umask 077; printf '%s\\n' {canary} '{}' >{SECRETS}", secrets.join("' '"));
    single.vm.shell().run(&write, COMMAND_TIME)?;
    let found = single.vm.shell().run(SEARCH, Duration::from_mins(3))?;
    // The journal; the file, and rsyslog's of what is said to the journal; the process.
    let wanted = format!("MESSAGE={canary}\n/var/log/lab-canary:{canary}\n/var/log/syslog:{canary}\n{canary}");
    check(found == wanted, &format!("what is found of {boot} is {wanted:?}"), &found)?;
    let console = std::fs::read(single.vm.serial())
        .map_err(|source| Error::Io { what: single.vm.serial().display().to_string(), source })?;
    let console = String::from_utf8_lossy(&console);
    check(console.contains("amphora-agent.service"), "the console says what is started", console.len())?;
    check(!secrets.iter().any(|secret| console.contains(secret.as_str())), "no secret on the console", "there is one")?;
    report.figure(
        &format!("secrets in the journal of {boot} (debug), /var/log, arguments, console"),
        format!("none of {}; the canary in each of the first three", secrets.len()),
    );
    Ok(())
}

/// The modes and owners of all files, while every kind of listener is there.
pub(crate) fn modes(report: &mut Report, single: &mut Single) -> Result<()> {
    let files = single.vm.shell().run(FILES, COMMAND_TIME)?;
    let (have, want): (BTreeSet<&str>, BTreeSet<&str>) = (files.lines().collect(), MODES.iter().copied().collect());
    report.figure("modes and owners", format!("{} files and folders, each as expected", want.len()));
    check(have == want, "the modes and owners of all files", format!("{:?}", have.symmetric_difference(&want)))
}

/// After the power is gone: what the machine wrote to its disk has the agent's own key, which is found, and nothing of the
/// listeners' keys.
pub(crate) fn not_on_the_disk(report: &mut Report, single: &Single, server: &[String]) -> Result<()> {
    let disk = single.site.fabric.workdir.path().join(format!("{}.qcow2", single.vm.name()));
    let lines = key_lines(single)?;
    let keys = disk.with_extension("keys");
    let unreadable = |source| Error::Io { what: disk.display().to_string(), source };
    std::fs::write(&keys, format!("{}\n{}\n", lines.join("\n"), server.join("\n"))).map_err(unreadable)?;
    // The overlay is not compressed: what was written to the disk is in it as it was.
    let said = command(["grep", "-aoF", "-f"]).arg(&keys).arg(&disk).output().map_err(unreadable)?;
    check(said.status.success(), "grep reads the disk and finds something", String::from_utf8_lossy(&said.stderr))?;
    let found = String::from_utf8_lossy(&said.stdout);
    let count = |of: &[String]| of.iter().filter(|line| found.lines().any(|have| have == line.as_str())).count();
    let size = std::fs::metadata(&disk).map_err(unreadable)?.len() >> 20;
    report.figure(
        "lines of keys on the disk",
        format!(
            "of the agent's own {} of {}, of the listeners' {} of {}, in {size} MiB",
            count(server),
            server.len(),
            count(&lines),
            lines.len()
        ),
    );
    check(count(server) == server.len(), "the agent's own key on the disk", count(server))?;
    check(count(&lines) == 0, "no key of a listener on the disk", count(&lines))
}

/// What [`not_on_the_disk`] is to find, while the machine is on.
pub(crate) fn on_the_disk(single: &mut Single) -> Result<Vec<String>> {
    let lines = server_key_lines(single)?;
    single.vm.shell().run("sync", COMMAND_TIME)?;
    Ok(lines)
}
