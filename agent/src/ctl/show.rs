//! What the API says, as pages for people. Nothing is judged here: what is degraded, and the fix, are the agent's words.

use std::{fmt::Write as _, time::Duration};

use serde_json::Value;

use super::{
    moment::{relative, rough},
    table::{Table, plain},
};
use crate::clock::{now, rfc3339};

/// A page, and whether something on it is not as it should be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) text: String,
    pub(super) degraded: bool,
}

/// A JSON value as a cell: nothing for null, a list with commas.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Array(all) => all.iter().map(cell).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

fn cells(row: &Value, keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| cell(&row[*key])).collect()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn since(value: &Value) -> String {
    value.as_u64().map(|seconds| relative(seconds, now())).unwrap_or_default()
}

/// `name  text` with the names in a column of their own.
fn line(text: &mut String, name: &str, what: &str) {
    text.push_str(format!("{name:<13}{}", plain(what)).trim_end());
    text.push('\n');
}

/// `GET /1.0/distributor/status`.
pub(super) fn status(status: &Value) -> Page {
    let mut text = String::new();
    let id = cell(&status["amphora_id"]);
    let up = status["started"].as_u64().map(|at| rough(Duration::from_secs(now().saturating_sub(at))));
    let agent = format!("amphora-agent {}, for {}", cell(&status["version"]), up.unwrap_or_default());
    line(&mut text, "amphora", &if id.is_empty() { "without amphora_id".to_owned() } else { id });
    line(&mut text, "agent", &agent);
    let config = &status["configuration"];
    let of = |key: &str| cell(&config[key]);
    let mode = format!(
        "role {}, vip_mode {}, announce {}, {}",
        of("role"),
        of("vip_mode"),
        of("announce"),
        of("loadbalancer_topology")
    );
    line(&mut text, "mode", &mode);
    let stale = list(&config["stale"]).count();
    let state = if stale == 0 { "in effect" } else { "stale" };
    line(&mut text, "config", &format!("{state}, taken {}", since(&config["taken"])));
    for (name, key) in [("server cert", "server"), ("client CA", "client_ca")] {
        let until = status["certificates"][key]["not_after"].as_u64();
        line(&mut text, name, &until.map_or_else(|| "end unknown".to_owned(), |at| format!("until {}", rfc3339(at))));
    }
    let speaker = &status["speaker"];
    let said = match speaker["up"].as_bool() {
        None => "none: BGP is not configured".to_owned(),
        Some(true) => {
            let version = cell(&speaker["version"]);
            let version = if version.is_empty() { "of an unknown version".to_owned() } else { version };
            format!("gobgpd {version}, AS {}", cell(&speaker["local_as"]))
        }
        Some(false) => "down".to_owned(),
    };
    line(&mut text, "speaker", &said);
    let (peers, up) = count(&status["peers"], |peer| peer["state"] == "Established");
    line(&mut text, "peers", &format!("{up} of {peers} established"));
    let (vips, announced) = count(&status["vips"], |vip| vip["announced"] == true);
    line(&mut text, "vips", &format!("{announced} of {vips} announced"));
    line(&mut text, "heartbeats", &heartbeats(&status["heartbeats"]));
    for problem in list(&status["problems"]) {
        line(&mut text, "DEGRADED", &cell(&problem["problem"]));
        line(&mut text, "  fix", &cell(&problem["fix"]));
    }
    warnings(&mut text, &status["warnings"]);
    Page { text, degraded: status["operating_status"] != "ONLINE" }
}

fn heartbeats(heartbeats: &Value) -> String {
    if let Some(why) = heartbeats["silent"].as_str() {
        return format!("none: {why}");
    }
    let sum = |key: &str| list(&heartbeats["targets"]).filter_map(|target| target[key].as_u64()).sum::<u64>();
    let (targets, failing) = count(&heartbeats["targets"], |target| target["last_error"].is_string());
    let (sent, failed) = (sum("sent"), sum("failed"));
    format!("{sent} sent, {failed} not, to {targets} health manager(s), of which {failing} cannot be reached")
}

