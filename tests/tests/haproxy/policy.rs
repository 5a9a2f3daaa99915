//! `haproxy_policy`: whatever Octavia's own templater renders passes, what haproxy would read otherwise does not, and the
//! API refuses it or says so.

use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use amphora_agent::haproxy::policy::{Surroundings, Violation, judge, words};
use amphora_agent::loadbalancers::LbId;
use lab::{Fabric, Options, TorKind, addresses, octavia, wait_for};
use nix::sys::signal::Signal;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::Value;

use crate::support::{BASE, LB, PATIENCE, answer};

const RENDERED: usize = 400;
const LINES: usize = 4000;

fn found(text: &str, lb: &str, vips: &[IpAddr]) -> Vec<Violation> {
    let lb = LbId::new(lb).unwrap();
    let (base, certs) = (Path::new(BASE), Path::new("/var/lib/octavia/certs"));
    judge(text, &Surroundings { lb: &lb, base, certs, vips })
}

/// What the templates can write, a piece of each line and of each choice in it, with bars between.
const WRITTEN: &str = "nbthread 3|cpu-map auto:1/1-3 1-3|tune.ssl.cachesize|server-state-file|insecure-fork-wanted|no log|\
    peers |peer |bind 127.0.0.1:9101|server prometheus-internal 127.0.0.1:9102|use-service|http-reuse safe|\
    redirect scheme https|max-age=0;|includeSubDomains; preload;|crt-list|ca-file|crl-file|ciphers|\
    ciphersuites|no-sslv3|no-tlsv13|alpn h2|check-alpn|verify optional|verify required|verify none|\
    ssl_c_used|ssl_c_verify eq 19|ssl_c_s_dn(O)|req.cook(|req.hdr(host) -i|path_end|-m reg|-m beg|-m end|\
    -m sub|-m str|http-request deny if|redirect code 308 location|redirect location|redirect code 301 prefix|\
    use_backend|default_backend prometheus-exporter-internal|if !|inspect-delay|log-format|balance source|\
    balance leastconn|type ipv6 size 10k\n|type ipv6 size 10k peers|type string len 64 size 10k peers|\
    stick on src|stick store-response|cookie SRV|load-server-state|option httpchk|HTTP/1.1\n|\
    http-check send hdr Host|rstatus 200\n|option external-check|external-check command|option forwardfor|\
    X-Forwarded-Port|X-Forwarded-Proto https|X-SSL-Client-Verify|X-SSL-Client-Not-After|fullconn|check-ssl|\
    addr 2001:db8::9 port 8080| cookie |send-proxy\n|send-proxy-v2|send-proxy-v2-ssl-cn|backup|disabled|\
    ssl crt |sni ssl_fc_sni|weight 256|option splice";

#[test]
fn whatever_octavia_renders_passes_and_what_a_tenant_smuggles_in_does_not() {
    if let Err(error) = octavia::environment() {
        return lab::skipped("haproxy-policy", &error.to_string());
    }
    let (mut lines, mut hostile, mut all) = (0, 0, String::new());
    for rendered in octavia::corpus(RENDERED, 1).unwrap() {
        let text = |key: &str| rendered[key].as_str();
        let vips: Vec<IpAddr> = serde_json::from_value(rendered["vips"].clone()).unwrap();
        let cfg = text("text").unwrap();
        let found = found(cfg, text("lb").unwrap(), &vips);
        match text("hostile") {
            None => assert!(found.is_empty(), "{found:#?}"),
            Some(directive) => {
                let directive = directive.trim().split('\t').next().unwrap();
                assert!(!found.is_empty(), "{directive}\n{cfg}");
                assert!(found.iter().all(|one| one.text.starts_with(directive)), "{directive}: {found:#?}");
                hostile += 1;
            }
        }
        lines += cfg.lines().count();
        all += cfg;
    }
    println!("{RENDERED} configurations of {lines} lines passed, but for {hostile} with a directive smuggled in");
    assert!(hostile > RENDERED / 50, "too few to tell");
    for written in WRITTEN.split('|') {
        assert!(all.contains(written), "no `{written}` was rendered: the dice are to be thrown otherwise");
    }
}

