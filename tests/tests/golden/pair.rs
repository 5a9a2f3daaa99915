//! Two equal amphorae: our agent in one, Octavia's Python agent in the other.

use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use lab::addresses::{FRONTEND, amphora_host, tor_host};
use lab::amphora::API_PORT;
use lab::{Amphora, Fabric, Family, Options, Peer, TorKind};
use md5::{Digest, Md5};
use serde_json::Value;

use crate::case::{Case, Words};
use crate::raw::{Answer, Server};

/// A ceiling, for a machine that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// Both agents, running. The Python agent's amphora is the second.
pub(crate) struct Pair {
    pub(crate) fabric: Fabric,
    _peer: Peer,
}

impl Pair {
    /// Starts both under that topology.
    pub(crate) fn new(name: &str, topology: &str) -> Self {
        let mut options = Options::new(TorKind::Bird);
        options.amphorae = 2;
        let fabric = Fabric::new(name, &options).unwrap();
        for (index, amphora) in fabric.amphorae.iter().enumerate() {
            prepare(&fabric, amphora, index, topology);
        }
        let peer = Peer::start(&fabric.amphorae[1]).unwrap();
        fabric.amphorae[0].start_agent(&[]).unwrap();
        for amphora in &fabric.amphorae {
            amphora.wait_api(PATIENCE).unwrap();
        }
        Self { fabric, _peer: peer }
    }

    /// Sends every case to both, each to its own at its own pace, and returns the answers: ours, the Python agent's.
    pub(crate) fn ask(&self, cases: &[Case]) -> Vec<[String; 2]> {
        let side = |index: usize| {
            let (server, words) = (server(&self.fabric, index), words(&self.fabric, index));
            cases.iter().map(|case| answer(&server, &words, case)).collect::<Vec<_>>()
        };
        let (ours, theirs) = std::thread::scope(|scope| {
            let ours = scope.spawn(|| side(0));
            let theirs = side(1);
            (ours.join().unwrap(), theirs)
        });
        ours.into_iter().zip(theirs).map(|(ours, theirs)| [ours, theirs]).collect()
    }
}

/// Sends a case to one of them; the answer on one line.
pub(crate) fn answer(server: &Server, words: &Words, case: &Case) -> String {
    let sent = words.fill(&case.bytes);
    show(server.exchange(&sent, case.head_only), &sent, words, case)
}

/// How that amphora's agent is reached.
pub(crate) fn server(fabric: &Fabric, index: usize) -> Server {
    let amphora = &fabric.amphorae[index];
    Server {
        from: (*fabric.controller).clone(),
        address: SocketAddr::new(amphora.management(Family::V4), API_PORT),
        name: amphora.id().to_owned(),
        tls: fabric.pki.client(Some(fabric.pki.controller())).unwrap(),
    }
}

/// What the words of the corpus stand for there.
pub(crate) fn words(fabric: &Fabric, index: usize) -> Words {
    let amphora = &fabric.amphorae[index];
    let host = |base: u8| FRONTEND.host(base + amphora_host(index));
    let new = fabric.pki.server(amphora.id(), &[amphora.management(Family::V4)]).unwrap();
    let exploded = |ip: Ipv6Addr| ip.segments().map(|segment| format!("{segment:04x}")).join(":");
    Words::new(vec![
        ("hostname", amphora.name().to_owned()),
        ("amphora", amphora.id().to_owned()),
        ("nic", amphora.frontend_mac()),
        ("NIC", amphora.frontend_mac().to_uppercase()),
        ("member nic", member_mac(index)),
        ("front4", amphora.frontend(Family::V4).to_string()),
        ("front6", amphora.frontend(Family::V6).to_string()),
        ("vip4", host(60).v4.to_string()),
        ("vip6", host(60).v6.to_string()),
        ("VIP6 in full", exploded(host(60).v6)),
        ("member4", host(30).v4.to_string()),
        ("member6", host(30).v6.to_string()),
        ("vrrp4", host(80).v4.to_string()),
        ("second member4", host(40).v4.to_string()),
        ("gateway4", FRONTEND.host(tor_host(0)).v4.to_string()),
        ("gateway6", FRONTEND.host(tor_host(0)).v6.to_string()),
        ("configuration", amphora.node().read_file("/etc/octavia/amphora-agent.conf").unwrap()),
        ("server.pem", new.certificate + &new.key),
    ])
}

