//! `amphoractl`: the operator's command line, on the agent's UNIX socket.
//!
//! The boundary is here so that it cannot know more than the API says: it asks, and shows. Only `support-bundle` also
//! looks at the machine itself, for it has to work while the agent does not.

mod arguments;
mod bundle;
mod client;
mod hints;
mod man;
mod moment;
mod show;
mod table;
mod tar;

use std::{
    ffi::OsString,
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
    process::{Command as Process, ExitCode},
    time::Duration,
};

use clap::{CommandFactory as _, Parser as _};
use hyper::Method;
use serde_json::{Value, json};

use crate::{clock, programs};
use arguments::{Arguments, Command, Drain, Output, Register, Unregister, Watch};
use client::{CallError, Client};
use show::Page;

/// Something is not as it should be.
const DEGRADED: u8 = 1;
/// What was asked for was not done.
const FAILED: u8 = 2;

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("cannot start: {0}")]
    Start(#[source] io::Error),
    #[error("[amphora_agent] amphora_id is not set: name the amphora")]
    NoId,
    #[error("cannot write: {0}")]
    Write(#[source] io::Error),
    #[error("{}: cannot be written: {error}", .file.display())]
    Bundle { file: PathBuf, error: io::Error },
    #[error("the configuration is not usable")]
    Config,
}

/// The program, given its arguments without its own name.
#[must_use]
pub fn main(arguments: &[OsString]) -> ExitCode {
    let line = std::iter::once(OsString::from("amphoractl")).chain(arguments.iter().cloned());
    let parsed = match Arguments::try_parse_from(line) {
        Ok(parsed) => parsed,
        Err(error) => {
            let _ = error.print(); // nobody is left to be told
            return if error.use_stderr() { ExitCode::from(FAILED) } else { ExitCode::SUCCESS };
        }
    };
    match run(parsed) {
        Ok(false) => ExitCode::SUCCESS,
        Ok(true) => ExitCode::from(DEGRADED),
        Err(error) => {
            complain(format_args!("{error}"));
            ExitCode::from(FAILED)
        }
    }
}

/// Does what is asked for; whether something is degraded.
fn run(Arguments { socket, output, command }: Arguments) -> Result<bool, Failed> {
    let client = Client::new(&socket).map_err(Failed::Start)?;
    let asked = Asked { client, output };
    match command {
        Command::Status(watch) => asked.show(watch, |client| client.get("/1.0/distributor/status"), show::status),
        Command::Peers(watch) => {
            let path = if output == Output::Json { "/1.0/distributor/peers" } else { "/1.0/distributor/status" };
            asked.show(watch, |client| client.get(path), show::peers)
        }
        Command::Vips(watch) => {
            let vips = |client: &Client| Ok(client.get("/1.0/distributor/status")?["vips"].take());
            asked.show(watch, vips, show::vips)
        }
        Command::Amphorae { vip_ip, watch } => {
            let query = query(&[("vip_ip", vip_ip.map(|ip| ip.to_string()))]);
            let path = format!("/1.0/distributor/amphorae{query}");
            asked.show(watch, |client| client.get(&path), show::routes)
        }
        Command::Why { vip, watch } => {
            let path = format!("/1.0/distributor/why/{vip}");
            asked.show(watch, |client| client.get(&path), show::why)
        }
        Command::Register(register) => asked.register(register),
        Command::Unregister(unregister) => asked.unregister(unregister),
        Command::Drain(drain) => asked.drain(drain),
        Command::Undrain { amphora_id, vip } => {
            let body = vip.map_or_else(|| json!({}), |vip| json!({ "vip_ip": vip }));
            asked.change(Method::PUT, &asked.amphora(amphora_id, "/undrain")?, Some(&body))
        }
        Command::CheckConfig { config_file, config_dir } => check_config(&config_file, &config_dir),
        Command::SupportBundle { file } => bundle::write(&asked.client, file),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "amphoractl", &mut script);
            print(&script).map(|_| false)
        }
        Command::Man => print(man::page(&Arguments::command()).as_bytes()).map(|_| false),
    }
}

/// How to ask, and how to show what is said.
struct Asked {
    client: Client,
    output: Output,
}

impl Asked {
    fn page(&self, said: &Value, page: impl Fn(&Value) -> Page) -> Page {
        let page = page(said);
        let text = if self.output == Output::Json { format!("{said:#}\n") } else { hints::commands(&page.text) };
        Page { text, ..page }
    }

