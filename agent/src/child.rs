//! A program that is run for its answer: bounded in time and output, in a namespace if need be.
//!
//! Blocking, so that the heartbeats' thread can use it too; elsewhere it belongs on a blocking task.

use std::{
    fs::{File, Permissions},
    io::{self, Read as _, Seek as _, SeekFrom},
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

/// How much of what it says is kept where nothing else is asked for, in bytes.
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
    /// How much of that was not kept, in bytes.
    pub left_out: u64,
}

/// Which part is kept of what a program says, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// The first so many.
    First(u64),
    /// The last so many, from a line's beginning on: a log's news are at its end.
    Last(u64),
}

/// Runs `command` in the namespace, or in the agent's own, with `input` as its standard input. The first 256 KiB of what it
/// says are kept.
///
/// # Errors
/// As [`run_keeping`].
pub fn run(command: &mut Command, inside: Option<&Namespace>, input: &[u8], within: Duration) -> io::Result<Ended> {
    run_keeping(Keep::First(KEPT), command, inside, input, within)
}

/// As [`run`], with the part that shall be kept.
///
/// # Errors
/// The system's, where it cannot be started; [`io::ErrorKind::TimedOut`] where it did not end `within` that time: then it
/// and what it has started are killed.
pub fn run_keeping(
    keep: Keep,
    command: &mut Command,
    inside: Option<&Namespace>,
    input: &[u8],
    within: Duration,
) -> io::Result<Ended> {
    let program = command.get_program().to_string_lossy().into_owned();
    let said = memory("said")?;
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
    let (text, left_out) = kept(said, keep)?;
    Ok(Ended { status, text, left_out })
}

/// That part of a file, and how many bytes are not in it.
fn kept(mut file: File, keep: Keep) -> io::Result<(String, u64)> {
    let length = file.metadata()?.len();
    let (begin, most) = match keep {
        Keep::First(most) => (0, most),
        Keep::Last(most) => (length.saturating_sub(most), most),
    };
    file.seek(SeekFrom::Start(begin))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    let in_a_line = bytes.iter().position(|byte| *byte == b'\n').filter(|_| begin > 0).map_or(0, |at| at + 1);
    bytes.drain(..in_a_line);
    let left_out = length.saturating_sub(bytes.len() as u64);
    Ok((String::from_utf8_lossy(&bytes).into_owned(), left_out))
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
        let ended = sh("cat; echo no >&2; exit 3", b"yes\n", Duration::from_mins(1)).unwrap();
        assert_eq!((ended.status.code(), ended.text.as_str()), (Some(3), "yes\nno\n"));
    }

    #[test]
    fn output_is_bounded_and_does_not_block_it() {
        let ended = sh("head -c 1000000 /dev/zero", b"", Duration::from_mins(1)).unwrap();
        assert!(ended.status.success());
        assert_eq!((ended.text.len() as u64, ended.left_out), (KEPT, 1_000_000 - KEPT));
    }

    #[test]
    fn of_a_log_the_end_is_kept_from_a_lines_beginning_on() {
        let last = |most| {
            let mut command = Command::new("seq");
            let ended = run_keeping(Keep::Last(most), command.arg("1000"), None, b"", Duration::from_mins(1)).unwrap();
            (ended.text, ended.left_out)
        };
        assert_eq!(last(12), ("999\n1000\n".to_owned(), 3_884));
        let (all, left_out) = last(10_000);
        assert!(all.starts_with("1\n2\n") && left_out == 0, "{left_out}");
    }

    #[test]
    fn one_that_hangs_is_killed_with_its_children() {
        let error = sh("sleep 1000 & sleep 1000", b"", Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
        let missing = run(&mut Command::new("/no/such/program"), None, b"", Duration::from_secs(1)).unwrap_err();
        assert!(missing.to_string().contains("/no/such/program"), "{missing}");
    }
}