/// The controller's file says that topology; a second NIC waits for a member network; what the image has for haproxy is
/// there.
pub(crate) fn prepare(fabric: &Fabric, amphora: &Amphora, index: usize, topology: &str) {
    let node = amphora.node();
    let path = "/etc/octavia/amphora-agent.conf";
    let text = node.read_file(path).unwrap().replace("ACTIVE_STANDBY", topology);
    node.write_file(path, text, 0o600).unwrap();
    node.run(["mkdir", "-p", "/etc/octavia/amphora-agent.conf.d"]).unwrap();
    lab::peer::write_user_group(amphora).unwrap();
    fabric.frontend.plug(node, "ens8", Some(&member_mac(index))).unwrap();
}

fn member_mac(index: usize) -> String {
    format!("fa:16:3e:00:01:{:02x}", amphora_host(index))
}

/// An answer on one line: what is not here is not compared.
fn show(answer: Option<Answer>, sent: &[u8], words: &Words, case: &Case) -> String {
    let Some(answer) = answer else { return "closed without an answer".to_owned() };
    let mut text = answer.status.to_string();
    if answer.content_type != "application/json" && !(answer.content_type.is_empty() && answer.body.is_empty()) {
        text += &format!(" {}", answer.content_type);
    }
    if !answer.etag.is_empty() {
        text += &format!(" ETag {}", tag(&answer, sent, case.head_only));
    }
    if !answer.location.is_empty() {
        text += &format!(" Location {}", answer.location);
    }
    match answer.json() {
        Some(mut body) => {
            for key in case.shapes {
                if let Some(value) = body.get_mut(*key) {
                    *value = shape(value);
                }
            }
            text += &format!(" {body}");
        }
        None if answer.body.is_empty() => {}
        None => text += &format!(" {:?}", String::from_utf8_lossy(&answer.body)),
    }
    without_pids(&words.put_back(&text))
}

/// An `ETag` by what it is the digest of: the bodies of the two amphorae have their own addresses in them.
fn tag(answer: &Answer, sent: &[u8], head_only: bool) -> String {
    let md5 = |body: &[u8]| Md5::digest(body).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let end = sent.windows(4).position(|window| window == b"\r\n\r\n").map_or(sent.len(), |head| head + 4);
    if answer.etag == md5(&sent[end..]) {
        "md5(sent)".to_owned()
    } else if answer.etag == md5(&answer.body) {
        "md5(answer)".to_owned()
    } else if head_only && answer.etag.len() == 32 {
        "md5(of what is not here)".to_owned()
    } else {
        answer.etag.clone()
    }
}

/// haproxy's messages name its process: `(123)` becomes `(pid)`.
fn without_pids(text: &str) -> String {
    let mut parts = text.split('(');
    let mut all = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        let is_pid = digits > 0 && part[digits..].starts_with(')');
        all += "(";
        all += if is_pid { "pid" } else { &part[..digits] };
        all += &part[digits..];
    }
    all
}

/// A value with its type in place of every number, be it a JSON number or in a string.
fn shape(value: &Value) -> Value {
    match value {
        Value::Number(_) => "a number".into(),
        Value::String(text) if text.parse::<f64>().is_ok() => "a number in a string".into(),
        Value::Array(all) => all.iter().map(shape).collect(),
        Value::Object(all) => Value::Object(all.iter().map(|(key, value)| (key.clone(), shape(value))).collect()),
        other => other.clone(),
    }
}
