//! A root shell in a machine, on its second serial port: for evidence that its network does not give, and for faults.
//!
//! The image has none. The machine's firmware hands systemd a unit (a credential `systemd.extra-unit.*` in SMBIOS type 11,
//! systemd.system-credentials(7); from systemd 256 on, so not in a Debian 12), which nobody outside the host can do.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::error::{Error, Result, io};
use crate::node::Node;

/// How long it may take to say that it is there.
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
        format!("type=11,value=io.systemd.credential.binary:{name}={}", BASE64_STANDARD.encode(text))
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

    /// Whether it is there: it takes up to three seconds to say no. While nobody has opened the port what is written may be
    /// lost, so it is to be asked again.
    ///
    /// # Errors
    /// [`Error::Missing`] when the machine is off.
    pub fn is_there(&mut self) -> Result<bool> {
        match self.ask("true", AGAIN) {
            Ok(_) => Ok(true),
            Err(Error::Deadline { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn ask(&mut self, command: &str, within: Duration) -> Result<(String, String)> {
        self.asked += 1;
        let (line, mark) =
            (format!("\n{} {}\n", self.asked, BASE64_STANDARD.encode(command)), format!("\n={} ", self.asked));
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
                let answer = BASE64_STANDARD.decode(answer.trim()).map_err(|error| Error::Parse {
                    what: format!("the shell's answer to `{command}`"),
                    text: format!("{error}: {answer}"),
                })?;
                let answer = String::from_utf8_lossy(&answer).into_owned();
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
