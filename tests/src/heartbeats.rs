//! The health manager's end of the heartbeats: a socket that opens their envelopes, and Octavia's own code for the same.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use serde_json::Value;

use crate::amphora::Amphora;
use crate::error::{Error, Result, io};
use crate::octavia::environment;
use crate::place::{Place, command};
use crate::process::Proc;
use crate::wait::wait_for;

/// The key of an amphora's configuration, until a test writes another.
pub const KEY: &str = "lab-heartbeat-key";
/// The hex digits of an HMAC-SHA256.
const TAG: usize = 64;
/// More than a heartbeat may unpack to here.
const UNPACKED: usize = 16 * 1024 * 1024;

/// A heartbeat that has arrived, under the right key.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    /// When.
    pub at: Instant,
    /// The datagram's size in bytes.
    pub size: usize,
    /// What it says.
    pub message: Value,
}

/// A socket in a node that heartbeats are sent to.
#[derive(Debug)]
pub struct Receiver {
    socket: UdpSocket,
}

impl Receiver {
    /// Opens one there; port 0 is any.
    pub fn new(place: &Place, address: SocketAddr) -> Result<Self> {
        let socket = place.within(|| UdpSocket::bind(address))?.map_err(io(format!("bind {address}")))?;
        Ok(Self { socket })
    }

    /// The same socket for another thread.
    pub fn try_clone(&self) -> Result<Self> {
        Ok(Self { socket: self.socket.try_clone().map_err(io("clone a socket"))? })
    }

    /// Where it listens.
    pub fn address(&self) -> Result<SocketAddr> {
        self.socket.local_addr().map_err(io("local address"))
    }

    /// The next heartbeat that has arrived or arrives within that time.
    ///
    /// # Errors
    /// [`Error::Io`] when there is none; [`Error::Parse`] for one that is not under that key.
    pub fn next(&self, key: &str, within: Duration) -> Result<Heartbeat> {
        self.socket.set_read_timeout(Some(within)).map_err(io("read timeout"))?;
        let mut buffer = vec![0; 65_536];
        let size = loop {
            match self.socket.recv(&mut buffer) {
                // A receive with a time-out ends so when the machine was stopped meanwhile (signal(7)).
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                other => break other.map_err(io("a heartbeat"))?,
            }
        };
        let at = Instant::now();
        Ok(Heartbeat { at, size, message: open(&buffer[..size], key)? })
    }

    /// Takes all that has arrived, whatever it is.
    pub fn drain(&self) -> Result<()> {
        self.socket.set_nonblocking(true).map_err(io("nonblocking"))?;
        while self.socket.recv(&mut [0; 16]).is_ok() {}
        self.socket.set_nonblocking(false).map_err(io("blocking"))
    }
}

/// What is in an envelope.
///
/// # Errors
/// [`Error::Parse`] where it is none under that key.
pub fn open(envelope: &[u8], key: &str) -> Result<Value> {
    let wrong = |text: &str| Error::Parse { what: "heartbeat".into(), text: text.into() };
    let (zlib, tag) = envelope.split_at_checked(envelope.len().saturating_sub(TAG)).ok_or_else(|| wrong("short"))?;
    let signed = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), zlib);
    if hex(signed.as_ref()).as_bytes() != tag {
        return Err(wrong("signed with another key"));
    }
    let json = miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(zlib, UNPACKED)
        .map_err(|error| wrong(&error.to_string()))?;
    serde_json::from_slice(&json).map_err(|error| wrong(&error.to_string()))
}

/// The bytes in hex digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes who is to get an amphora's heartbeats into its base configuration; a running agent reads it with SIGHUP.
pub fn configure(amphora: &Amphora, targets: &[String], interval: u32, key: &str) -> Result<()> {
    const FILE: &str = "/etc/octavia/amphora-agent.conf";
    let text = amphora.node().read_file(FILE)?;
    let line = |line: &str| match line.split_once(" =") {
        Some(("controller_ip_port_list", _)) => format!("controller_ip_port_list = {}\n", targets.join(", ")),
        Some(("heartbeat_interval", _)) => format!("heartbeat_interval = {interval}\n"),
        Some(("heartbeat_key", _)) => format!("heartbeat_key = {key}\n"),
        _ => format!("{line}\n"),
    };
    amphora.node().write_file(FILE, text.lines().map(line).collect::<String>(), 0o600)
}

/// Runs `tests/octavia/heartbeat.py` in a node: Octavia's side of heartbeats. Its argument and its result are JSON.
///
/// # Errors
/// [`Error::Missing`] without Octavia.
pub fn octavia(place: &Place, what: &str, asked: &Value) -> Result<Octavia> {
    let file = |name: &str| format!("/run/heartbeat/{what}-{name}");
    place.write_file(&file("asked.json"), asked.to_string(), 0o600)?;
    place.run(["rm", "-f", &file("answered.json")])?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("octavia/heartbeat.py");
    let mut python = command([environment()?.join("bin/python")]);
    python.arg(script).args([what, &file("asked.json"), &file("answered.json")]);
    let process = place.spawn(&format!("octavia-{what}"), &mut python)?;
    Ok(Octavia { process, place: place.clone(), answered: file("answered.json") })
}

/// Octavia at work.
#[derive(Debug)]
pub struct Octavia {
    process: Proc,
    place: Place,
    answered: String,
}

impl Octavia {
    /// Waits until it says that it is ready.
    pub fn wait_ready(&self, within: Duration) -> Result<()> {
        let ready = || match std::fs::read_to_string(self.process.log()) {
            Ok(log) if log.contains("ready") => Ok(()),
            Ok(log) => Err(log),
            Err(error) => Err(error.to_string()),
        };
        wait_for("Octavia is ready", within, ready).map(drop)
    }

    /// Waits for its end, and what it answered.
    pub fn answer(&self, within: Duration) -> Result<Value> {
        let status = self.process.wait(within)?;
        let log = || std::fs::read_to_string(self.process.log()).unwrap_or_default();
        if !status.success() {
            return Err(Error::Missing(format!("heartbeat.py ended with {status}: {}", log())));
        }
        let text = self.place.read_file(&self.answered)?;
        serde_json::from_str(&text)
            .map_err(|error| Error::Parse { what: "heartbeat.py".into(), text: error.to_string() })
    }
}