fn count(all: &Value, good: impl Fn(&Value) -> bool) -> (usize, usize) {
    (list(all).count(), list(all).filter(|one| good(one)).count())
}

fn warnings(text: &mut String, said: &Value) {
    for warning in list(said) {
        line(text, "warning", &cell(warning));
    }
}

/// `GET /1.0/distributor/peers`, or those of `GET /1.0/distributor/status` with what is to be said of them.
pub(super) fn peers(said: &Value) -> Page {
    let peers = if said.is_array() { said } else { &said["peers"] };
    let mut table = Table::new(&["PEER", "ADDRESS", "AS", "STATE", "SINCE", "HOLD", "SENT", "ADD-PATH", "ERROR"]);
    for peer in list(peers) {
        let mut row = cells(peer, &["peer_id", "peer_ip", "remote_as", "state"]);
        row.push(since(&peer["since"]));
        row.extend(cells(peer, &["hold_time", "advertised", "add_path", "last_error"]));
        table.row(&row);
    }
    let (all, up) = count(peers, |peer| peer["state"] == "Established");
    let mut text = table.render("no peers are configured");
    warnings(&mut text, &said["warnings"]);
    Page { text, degraded: up < all }
}

/// The VIPs of `GET /1.0/distributor/status`.
pub(super) fn vips(vips: &Value) -> Page {
    let mut table = Table::new(&["VIP", "MODE", "NIC", "STATE", "NEXT HOP", "ADVERTISED TO", "REASON"]);
    for vip in list(vips) {
        table.row(&cells(vip, &["vip_ip", "vip_mode", "interface", "state", "nexthop_ip", "advertised_to", "reason"]));
    }
    let (_, degraded) = count(vips, |vip| vip["degraded"] == true);
    Page { text: table.render("no VIP is plugged or registered"), degraded: degraded > 0 }
}

/// `GET /1.0/distributor/amphorae`.
pub(super) fn routes(routes: &Value) -> Page {
    let heading =
        ["AMPHORA", "VIP", "NEXT HOP", "PEER", "ORIGIN", "PROVISIONING", "OPERATING", "ADVERTISED TO", "REASON"];
    let mut table = Table::new(&heading);
    for route in list(routes) {
        let mut row = cells(route, &["amphora_id", "vip_ip", "nexthop_ip"]);
        row.push(route["peer_id"].as_str().unwrap_or("all").to_owned());
        row.extend(cells(route, &["origin", "provisioning_status", "operating_status", "advertised_to"]));
        row.push(match &route["drain"] {
            Value::Object(_) => draining(&route["drain"]),
            _ => cell(&route["reason"]),
        });
        table.row(&row);
    }
    let (_, degraded) = count(routes, |route| route["degraded"] == true);
    Page { text: table.render("no amphora has a route here"), degraded: degraded > 0 }
}

fn draining(drain: &Value) -> String {
    let left = match drain["connections"].as_u64() {
        Some(left) => format!("{left} connections left, {} may stay", cell(&drain["max_connections"])),
        None => "connections not known".to_owned(),
    };
    let [stage, since, deadline] = ["stage", "since", "deadline"].map(|key| cell(&drain[key]));
    match stage.as_str() {
        "withdrawn" if drain["still_bound"].is_string() => {
            format!("draining, {stage} since {since}, and still bound: {}", cell(&drain["still_bound"]))
        }
        "drained" => format!("drained since {since}"),
        _ => format!("draining, {stage} since {since}: {left}, until {deadline}"),
    }
}