    /// Shows what `ask` gets, once or again and again.
    fn show(
        &self,
        Watch { watch }: Watch,
        ask: impl Fn(&Client) -> Result<Value, CallError>,
        page: impl Fn(&Value) -> Page,
    ) -> Result<bool, Failed> {
        let Some(seconds) = watch else {
            let page = self.page(&ask(&self.client)?, &page);
            return print(page.text.as_bytes()).map(|_| page.degraded);
        };
        // JSON stays JSON. For people each page on a terminal replaces the one before (ECMA-48: CUP, ED); elsewhere they
        // follow one another.
        let json = self.output == Output::Json;
        let clear = if !json && io::stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "" };
        loop {
            // An agent that is restarted is back in a moment.
            let page = match ask(&self.client) {
                Ok(said) => self.page(&said, &page),
                Err(error) if json => {
                    complain(format_args!("{error}"));
                    Page { text: String::new(), degraded: true }
                }
                Err(error) => Page { text: format!("amphoractl: {error}\n"), degraded: true },
            };
            let text =
                if json { page.text } else { format!("{clear}{}\n{}\n", clock::rfc3339(clock::now()), page.text) };
            if !print(text.as_bytes())? {
                return Ok(page.degraded);
            }
            std::thread::sleep(Duration::from_secs(seconds.into()));
        }
    }

    fn change(&self, method: Method, path: &str, body: Option<&Value>) -> Result<bool, Failed> {
        let answer = self.client.call(method, path, body)?;
        let page = self.page(&answer, show::done);
        print(page.text.as_bytes()).map(|_| page.degraded)
    }

    /// The path of an amphora, of this one where none is named.
    fn amphora(&self, id: Option<String>, what: &str) -> Result<String, Failed> {
        let id = id.map_or_else(|| self.own_id(), Ok)?;
        Ok(format!("/1.0/distributor/amphorae/{}{what}", encoded(&id)))
    }

    fn own_id(&self) -> Result<String, Failed> {
        let own = self.client.get("/1.0/distributor/amphora")?;
        own["amphora_id"].as_str().map(str::to_owned).ok_or(Failed::NoId)
    }

    fn register(&self, register: Register) -> Result<bool, Failed> {
        let Register { vip_ip, nexthop_ip, amphora_id, peer_id, end_point } = register;
        let mut body = json!({ "vip_ip": vip_ip, "nexthop_ip": nexthop_ip });
        if let Some(peer) = peer_id {
            body["peer_id"] = peer.into();
        }
        if end_point {
            return self.change(Method::POST, "/1.0/distributor/vips", Some(&body));
        }
        body["amphora_id"] = amphora_id.map_or_else(|| self.own_id(), Ok)?.into();
        self.change(Method::POST, "/1.0/distributor/amphorae", Some(&body))
    }

    fn unregister(&self, unregister: Unregister) -> Result<bool, Failed> {
        let Unregister { amphora_id, vip_ip, nexthop_ip, peer_id, end_point } = unregister;
        let (vip, nexthop) = (vip_ip.map(|ip| ip.to_string()), nexthop_ip.map(|ip| ip.to_string()));
        let path = match &vip {
            Some(vip) if end_point => {
                format!("/1.0/distributor/vips/{vip}{}", query(&[("nexthop_ip", nexthop), ("peer_id", peer_id)]))
            }
            _ => {
                let query = query(&[("vip_ip", vip), ("nexthop_ip", nexthop), ("peer_id", peer_id)]);
                self.amphora(amphora_id, &query)?
            }
        };
        self.change(Method::DELETE, &path, None)
    }

    fn drain(&self, drain: Drain) -> Result<bool, Failed> {
        let Drain { amphora_id, timeout, max_connections, vip } = drain;
        let mut body = json!({ "timeout_s": timeout, "max_connections": max_connections });
        if let Some(vip) = vip {
            body["vip_ip"] = json!(vip);
        }
        self.change(Method::PUT, &self.amphora(amphora_id, "/drain")?, Some(&body))
    }
}

/// The agent's own check, by the very program that will be started.
fn check_config(files: &[PathBuf], directories: &[PathBuf]) -> Result<bool, Failed> {
    let mut agent = Process::new(programs::own_path());
    std::os::unix::process::CommandExt::arg0(&mut agent, "amphora-agent");
    agent.arg("--check-config");
    for file in files {
        agent.arg("--config-file").arg(file);
    }
    for directory in directories {
        agent.arg("--config-dir").arg(directory);
    }
    let checked = agent.status().map_err(Failed::Start)?;
    if checked.success() { Ok(false) } else { Err(Failed::Config) }
}

/// Whether somebody reads on. Who has closed the pipe has enough, which is no failure.
fn print(text: &[u8]) -> Result<bool, Failed> {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failed::Write(error)),
    }
}

/// To standard error; the exit code says it too where that is closed.
fn complain(what: std::fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "amphoractl: {what}");
}

/// A query of those that have a value.
fn query(parameters: &[(&str, Option<String>)]) -> String {
    let given = parameters.iter().filter_map(|(name, value)| Some(format!("{name}={}", encoded(value.as_ref()?))));
    let given: Vec<_> = given.collect();
    if given.is_empty() { String::new() } else { format!("?{}", given.join("&")) }
}

/// Percent-encoded but for RFC 3986's unreserved characters.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests;
