//! `dhcp-client INTERFACE`: keeps `dhcpcd` for one interface in the foreground. The agent has it run as a service; it is
//! not for people.
//!
//! It stands between because `dhcpcd` overwrites its environment with its title, and the environment is by what a service
//! is found again where there is no systemd ([`crate::services::direct`]).

use std::{
    ffi::OsString,
    process::{Command, ExitCode, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::signal::unix::{SignalKind, signal};

use crate::dhcp::PROGRAM;

/// --script: no resolv.conf, no host name, no hook. A client that is stopped takes its address with it.
const OPTIONS: [&str; 12] = [
    "--ipv4only",
    "--nobackground",
    "--noipv4ll",
    "--nogateway",
    "--noarp",
    "--timeout=0",
    "--script=/bin/true",
    "--config=/dev/null",
    "--option=classless_static_routes",
    "--quiet",
    "--nohook=resolv.conf",
    "--nohook=hostname",
];

/// The program.
pub(super) fn main(arguments: &[OsString]) -> ExitCode {
    let [interface] = arguments else {
        eprintln!("usage: dhcp-client INTERFACE");
        return ExitCode::from(64); // EX_USAGE
    };
    match run(interface) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{PROGRAM}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(interface: &OsString) -> std::io::Result<ExitCode> {
    // One that was left behind would keep ours from starting. There is none unless this program was killed.
    let mut leave = Command::new(PROGRAM);
    leave.args(["--ipv4only", "--exit"]).arg(interface).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut client = tokio::process::Command::new(PROGRAM).args(OPTIONS).arg(interface).spawn()?;
        let status = tokio::select! {
            status = client.wait() => status?,
            _ = terminate.recv() => {
                if let Some(pid) = client.id() {
                    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM)?;
                }
                client.wait().await?;
                return Ok(ExitCode::SUCCESS);
            }
        };
        eprintln!("{PROGRAM} ended with {status}");
        Ok(ExitCode::FAILURE)
    })
}