/// Those that are set.
fn attributes(of: &Value) -> String {
    let set = |key: &str| {
        let value = Some(cell(&of[key])).filter(|value| !value.is_empty() && (key, value.as_str()) != ("prepend", "0"));
        value.map(|value| format!("{key} {value}"))
    };
    let all: Vec<_> = ["communities", "med", "local_pref", "prepend"].into_iter().filter_map(set).collect();
    if all.is_empty() { "none but those of its peers".to_owned() } else { all.join(", ") }
}

/// `GET /1.0/distributor/why/{vip}`.
pub(super) fn why(why: &Value) -> Page {
    let (vip, route) = (cell(&why["vip_ip"]), &why["route"]);
    let (announced, reason) = (why["announced"] == true, why["reason"].as_str());
    let heard = cell(&route["advertised_to"]);
    let last = announced && why["verdict"] == "worse" && route["reason"].is_null();
    let mut text = match (announced, reason) {
        (true, Some(reason)) if last => {
            format!("{vip} is announced to {heard}, as the last resort only: {}\n", plain(reason))
        }
        (true, Some(reason)) if heard.is_empty() => format!("{vip} is announced to nobody: {}\n", plain(reason)),
        (true, None) => format!("{vip} is announced to {heard}\n"),
        (true, Some(reason)) => format!("{vip} is announced, but {}\n", plain(reason)),
        (false, reason) => {
            format!("{vip} is not announced: {}\n", plain(reason.unwrap_or("the speaker is being told")))
        }
    };
    if route.is_object() {
        let server = route["amphora_id"].as_str().map_or_else(String::new, |id| format!(", for amphora {id}"));
        let [prefix, hop, origin, status] =
            ["prefix", "nexthop_ip", "origin", "operating_status"].map(|key| cell(&route[key]));
        line(&mut text, "route", &format!("{prefix} by {hop}{server}, asked for by {origin}, {status}"));
        if route["drain"].is_object() {
            line(&mut text, "drain", &draining(&route["drain"]));
        }
    }
    if why["attributes"].is_object() {
        line(&mut text, "attributes", &attributes(&why["attributes"]));
    }
    if let Some(verdict) = why["verdict"].as_str() {
        line(&mut text, "gates say", verdict);
    }
    for note in list(&why["notes"]) {
        line(&mut text, "note", &cell(note));
    }
    if why["gates"].as_array().is_some_and(|gates| !gates.is_empty()) {
        let mut table = Table::new(&["GATE", "STATE", "SINCE", "EVIDENCE"]);
        for gate in list(&why["gates"]) {
            let state = match gate["open"].as_bool() {
                Some(true) => "open",
                Some(false) => "CLOSED",
                None => "unknown",
            };
            table.row(&[cell(&gate["gate"]), state.to_owned(), since(&gate["since"]), cell(&gate["evidence"])]);
        }
        text.push('\n');
        text.push_str(&table.render(""));
    }
    Page { text, degraded: why["degraded"] == true }
}

/// The answer of a call that changes something: its fields, or for a route its row.
pub(super) fn done(answer: &Value) -> Page {
    let mut text = String::new();
    if answer["prefix"].is_string() {
        text = routes(&Value::Array(vec![answer.clone()])).text;
    } else if let Some(all) = answer.as_array() {
        text = routes(&Value::Array(all.clone())).text;
    } else if answer["vips"].is_array() {
        let mut table = Table::new(&["VIP", "DRAIN"]);
        for vip in list(&answer["vips"]) {
            let drain = if vip["drain"].is_object() { draining(&vip["drain"]) } else { "none".to_owned() };
            table.row(&[cell(&vip["vip_ip"]), drain]);
        }
        text = table.render("this amphora has no VIP");
    } else if answer["routes"] == 0 {
        text.push_str("routes: 0 (nothing matched)\n");
    } else if let Some(fields) = answer.as_object() {
        for (name, value) in fields {
            let _ = writeln!(text, "{}: {}", name.replace('_', " "), plain(&cell(value))); // to a String
        }
    }
    Page { text, degraded: false }
}
