//! Octavia's controller at work: `tests/octavia/controller.py`, which takes load balancers through its flows with the
//! real amphora driver, run in the fabric's controller node.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::amphora::API_PORT;
use crate::error::{Error, Result, io};
use crate::fabric::Fabric;
use crate::octavia::environment;
use crate::place::command;
use crate::process::Proc;
use crate::wait::wait_for;

/// A ceiling: Python takes seconds to import Octavia, and on a busy machine many.
const PATIENCE: Duration = Duration::from_mins(3);
/// Where its files are, in the controller node.
const PLACE: &str = "/run/controller";
/// The lab's CA, in the controller node: what a controller trusts from its start.
pub const CA: &str = "/run/controller/ca.pem";

/// A controller that runs until it is dropped.
#[derive(Debug)]
pub struct Controller {
    socket: BufReader<UnixStream>,
    python: Proc,
    patience: Duration,
}

/// What the controller made of one thing it was asked.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// What it returned.
    Returned(Value),
    /// The class of the exception, and its text.
    Raised(String, String),
}

impl Outcome {
    /// What it returned.
    ///
    /// # Panics
    /// When it raised an exception.
    #[track_caller]
    #[must_use]
    pub fn returned(self) -> Value {
        match self {
            Self::Returned(value) => value,
            Self::Raised(class, text) => panic!("the controller raised {class}: {text}"),
        }
    }

    /// The class of the exception it raised, and its text.
    ///
    /// # Panics
    /// When it raised none.
    #[track_caller]
    #[must_use]
    pub fn raised(self) -> (String, String) {
        match self {
            Self::Raised(class, text) => (class, text),
            Self::Returned(value) => panic!("the controller raised nothing, but returned {value}"),
        }
    }
}

impl Controller {
    /// Starts one with the lab's certificates: it shows the controller's, and issues the amphorae's with the lab's CA.
    ///
    /// # Errors
    /// [`Error::Missing`] without Octavia: see [`environment`].
    pub fn start(fabric: &Fabric) -> Result<Self> {
        let (node, identity) = (&fabric.controller, fabric.pki.controller());
        let file = |name: &str| format!("{PLACE}/{name}");
        let client = format!("{}{}", identity.certificate, identity.key);
        node.write_file(&file("client.pem"), client, 0o600)?;
        node.write_file(CA, fabric.pki.ca(), 0o644)?;
        node.write_file(&file("ca-key.pem"), fabric.pki.ca_key(), 0o600)?;
        let settings = json!({
            "port": API_PORT, "client_cert": file("client.pem"), "server_ca": CA,
            "ca_key": file("ca-key.pem"), "ca_key_passphrase": null, "storage": file("certificates"),
        });
        node.write_file(&file("settings.json"), settings.to_string(), 0o600)?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("octavia/controller.py");
        let mut python = command([environment()?.join("bin/python")]);
        python.arg("-B").arg(script).args([file("settings.json"), file("socket")]);
        let python = node.spawn("controller", &mut python)?;
        let connect = || match node.connect_unix(&file("socket")) {
            Err(_) if !python.is_running() => Ok(None),
            other => other.map(Some),
        };
        let Some(socket) = wait_for("the controller listens", PATIENCE, connect)?.0 else {
            return Err(ended(&python));
        };
        let mut controller = Self { socket: BufReader::new(socket), python, patience: PATIENCE };
        controller.set_patience(PATIENCE)?;
        Ok(controller)
    }

    /// How long it may take from now on for one thing it is asked, where that is not three minutes: it may try for ten,
    /// see `be_patient` in `controller.py`.
    pub fn set_patience(&mut self, patience: Duration) -> Result<()> {
        self.patience = patience;
        self.socket.get_ref().set_read_timeout(Some(patience)).map_err(io("the controller's socket"))
    }

    /// As [`Controller::ask`], where an exception is an error.
    pub fn does(&mut self, what: &str, arguments: Value) -> Result<Value> {
        match self.ask(what, arguments)? {
            Outcome::Returned(value) => Ok(value),
            Outcome::Raised(class, text) => Err(Error::Wrong {
                what: format!("the controller's {what} succeeds"),
                found: format!("{class}: {text}"),
            }),
        }
    }

    /// Has it do something: the name of a method in `controller.py`, and its arguments by name.
    pub fn ask(&mut self, what: &str, mut arguments: Value) -> Result<Outcome> {
        arguments["do"] = what.into();
        let patience = self.patience;
        let failed = |error: std::io::Error| match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Error::Deadline {
                what: format!("the controller has done {what}"),
                within: patience,
                last: "it is still at it".into(),
            },
            _ => Error::Io { what: format!("ask the controller to {what}"), source: error },
        };
        writeln!(self.socket.get_mut(), "{arguments}").map_err(failed)?;
        let mut line = String::new();
        if self.socket.read_line(&mut line).map_err(failed)? == 0 {
            return Err(ended(&self.python));
        }
        let answer: Value = serde_json::from_str(&line)
            .map_err(|error| Error::Parse { what: "controller.py".into(), text: format!("{error}: {line}") })?;
        Ok(match answer["exception"].as_str() {
            None => Outcome::Returned(answer["value"].clone()),
            Some(class) => Outcome::Raised(class.into(), answer["text"].as_str().unwrap_or_default().into()),
        })
    }
}

fn ended(python: &Proc) -> Error {
    let log = std::fs::read_to_string(python.log()).unwrap_or_default();
    Error::Missing(format!("Octavia's controller has ended: {log}"))
}
