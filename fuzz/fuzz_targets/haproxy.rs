//! A haproxy.cfg of any text: judging it must not panic, and what passes has no directive that Octavia never writes,
//! however it is written.
#![no_main]

use std::{net::IpAddr, path::Path};

use amphora_agent::{
    haproxy::policy::{Surroundings, judge, words},
    loadbalancers::LbId,
};
use libfuzzer_sys::fuzz_target;

const FOREIGN: [&str; 12] = [
    "program", "lua-load", "chroot", "group", "setenv", "insecure-setuid-wanted", "crt-base", "errorfile", "listen", ".if",
    "stats-file", "unix-bind",
];

/// What haproxy would read as the expression that begins a text: `]` is plain between parentheses.
fn expression(text: &str) -> &str {
    let mut inside = false;
    let end = text.find(|c| {
        inside = if inside { c != ')' } else { c == '(' };
        c == ']' && !inside
    });
    &text[..end.unwrap_or(text.len())]
}

fuzz_target!(|text: &str| {
    let lb = LbId::new("lb").expect("an id");
    let vips: [IpAddr; 1] = ["203.0.113.7".parse().expect("an address")];
    let (base, certs) = (Path::new("/var/lib/octavia"), Path::new("/var/lib/octavia/certs"));
    if judge(text, &Surroundings { lb: &lb, base, certs, vips: &vips }).is_empty() {
        for line in text.split('\n') {
            let words = words(line).expect("it has passed");
            let first = words.first().map(String::as_str).unwrap_or_default();
            assert!(!FOREIGN.contains(&first), "{line:?}");
            if ["log-format", "redirect"].contains(&first) {
                let format = words.join(" ").replace("%%", "");
                for expression in format.split("%[").skip(1).map(expression) {
                    assert!(!["map", "lua.", "env("].iter().any(|name| expression.contains(name)), "{line:?}");
                }
            }
            assert!(first != "http-check" || !words.iter().any(|word| word.contains('%')), "{line:?}");
            assert!(!words.iter().any(|word| word.starts_with("unix@")) || ["acl", "option"].contains(&first), "{line:?}");
        }
    }
});
