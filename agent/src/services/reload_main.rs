//! `amphora-agent reload-main SIGNAL PID`: the `ExecReload=` of a program that executes itself anew to reload.
//!
//! For systemd 252 a reload is over when its command is, unless the program has said `RELOADING=1` by then; so it
//! would be over before haproxy has heard the signal. This waits until the program has executed itself, for it says
//! `RELOADING=1` before that. How long it may take is systemd's to decide.

use std::{ffi::OsString, fs, process::ExitCode, thread::sleep, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Between looks: a fraction of what an exec takes.
const LOOK: Duration = Duration::from_millis(1);

/// The program. To be started by systemd alone.
#[must_use]
pub fn run(arguments: &[OsString]) -> ExitCode {
    match reload(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("reload-main: {text}");
            ExitCode::FAILURE
        }
    }
}

fn reload(arguments: &[OsString]) -> Result<(), String> {
    let [signal, pid] = arguments else { return Err("usage: reload-main HUP|USR2 PID".to_owned()) };
    let signal = match signal.to_str() {
        Some("HUP") => Signal::SIGHUP,
        Some("USR2") => Signal::SIGUSR2,
        _ => return Err(format!("no such signal: {}", signal.display())),
    };
    let number = pid.to_str().and_then(|pid| pid.parse().ok()).filter(|pid: &i32| *pid > 1);
    let pid = number.ok_or_else(|| format!("{} is no process", pid.display()))?;
    let before = image(pid)?;
    kill(Pid::from_raw(pid), signal).map_err(|errno| format!("{signal} to {pid}: {errno}"))?;
    while image(pid)? == before {
        sleep(LOOK);
    }
    Ok(())
}

/// What another exec changes: where code and stack begin (the kernel puts them elsewhere each time), and the command
/// line, to which haproxy adds what it takes over.
fn image(pid: i32) -> Result<(Vec<String>, Vec<u8>), String> {
    let gone = |error| format!("process {pid}: {error}");
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).map_err(gone)?;
    // proc_pid_stat(5): the name in parentheses is field 2; startcode is 26, startstack 28.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace();
    let places = fields.skip(26 - 3).step_by(2).take(2).map(str::to_owned).collect();
    let line = fs::read(format!("/proc/{pid}/cmdline")).map_err(gone)?;
    Ok((places, line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_stays_until_another_is_executed_and_differs_between_processes() {
        let ours = i32::try_from(std::process::id()).unwrap();
        let (places, line) = image(ours).unwrap();
        assert_eq!(image(ours).unwrap(), (places.clone(), line));
        assert!(places.len() == 2 && places.iter().all(|place| place.parse::<u64>().unwrap() > 1), "{places:?}");
        assert!(reload(&["USR2".into(), "1".into()]).is_err(), "never init");
        assert!(reload(&["KILL".into(), "12".into()]).is_err());
    }
}
