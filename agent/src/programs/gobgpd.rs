//! `gobgpd SOCKET`: becomes gobgpd, with the options the agent itself would give it, for the unit of that name. Which options
//! there are depends on its version, so a unit file cannot know them.

use std::{
    ffi::OsString,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
};

use bgp::{Account, Flags, Program};
use nix::{
    sys::stat::{Mode, umask},
    unistd::{getgid, getuid},
};

use crate::speaker;

pub(super) fn run(arguments: &[OsString]) -> ExitCode {
    let [socket] = arguments else {
        eprintln!("usage: gobgpd SOCKET");
        return ExitCode::from(super::EX_USAGE);
    };
    match become_gobgpd(socket.into()) {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("gobgpd: {error}");
            ExitCode::FAILURE
        }
    }
}

fn become_gobgpd(socket: PathBuf) -> Result<std::convert::Infallible, String> {
    if getuid().is_root() {
        return Err("not as root: it faces the network; set User=gobgpd".to_owned());
    }
    let account = Account { uid: getuid().as_raw(), gid: getgid().as_raw() };
    let program = Program { path: speaker::find_gobgpd(), socket, account };
    let cannot_run = |error| format!("cannot run {}: {error}", program.path.display());
    let say = |flag: &str| {
        let output = Command::new(&program.path).arg(flag).stdin(Stdio::null()).output().map_err(cannot_run)?;
        Ok::<_, String>(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let flags = Flags::parse(&say("--version")?, &say("--help")?);
    let flags = flags.ok_or_else(|| format!("{} does not look like gobgpd", program.path.display()))?;
    umask(Mode::from_bits_truncate(0o177)); // the socket is born 0600
    let mut gobgpd = Command::new(&program.path);
    Err(cannot_run(gobgpd.args(program.arguments(&flags)).envs(program.environment()).exec()))
}
