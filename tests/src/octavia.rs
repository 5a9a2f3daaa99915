//! The real controller's client: Octavia's `AmphoraAPIClient1_0`, run in the fabric's controller node.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::addresses::{FRONTEND, Family, tor_host};
use crate::amphora::{API_PORT, Amphora};
use crate::error::{Error, Result, io};
use crate::fabric::Fabric;
use crate::place::command;

/// A ceiling: Python takes seconds to import Octavia, and on a busy machine many.
const PATIENCE: Duration = Duration::from_mins(3);
/// Where its files are, in the controller node.
const PLACE: &str = "/run/octavia";

/// What came of one call of the client.
#[derive(Clone, Debug)]
pub struct Called {
    /// What the method returned, or null; a response of the agent's as `{"status"}`.
    pub value: Value,
    /// The class of the exception it raised.
    pub exception: Option<String>,
    /// Every HTTP answer it saw for it: `status`, `content_type`, `etag`, `body`.
    pub answers: Vec<Value>,
}

impl Called {
    /// The body of the last answer, as JSON.
    #[must_use]
    pub fn body(&self) -> Value {
        let body = self.answers.last().and_then(|answer| answer["body"].as_str()).unwrap_or_default();
        serde_json::from_str(body).unwrap_or_default()
    }

    /// The status of the last answer; 0 where there was none.
    #[must_use]
    pub fn status(&self) -> u64 {
        self.answers.last().and_then(|answer| answer["status"].as_u64()).unwrap_or_default()
    }
}

/// The Python environment with Octavia in it.
///
/// # Errors
/// [`Error::Missing`]: a test may skip itself with that reason, see [`crate::skipped`].
pub fn environment() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace's root is above this crate");
    let environment = root.join("build/octavia");
    if environment.join("INSTALLED").is_file() {
        return Ok(environment);
    }
    Err(Error::Missing(format!("{} is not there: run tests/octavia/install.sh", environment.display())))
}

/// Has the client make calls, one after the other, each as a task of the controller's would: with connections of its
/// own, the API version first. A call is a method's name and its arguments by name, but for the amphora.
pub fn call(fabric: &Fabric, amphora: &Amphora, calls: &[(&str, Value)]) -> Result<Vec<Called>> {
    let (node, identity) = (&fabric.controller, fabric.pki.controller());
    let file = |name: &str| format!("{PLACE}/{name}");
    node.write_file(&file("client.pem"), format!("{}{}", identity.certificate, identity.key), 0o600)?;
    node.write_file(&file("ca.pem"), fabric.pki.ca(), 0o644)?;
    let calls: Vec<Value> =
        calls.iter().map(|(method, arguments)| json!({ "method": method, "arguments": arguments })).collect();
    let asked = json!({
        "amphora": { "id": amphora.id(), "address": amphora.management(Family::V4), "port": API_PORT },
        "client_cert": file("client.pem"),
        "server_ca": file("ca.pem"),
        "calls": calls,
    });
    node.write_file(&file("asked.json"), asked.to_string(), 0o600)?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("octavia/call.py");
    let mut python = command([environment()?.join("bin/python")]);
    python.arg(script).args([file("asked.json"), file("answered.json")]);
    let client = node.spawn("octavia", &mut python)?;
    let status = client.wait(PATIENCE)?;
    if !status.success() {
        let log = std::fs::read_to_string(client.log()).unwrap_or_default();
        return Err(Error::Missing(format!("Octavia's client ended with {status}: {log}")));
    }
    let text = node.read_file(&file("answered.json"))?;
    let answered: Vec<Value> = serde_json::from_str(&text)
        .map_err(|error| Error::Parse { what: "call.py".into(), text: format!("{error}: {text}") })?;
    let called = |answer: Value| Called {
        value: answer["value"].clone(),
        exception: answer["exception"].as_str().map(ToOwned::to_owned),
        answers: answer["answers"].as_array().cloned().unwrap_or_default(),
    };
    Ok(answered.into_iter().map(called).collect())
}

/// A haproxy.cfg by Octavia's own templater, of a load balancer as `octavia/render.py` takes it.
pub fn render(asked: &Value) -> Result<String> {
    Ok(String::from_utf8_lossy(&answer("render.py", asked)?).into_owned())
}

/// What a script of `octavia/` makes of JSON on its standard input.
pub(crate) fn answer(script: &str, asked: &Value) -> Result<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("octavia").join(script);
    let mut python = command([environment()?.join("bin/python")]);
    python.arg("-B").arg(path).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut python = python.spawn().map_err(io(format!("start {script}")))?;
    let mut stdin = python.stdin.take().expect("asked for a pipe above");
    stdin.write_all(asked.to_string().as_bytes()).map_err(io(format!("ask {script}")))?;
    drop(stdin);
    let output = python.wait_with_output().map_err(io(script))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(Error::Missing(format!("{script}: {}", String::from_utf8_lossy(&output.stderr))))
}

/// Many a haproxy.cfg by Octavia's own templater: what `octavia/corpus.py` makes of a count and a seed.
pub fn corpus(count: usize, seed: usize) -> Result<Vec<Value>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("octavia/corpus.py");
    let mut python = command([environment()?.join("bin/python")]);
    let output = python.arg(script).args([count.to_string(), seed.to_string()]).output();
    let output = output.map_err(io("Octavia's templater"))?;
    if !output.status.success() {
        return Err(Error::Missing(format!("Octavia's templater: {}", String::from_utf8_lossy(&output.stderr))));
    }
    let unreadable = |error: serde_json::Error| Error::Parse { what: "corpus.py".into(), text: error.to_string() };
    serde_json::from_slice(&output.stdout).map_err(unreadable)
}

/// Configurations of keepalived by Octavia's own templaters, asked for as `octavia/keepalived.py` takes them.
pub fn keepalived(fabric: &Fabric, asked: &[Value]) -> Result<Vec<String>> {
    const RENDERED: &str = "/run/rendered.json";
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("octavia/keepalived.py");
    let mut python = command([environment()?.join("bin/python")]);
    python.arg(script).args([Value::from(asked).to_string().as_str(), RENDERED]);
    let renderer = fabric.controller.spawn("render", &mut python)?;
    let status = renderer.wait(PATIENCE)?;
    if !status.success() {
        let log = std::fs::read_to_string(renderer.log()).unwrap_or_default();
        return Err(Error::Missing(format!("Octavia's templater ended with {status}: {log}")));
    }
    let text = fabric.controller.read_file(RENDERED)?;
    serde_json::from_str(&text)
        .map_err(|error| Error::Parse { what: RENDERED.into(), text: format!("{error}: {text}") })
}

/// The VRRP configuration of each amphora of a load balancer with that IPv4 VIP; the first has the highest priority, and
/// ToR 0 is their gateway.
pub fn vrrp<'a>(
    fabric: &Fabric,
    vip: std::net::Ipv4Addr,
    amphorae: impl IntoIterator<Item = &'a Amphora>,
) -> Result<Vec<String>> {
    let amphorae: Vec<Value> = (amphorae.into_iter().zip([100, 90]))
        .map(|(amphora, priority)| json!({ "vrrp_ip": amphora.frontend(Family::V4), "priority": priority }))
        .collect();
    let subnet = json!({ "cidr": FRONTEND.v4, "gateway_ip": FRONTEND.host(tor_host(0)).v4 });
    keepalived(fabric, &[json!({ "vrrp": { "vip": vip, "subnet": subnet, "amphorae": amphorae } })])
}