#[test]
fn lines_are_taken_apart_as_haproxy_takes_them_apart() {
    // haproxy says the word back that follows `.notice`, or that it has too many, or why it reads none.
    let line = "([a-c]|[ \t\"'#$\\\\{}~.]|\\\\[nrtx# '\"$z\\\\]|\\\\x[0-9a-fA-F]{2}|\\$[a-c]|ü){1,10}";
    let (mut runner, line) = (TestRunner::deterministic(), prop::string::string_regex(line).unwrap());
    let lines: Vec<String> = (0..LINES).map(|_| line.new_tree(&mut runner).unwrap().current()).collect();
    let (mut good, mut expected, mut bad) = (String::new(), Vec::new(), Vec::new());
    for line in &lines {
        match words(line) {
            // What it says back takes a line of its own, and is not empty.
            Ok(words) => match words.as_slice() {
                [word] if !word.is_empty() && !word.contains(['\n', '\r']) && word.is_ascii() => {
                    writeln!(good, ".notice {line}").unwrap();
                    expected.push(word.clone());
                }
                _ => {}
            },
            Err(unreadable) => bad.push((line, unreadable)),
        }
    }
    let said = haproxy(&good);
    let said: Vec<&str> =
        said.lines().filter_map(|l| l.split_once("]: '")).filter_map(|(_, word)| word.strip_suffix("'.")).collect();
    println!("{} lines of one word and {} unreadable ones, of {LINES}", expected.len(), bad.len());
    assert!(expected.len() > LINES / 10 && bad.len() > LINES / 10);
    assert_eq!(said, expected);
    // What it refuses itself; a variable and a NUL it reads, but not as they stand there.
    for (line, unreadable) in bad.iter().filter(|(line, _)| !line.contains('$') && !line.contains("\\x00")).take(40) {
        let said = haproxy(&format!(".notice {line}\n"));
        assert!(
            said.contains("unmatched quote") || said.contains("hexadecimal sequence"),
            "{line} {unreadable}: {said}"
        );
    }
}

/// What haproxy says to a configuration.
fn haproxy(text: &str) -> String {
    let directory = lab::Workdir::new("haproxy-words").unwrap();
    let file = directory.path().join("haproxy.cfg");
    std::fs::write(&file, format!("{text}global\n    maxconn 5\n")).unwrap();
    let output = Command::new("haproxy").arg("-c").arg("-f").arg(&file).output().unwrap();
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// As Octavia renders it; `more` is a line of `global`.
fn rendered(more: &str) -> String {
    format!(
        "# Configuration for loadbalancer {LB}
global
    daemon
    user nobody
    log /run/rsyslog/octavia/log local0
    stats socket {BASE}/{LB}.sock mode 0666 level user
{more}
defaults
    log global
    retries 3

frontend listener
    maxconn 1000
    bind 203.0.113.7:80
    mode http
    timeout client 50000
"
    )
}

#[test]
fn what_octavia_does_not_write_is_refused_before_haproxy_sees_it_or_logged() {
    let mut options = Options::new(TorKind::Bird);
    options.amphorae = 1;
    let fabric = Fabric::new("haproxy-policy", &options).unwrap();
    let (amphora, vip) = (&fabric.amphorae[0], addresses::vip(7));
    let policy = |policy: &str| amphora.write_config(&format!("[distributor]\nhaproxy_policy = {policy}\n")).unwrap();
    policy("enforce");
    amphora.start_agent(&[]).unwrap();
    let mut api = amphora.wait_api(PATIENCE).unwrap().0;
    let path = format!("/1.0/loadbalancer/{}/{LB}/haproxy", amphora.id());
    let upload = |text: String| -> (u16, Value) {
        answer(amphora.api().unwrap().send(hyper::Method::PUT, &path, &[], text.into_bytes()))
    };
    let (status, body) = upload(rendered(""));
    assert_eq!(status, 400, "{body}");
    assert!(
        body["details"].as_str().unwrap().contains("203.0.113.7 is no VIP of this amphora (none is plugged)"),
        "{body}"
    );
    api.plug_vip(vip.v4.into(), &amphora.plug_body(vip)).unwrap().success().unwrap();
    assert_eq!(upload(rendered("")).0, 202);

    // haproxy would run it as root to see whether it is in order.
    let script = "core.register_init(function() io.open('/run/lua-ran', 'w'):close() end)";
    amphora.node().write_file("/run/x.lua", script, 0o644).unwrap();
    let hostile = rendered("    \"lua-\"lo\\x61d /run/x.lua");
    let (status, body) = upload(hostile.clone());
    assert_eq!((status, &body["message"]), (400, &"Invalid request".into()), "{body}");
    let details = body["details"].as_str().unwrap();
    let said = "haproxy_policy = enforce: line 7, `\\\"lua-\\\"lo\\\\x61d /run/x.lua`: Octavia's templates have no such \
                directive in `global`; remove it";
    assert!(details.contains(said), "{details}");
    assert!(amphora.node().read_file("/run/lua-ran").is_err(), "haproxy has read it");
    let file = format!("{BASE}/{LB}/haproxy.cfg");
    assert_eq!(amphora.node().read_file(&format!("{file}.new-failed")).unwrap(), hostile);
    assert_eq!(amphora.node().read_file(&file).unwrap(), rendered(""), "the old one stays");

    policy("warn");
    amphora.agent().unwrap().kill(Signal::SIGHUP).unwrap();
    let harmless = rendered("    chroot /tmp");
    wait_for("the policy is another", PATIENCE, || match upload(harmless.clone()) {
        (202, _) => Ok(()),
        (status, body) => Err(format!("{status} {body}")),
    })
    .unwrap();
    assert_eq!(amphora.node().read_file(&file).unwrap(), harmless);
    let log = std::fs::read_to_string(amphora.agent().unwrap().log()).unwrap();
    let warned: Vec<_> = log.lines().filter(|line| line.contains("what Octavia's templates do not write")).collect();
    assert!(warned.len() == 1 && warned[0].contains("chroot /tmp"), "{warned:?}");
}
