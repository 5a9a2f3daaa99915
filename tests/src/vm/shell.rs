//! A root shell in a machine, on its second serial port: for evidence that its network does not give, and for faults.
//!
//! The image has none. The machine's firmware hands systemd a unit (a credential `systemd.extra-unit.*` in SMBIOS type 11,
//! systemd.system-credentials(7); from systemd 256 on, so not in a Debian 12), which nobody outside the host can do.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::error::{Error, Result, io};
use crate::node::Node;

/// How often what was asked is asked once more while nobody is there yet.
const AGAIN: Duration = Duration::from_secs(3);

/// Reads lines of an id and a command in base64; answers `=`, the id, and in base64 what the command said and its status.
const UNIT: &str = r#"[Unit]
Description=The lab's shell on the second serial port
DefaultDependencies=no
Conflicts=shutdown.target
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart=/bin/sh -c 'stty raw -echo; while read -r id text; do \
    said=$$(sh -c "$$(printf %%s "$$text" | base64 -d)" </dev/null 2>&1; echo " $$?"); \
    printf "\n=%%s %%s\n" "$$id" "$$(printf %%s "$$said" | base64 -w0)"; done'
StandardInput=tty
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS1
Restart=always
RestartSec=1
"#;
const DROP_IN: &str = "[Unit]\nWants=lab-shell.service\n";

/// The words that make QEMU hand the unit over.
pub(super) fn credentials() -> Vec<String> {
    let credential = |name: &str, text: &str| {
        format!("type=11,value=io.systemd.credential.binary:{name}={}", base64(text.as_bytes()))
    };
    vec![
        "-smbios".into(),
        credential("systemd.extra-unit.lab-shell.service", UNIT),
        "-smbios".into(),
        credential("systemd.unit-dropin.sysinit.target", DROP_IN),
    ]
}

/// The shell of one machine.
#[derive(Debug)]
pub struct Shell {
    socket: UnixStream,
    asked: u32,
}

impl Shell {
    pub(super) fn connect(node: &Node, path: &str) -> Result<Self> {
        let socket = node.connect_unix(path)?;
        socket.set_read_timeout(Some(Duration::from_millis(500))).map_err(io("the shell's socket"))?;
        Ok(Self { socket, asked: 0 })
    }

    /// Runs a command, and returns what it said (errors too) without the last line's end. It must not leave anything behind
    /// that holds on to its output.
    ///
    /// # Errors
    /// [`Error::Command`] when it ends with another status than 0, [`Error::Deadline`] when it says nothing in time.
    pub fn run(&mut self, command: &str, within: Duration) -> Result<String> {
        let (said, status) = self.ask(command, within)?;
        if status == "0" {
            return Ok(said);
        }
        Err(Error::Command {
            node: "inside the machine".into(),
            command: command.into(),
            outcome: format!("ended with {status}"),
            stderr: said,
        })
    }

    /// Waits until the shell is there.
    pub fn wait(&mut self, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        loop {
            // While nobody has opened the port what is written may be lost, so it is asked again.
            match self.ask("true", AGAIN) {
                Err(Error::Deadline { .. }) if Instant::now() < deadline => {}
                other => return other.map(drop),
            }
        }
    }

    fn ask(&mut self, command: &str, within: Duration) -> Result<(String, String)> {
        self.asked += 1;
        let (line, mark) =
            (format!("\n{} {}\n", self.asked, base64(command.as_bytes())), format!("\n={} ", self.asked));
        self.socket.write_all(line.as_bytes()).map_err(io("ask the shell"))?;
        let (start, mut said) = (Instant::now(), Vec::new());
        loop {
            let mut buffer = [0; 8192];
            match self.socket.read(&mut buffer) {
                Ok(0) => return Err(Error::Missing("the machine is off: its shell's port is closed".into())),
                Ok(count) => said.extend(buffer.iter().take(count)),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(io("the shell's answer")(error)),
            }
            let text = String::from_utf8_lossy(&said);
            if let Some((answer, _)) = text.split_once(&mark).and_then(|(_, rest)| rest.split_once('\n')) {
                let answer = String::from_utf8_lossy(&unbase64(answer.trim())).into_owned();
                let (said, status) = answer.rsplit_once(' ').unwrap_or(("", &answer));
                return Ok((said.trim_end().to_owned(), status.to_owned()));
            }
            if start.elapsed() > within {
                let what = format!("the shell answers `{command}`");
                return Err(Error::Deadline { what, within, last: text.into_owned() });
            }
        }
    }
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// RFC 4648 section 4.
fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0, |bits, byte| (bits << 8) | u32::from(*byte)) << (8 * (3 - three.len()));
        for digit in 0..4 {
            let index = usize::try_from((bits >> (18 - 6 * digit)) & 63).expect("six bits");
            text.push(if digit <= three.len() { DIGITS[index].into() } else { '=' });
        }
    }
    text
}

/// The reverse. What is no digit ends it.
fn unbase64(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text
        .bytes()
        .map_while(|byte| DIGITS.iter().position(|digit| *digit == byte))
        .map(|value| u32::try_from(value).expect("six bits"))
        .collect();
    let mut bytes = Vec::new();
    for four in digits.chunks(4) {
        let bits = four.iter().fold(0, |bits, value| (bits << 6) | value) << (6 * (4 - four.len()));
        bytes.extend(&bits.to_be_bytes()[1..four.len()]);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc_both_ways() {
        // RFC 4648 section 10.
        for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!((base64(plain.as_bytes()), unbase64(coded)), (coded.to_owned(), plain.as_bytes().to_vec()));
        }
    }
}
