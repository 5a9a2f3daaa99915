//! Secrets: in no log of the machine, with the right modes where they are, and gone from the disk with the power.

use std::time::Duration;

use lab::heartbeats::KEY;
use lab::{Error, Result, command};

use crate::evidence::COMMAND_TIME;
use crate::report::{Report, check, wrong};
use crate::serve::Single;
use crate::site::MD5;

/// Where the files of secrets are, and the mode nobody but root may do more with.
const MODES: &str = "stat -c '%a %U %n' /etc/octavia/certs/server.pem /etc/octavia/amphora-agent.conf \
                     /etc/octavia/amphora-agent.conf.d/50-lab.conf /run/gobgpd /run/amphora-agent/api.sock";

/// Lines that only a key has: the first of each that the controller and its listeners' certificates are made of.
fn key_lines(single: &Single) -> Result<Vec<String>> {
    let storage = "/run/controller/certificates";
    let text = single.site.fabric.controller.run([
        "sh",
        "-c",
        &format!("cat {storage}/*key* {storage}/*.pem 2>/dev/null; true"),
    ])?;
    let mut lines = Vec::new();
    let mut in_key = false;
    for line in text.lines() {
        match line {
            line if line.starts_with("-----BEGIN") => in_key = line.contains("PRIVATE KEY"),
            line if in_key && line.len() == 64 => {
                // The second line: the first is much the same in every key.
                lines.push(line.to_owned());
            }
            _ => {}
        }
    }
    if lines.is_empty() {
        return Err(wrong("keys in the controller's certificate manager", text.len()));
    }
    Ok(lines)
}

pub(crate) fn in_no_log(report: &mut Report, single: &mut Single) -> Result<()> {
    let mut secrets = vec![MD5.to_owned(), KEY.to_owned()];
    secrets.extend(key_lines(single)?);
    let shell = single.vm.shell();
    // In memory, and through the shell alone: nothing of it is logged.
    shell
        .run(&format!("umask 077; printf '%s\\n' '{}' > /run/secrets-of-the-lab", secrets.join("' '")), COMMAND_TIME)?;
    // The server's own key is on the machine: its body's lines are secrets as well.
    shell.run("sed -n '/PRIVATE KEY/,/PRIVATE KEY/p' /etc/octavia/certs/server.pem | grep -v PRIVATE >> /run/secrets-of-the-lab", COMMAND_TIME)?;
    let search = "journalctl -q --no-pager -o export | grep -acF -f /run/secrets-of-the-lab; grep -rlaF -f \
                  /run/secrets-of-the-lab /var/log /run/log 2>/dev/null; cat /proc/[0-9]*/cmdline | tr '\\0' '\\n' | grep -cF -f \
                  /run/secrets-of-the-lab";
    let found = shell.run(&format!("{search}; true"), Duration::from_mins(3))?;
    shell.run("rm /run/secrets-of-the-lab", COMMAND_TIME)?;
    check(found == "0\n0", "no secret in the journal, in /var/log and in arguments", &found)?;
    let console = std::fs::read(single.vm.serial())
        .map_err(|source| Error::Io { what: single.vm.serial().display().to_string(), source })?;
    let console = String::from_utf8_lossy(&console);
    check(!secrets.iter().any(|secret| console.contains(secret.as_str())), "no secret on the console", "there is one")?;
    report.figure("secrets in the journal, /var/log, arguments, console", format!("none of {}", secrets.len()));
    let modes = single.vm.shell().run(MODES, COMMAND_TIME)?;
    let open = modes.lines().any(|line| line.split(' ').next().is_some_and(|mode| !mode.ends_with("00")));
    report.figure("modes", &modes);
    check(!open, "nobody but its owner reads a secret", modes)
}

/// After the power is gone: what the machine wrote to its disk has nothing of the listeners' keys.
pub(crate) fn not_on_the_disk(report: &mut Report, single: &mut Single) -> Result<()> {
    let disk = single.site.fabric.workdir.path().join(format!("{}.qcow2", single.vm.name()));
    let lines = key_lines(single)?;
    let keys = disk.with_extension("keys");
    let unreadable = |source| Error::Io { what: disk.display().to_string(), source };
    std::fs::write(&keys, lines.join("\n")).map_err(unreadable)?;
    // The overlay is not compressed: what was written to the disk is in it as it was.
    let found = command(["grep", "-aoF", "-f"]).arg(&keys).arg(&disk).output().map_err(unreadable)?;
    let found = found.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
    let size = std::fs::metadata(&disk).map_err(unreadable)?.len() >> 20;
    report.figure("lines of the listeners' keys on the disk", format!("{found} of {}, in {size} MiB", lines.len()));
    check(found == 0, "no key of a listener on the disk", found)
}
