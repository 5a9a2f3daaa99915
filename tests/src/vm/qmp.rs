//! QEMU's own protocol (QMP): one JSON object a line, and events between the answers.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::error::{Error, Result, chain, io};
use crate::node::Node;
use crate::process::Proc;
use crate::wait::wait_for;

/// How long it takes to end once it has closed its socket.
const ENDING: Duration = Duration::from_secs(5);

/// A connection that has been greeted.
#[derive(Debug)]
pub(super) struct Qmp {
    socket: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects as soon as QEMU listens.
    pub(super) fn connect(node: &Node, path: &str, qemu: &Proc, within: Duration) -> Result<Self> {
        let look = || match node.connect_unix(path) {
            Err(_) if !qemu.is_running() => Ok(None),
            Err(error) => Err(chain(&error)),
            Ok(socket) => Ok(Some(socket)),
        };
        let Some(socket) = wait_for("QEMU listens", within, look)?.0 else {
            return Err(ended(qemu));
        };
        socket.set_read_timeout(Some(within)).map_err(io("QEMU's socket"))?;
        let mut qmp = Self { socket: BufReader::new(socket) };
        // The greeting, and the answer to it. It listens before it has looked at all of its words.
        let greeted = qmp.line().and_then(|_| qmp.execute("qmp_capabilities", &json!({})));
        match greeted {
            Ok(_) => Ok(qmp),
            Err(_) if qemu.wait(ENDING).is_ok() => Err(ended(qemu)),
            Err(error) => Err(error),
        }
    }

    /// Has QEMU do something, and returns its answer.
    pub(super) fn execute(&mut self, what: &str, arguments: &Value) -> Result<Value> {
        let asked = json!({ "execute": what, "arguments": arguments });
        writeln!(self.socket.get_mut(), "{asked}").map_err(io(format!("ask QEMU to {what}")))?;
        loop {
            let mut answer = self.line()?;
            if let Some(error) = answer.get("error") {
                return Err(Error::Missing(format!("QEMU: {what}: {}", error["desc"])));
            }
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
        }
    }

    fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.socket.read_line(&mut line).map_err(io("QEMU's answer"))? == 0 {
            return Err(Error::Missing("QEMU has closed its socket".into()));
        }
        serde_json::from_str(&line)
            .map_err(|error| Error::Parse { what: "QEMU's answer".into(), text: format!("{error}: {line}") })
    }
}

fn ended(qemu: &Proc) -> Error {
    let log = std::fs::read_to_string(qemu.log()).unwrap_or_default();
    Error::Missing(format!("QEMU has ended: {log}"))
}
