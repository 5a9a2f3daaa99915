//! `amphora-agent run-service`: what a main process is before it is its program. It leaves the agent's session and
//! raises the limit on open files, which only a process can do for itself.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Write as _},
    os::{fd::AsFd as _, unix::process::CommandExt as _},
    process::{Command, ExitCode},
};

use nix::{
    sys::resource::{Resource, getrlimit, setrlimit},
    unistd::{dup2_stdin, setsid},
};

/// `run-service NOFILE PROGRAM ARGUMENT...`. Standard input is a pipe to the agent: it hears why this fails, and the
/// pipe's end when it has not. To be started by the agent alone.
#[must_use]
pub fn run(arguments: &[OsString]) -> ExitCode {
    let told = io::stdin().as_fd().try_clone_to_owned(); // closed by exec
    let error = match replace(arguments) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    if let Ok(told) = told {
        let _ = File::from(told).write_all(error.as_bytes()); // the exit status says it too
    }
    ExitCode::from(203) // EXIT_EXEC of systemd.exec(5)
}

fn replace(arguments: &[OsString]) -> Result<std::convert::Infallible, String> {
    let [limit, program, arguments @ ..] = arguments else { return Err("no program to run".to_owned()) };
    let limit = limit.to_str().and_then(|text| text.parse().ok()).ok_or("the limit on open files is no number")?;
    let silence = || -> io::Result<()> { Ok(dup2_stdin(File::open("/dev/null")?)?) };
    silence().map_err(|e| format!("cannot open /dev/null: {e}"))?;
    setsid().map_err(|e| format!("cannot make a session: {e}"))?;
    limit_nofile(limit).map_err(|e| format!("cannot limit open files to {limit}: {e}"))?;
    let error = Command::new(program).args(arguments).exec();
    Err(format!("cannot run {}: {error}", program.display()))
}

/// As near to the limit as the kernel's own (`fs.nr_open`) and our rights allow.
fn limit_nofile(limit: u64) -> io::Result<()> {
    let largest = std::fs::read_to_string("/proc/sys/fs/nr_open").ok().and_then(|text| text.trim().parse().ok());
    let limit = largest.map_or(limit, |largest| limit.min(largest));
    if setrlimit(Resource::RLIMIT_NOFILE, limit, limit).is_err() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, limit.min(hard), hard)?;
    }
    Ok(())
}
