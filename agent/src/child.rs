//! A program that is run for its answer: bounded in time and output, in a namespace if need be.
//!
//! Blocking, so that the heartbeats' thread can use it too; elsewhere it belongs on a blocking task.

use std::{
    fs::{File, Permissions},
    io::{self, Read as _, Seek as _},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use netns::Namespace;
use nix::sys::{
    memfd::{MFdFlags, memfd_create},
    signal::{Signal, killpg},
};

/// How much of what it says is kept, in bytes.
const KEPT: u64 = 256 * 1024;
/// How often it is looked at. What is run here takes milliseconds.
const LOOK: Duration = Duration::from_millis(2);

/// What came of a program.
#[derive(Debug)]
pub struct Ended {
    /// How it ended.
    pub status: ExitStatus,
    /// What it said on both outputs, as far as it is text.
    pub text: String,
}

/// Runs `command` in the namespace, or in the agent's own, with `input` as its standard input.
///
/// # Errors
/// The system's, where it cannot be started; [`io::ErrorKind::TimedOut`] where it did not end `within` that time: then it
/// and what it has started are killed.
pub fn run(command: &mut Command, inside: Option<&Namespace>, input: &[u8], within: Duration) -> io::Result<Ended> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut said = memory("said")?;
    let mut asked = memory("asked")?;
    io::Write::write_all(&mut asked, input)?;
    asked.rewind()?;
    // A group of its own, so that a child of its own cannot outlive the deadline.
    command.stdin(asked).stdout(said.try_clone()?).stderr(said.try_clone()?).process_group(0);
    let started = match inside {
        Some(namespace) => namespace.run(|| command.spawn()).map_err(io::Error::other)?,
        None => command.spawn(),
    };
    // The descriptors would otherwise live as long as the command.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = started.map_err(|e| io::Error::new(e.kind(), format!("{program} cannot be started: {e}")))?;
    let status = wait(&mut child, within)?.ok_or_else(|| {
        let text = format!("{program} did not end within {} s and was killed", within.as_secs_f32());
        io::Error::new(io::ErrorKind::TimedOut, text)
    })?;
    said.rewind()?;
    let mut bytes = Vec::new();
    said.take(KEPT).read_to_end(&mut bytes)?;
    Ok(Ended { status, text: String::from_utf8_lossy(&bytes).into_owned() })
}

fn memory(name: &str) -> io::Result<File> {
    let file = File::from(memfd_create(name, MFdFlags::MFD_CLOEXEC)?);
    // It starts as 0777, and there are programs that read no configuration from what could be a program (keepalived).
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

fn wait(child: &mut Child, within: Duration) -> io::Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() >= within {
            let group = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("the kernel's pid_t is an i32"));
            let _ = killpg(group, Signal::SIGKILL); // it may have ended this very moment
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, input: &[u8], within: Duration) -> io::Result<Ended> {
        run(Command::new("sh").args(["-c", script]), None, input, within)
    }

    #[test]
    fn what_it_says_on_both_outputs_and_how_it_ends_is_told() {
        let ended = sh("cat; echo no >&2; exit 3", b"yes\n", Duration::from_secs(60)).unwrap();
        assert_eq!((ended.status.code(), ended.text.as_str()), (Some(3), "yes\nno\n"));
    }

    #[test]
    fn output_is_bounded_and_does_not_block_it() {
        let ended = sh("head -c 1000000 /dev/zero", b"", Duration::from_secs(60)).unwrap();
        assert!(ended.status.success());
        assert_eq!(ended.text.len() as u64, KEPT);
    }

    #[test]
    fn one_that_hangs_is_killed_with_its_children() {
        let error = sh("sleep 1000 & sleep 1000", b"", Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
        let missing = run(&mut Command::new("/no/such/program"), None, b"", Duration::from_secs(1)).unwrap_err();
        assert!(missing.to_string().contains("/no/such/program"), "{missing}");
    }
}
