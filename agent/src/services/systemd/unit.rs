//! A service as a unit file: a pure function.

use std::{fmt::Write as _, path::Path, time::Duration};

use crate::services::{ReloadSignal, Service};

/// Tells our files from others'.
pub(super) const HEADER: &str = "# Written by amphora-agent, which also overwrites it.\n";

/// System calls that no service here has a use for are refused. `chroot` is haproxy's, where its configuration says so.
const SYSTEM_CALLS: &str = "@system-service chroot";

/// The unit file. `agent` is our own program, for [`crate::services::reload_main`].
pub(super) fn render(service: &Service, namespace: &Path, agent: &Path) -> String {
    let mut unit = String::from(HEADER);
    let mut line = |text: &str| {
        unit.push_str(text);
        unit.push('\n');
    };
    let units = |names: &[crate::services::ServiceName]| {
        names.iter().fold(String::new(), |all, n| format!("{all} {n}.service"))
    };
    let commands = |key: &str, argv: &[String]| {
        format!("{key}={}", argv.iter().map(|word| quote(word, true)).collect::<Vec<_>>().join(" "))
    };

    line("[Unit]");
    line(&format!("Description={}", specifiers(&service.description.replace(['\n', '\\'], " "))));
    line("Requires=amphora-netns.service");
    line(&format!("After=network.target amphora-netns.service{}", units(&service.after)));
    // Stopped after it when the machine goes down: clients are led elsewhere first.
    line(&format!("Before=amphora-withdraw.service{}", units(&service.before)));
    line(&format!("StartLimitIntervalSec={}", seconds(Service::START_INTERVAL)));
    line(&format!("StartLimitBurst={}", Service::START_LIMIT));

    line("\n[Service]");
    line(if service.notify { "Type=notify\nNotifyAccess=main" } else { "Type=exec" });
    line(&format!("NetworkNamespacePath={}", specifiers(&namespace.to_string_lossy())));
    for (key, value) in &service.environment {
        line(&format!("Environment={}", quote(&format!("{key}={value}"), false)));
    }
    for check in &service.checks {
        line(&commands("ExecStartPre", check));
    }
    line(&commands("ExecStart", &service.command));
    for check in &service.checks {
        line(&commands("ExecReload", check));
    }
    line(&reload(service, agent));
    line("Restart=always");
    line(&format!("RestartSec={}", seconds(Service::RESTART_DELAY)));
    line(&format!("TimeoutStartSec={}", seconds(service.start_timeout)));
    line(&format!("TimeoutStopSec={}", seconds(service.stop_timeout)));
    line("KillMode=mixed");
    line(&format!("LimitNOFILE={}", service.limit_nofile));
    sandbox(service, &mut line);

    line("\n[Install]");
    line("WantedBy=multi-user.target");
    unit
}

fn reload(service: &Service, agent: &Path) -> String {
    let signal = match service.reload {
        ReloadSignal::Hup => "HUP",
        ReloadSignal::Usr2 => "USR2",
    };
    if service.reload_forks {
        format!("ExecReload={} reload-main {signal} $MAINPID", quote(&agent.to_string_lossy(), true))
    } else {
        format!("ExecReload=/bin/kill -{signal} $MAINPID")
    }
}

fn sandbox(service: &Service, line: &mut impl FnMut(&str)) {
    let sandbox = &service.sandbox;
    line("NoNewPrivileges=yes");
    line(&format!("CapabilityBoundingSet={}", sandbox.capabilities.join(" ")));
    line("ProtectSystem=strict");
    // What is not there is not there yet.
    let writable = sandbox.writable.iter().map(|path| quote(&format!("-{}", path.display()), false));
    line(&format!("ReadWritePaths=/run{}", writable.fold(String::new(), |all, path| format!("{all} {path}"))));
    for key in [
        "ProtectHome",
        "PrivateTmp",
        "ProtectClock",
        "ProtectHostname",
        "ProtectControlGroups",
        "ProtectKernelLogs",
        "ProtectKernelModules",
        "RestrictRealtime",
        "RestrictSUIDSGID",
        "LockPersonality",
    ] {
        line(&format!("{key}=yes"));
    }
    if !sandbox.kernel_tunables {
        line("ProtectKernelTunables=yes");
    }
    if !sandbox.namespaces {
        line("RestrictNamespaces=yes");
    }
    line("RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET");
    line("SystemCallArchitectures=native");
    line(&format!("SystemCallFilter={SYSTEM_CALLS}{}", if sandbox.namespaces { " @mount" } else { "" }));
    line("SystemCallErrorNumber=EPERM");
}

/// Whole milliseconds, as systemd.time(7).
fn seconds(time: Duration) -> String {
    format!("{}ms", time.as_millis())
}

/// `%` begins a specifier everywhere (systemd.unit(5)).
fn specifiers(text: &str) -> String {
    text.replace('%', "%%")
}

/// One word (systemd.syntax(7), "Quoting"); in a command line `$` begins a variable as well (systemd.service(5)).
fn quote(word: &str, command: bool) -> String {
    let mut quoted = String::from("\"");
    for c in word.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '%' => quoted.push_str("%%"),
            '$' if command => quoted.push_str("$$"),
            c if c.is_ascii_control() => write!(quoted, "\\x{:02x}", u32::from(c)).expect("a String takes all"),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests;
