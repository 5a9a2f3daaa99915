use std::{net::IpAddr, path::Path};

use proptest::prelude::*;

use super::{Surroundings, Unreadable, judge, pattern, tables::SECTIONS, words};
use crate::loadbalancers::LbId;

/// As Octavia writes it; `@` is where more goes.
const STOCK: &str = "\
# Configuration for loadbalancer lb
global
    daemon
    user nobody
    log /run/rsyslog/octavia/log local0
    log /run/rsyslog/octavia/log local1 notice
    stats socket /var/lib/octavia/lb.sock mode 0666 level user
    server-state-file /var/lib/octavia/lb/servers-state
@G
defaults
    log global
    option redispatch

peers lb_peers
    peer a-b 198.51.100.11:1025

frontend f
    bind 203.0.113.7:443 ssl crt-list /var/lib/octavia/certs/lb/f.pem verify none alpn h2,http/1.1
    bind 2001:db8::7:443
    acl rule req.hdr(X-Id) -m str a\\ b
    http-request deny if !rule
@F
backend p:f
    stick-table type ipv6 size 10k peers lb_peers
    server m 2001:db8::2:80 weight 1 check inter 5s fall 3 rise 2 cookie m ssl verify none sni ssl_fc_sni
@B
";

fn found(text: &str) -> Vec<String> {
    let lb = LbId::new("lb").unwrap();
    let vips: [IpAddr; 2] = ["203.0.113.7".parse().unwrap(), "2001:db8::7".parse().unwrap()];
    let (base, certs) = (Path::new("/var/lib/octavia"), Path::new("/var/lib/octavia/certs"));
    let around = Surroundings { lb: &lb, base, certs, vips: &vips };
    judge(text, &around).iter().map(ToString::to_string).collect()
}

/// The stock one with a line more, in `G`lobal, a `F`rontend or a `B`ackend.
fn with(section: char, line: &str) -> String {
    let text = STOCK.replace(&format!("@{section}\n"), &format!("{line}\n"));
    text.replace("@G\n", "").replace("@F\n", "").replace("@B\n", "")
}

#[test]
fn what_octavia_writes_passes() {
    assert_eq!(found(&with('G', "")), [""; 0]);
    assert_eq!(found(&with('G', "    tune.ssl.cachesize 5\r")), [""; 0]);
    assert_eq!(
        found(&with('F', "    acl color req.hdr(X-Color) -m str #ff0000\n    acl c path_end -m reg #")),
        [""; 0]
    );
    assert_eq!(found(&with('B', "    http-check send hdr Host a_b.example.com")), [""; 0]);
    let root = found(&with('G', "").replace("    user nobody\n", ""));
    assert_eq!(root, ["line 1, `global`: has no `user nobody`, without which haproxy stays root; add it"]);
}

/// Where, the line, and words of what is said of it.
#[test]
fn what_it_never_writes_is_named_with_its_line_and_the_fix() {
    for (section, line, said) in [
        (
            'G',
            "chroot /tmp",
            "line 9, `chroot /tmp`: Octavia's templates have no such directive in `global`; remove it",
        ),
        ('G', "user root", "`user root`: Octavia's templates write that directive in `global` as `user nobody`"),
        ('G', "group root", "no such directive"),
        ('G', "lua-load /tmp/x.lua", "no such directive"),
        ('G', "lua-load-per-thread /tmp/x.lua", "no such directive"),
        ('G', "lua-prepend-path /tmp", "no such directive"),
        ('G', "stats socket /tmp/x mode 0666 level admin", "write it so"),
        ('G', "stats socket /var/lib/octavia/lb.sock mode 0666 level user expose-fd listeners", "write it so"),
        ('G', "log 198.51.100.9:514 local0", "write it so"),
        ('G', "server-state-file /etc/shadow", "write it so"),
        ('G', "setenv A b", "no such directive"),
        ('G', "presetenv A b", "no such directive"),
        ('G', "insecure-setuid-wanted", "no such directive"),
        ('G', "crt-base /etc", "no such directive"),
        ('G', "ca-base /etc", "no such directive"),
        ('G', "ssl-load-extra-files all", "no such directive"),
        ('G', "MAXCONN 5", "no such directive"),
        ('G', "no log", "no such directive"),
        ('G', "default maxconn 5", "no such directive"),
        ('G', ".if true", "no such directive"),
        ('G', ".include /etc/x", "no such directive"),
        ('G', "[x]", "no such directive"),
        ('G', "program x", "no such section; remove it"),
        ('G', "listen x", "no such section"),
        ('G', "global x", "begin that section as `global`"),
        ('G', "frontend x from y", "begin that section as `frontend <id>`"),
        ('F', "bind 0.0.0.0:80", "0.0.0.0 is no VIP of this amphora (203.0.113.7, 2001:db8::7); bind a VIP, or plug"),
        ('F', "bind 192.0.2.21:9443", "192.0.2.21 is no VIP"),
        ('F', "bind :80", "write it so"),
        ('F', "bind 203.0.113.7:80-90", "write it so"),
        ('F', "bind 203.0.113.7:80,192.0.2.1:80", "write it so"),
        ('F', "bind unix@/tmp/x", "write it so"),
        ('F', "bind abns@x", "write it so"),
        ('F', "bind fd@3", "write it so"),
        ('F', "bind 203.0.113.7:80 namespace x", "give `bind` no option `namespace`; remove it"),
        ('F', "bind 203.0.113.7:80 user root", "no option `user`"),
        (
            'F',
            "bind 203.0.113.7:443 ssl crt /etc/octavia/certs/server.pem",
            "`crt-list|crt|ca-file|crl-file <certificate>`",
        ),
        ('F', "bind 203.0.113.7:443 ssl crt /var/lib/octavia/certs/lb/../x.pem", "write it so"),
        ('F', "bind 203.0.113.7:443 ssl crt /var/lib/octavia/certs/lb/..", "write it so"),
        ('F', "bind 203.0.113.7:443 ssl crt", "write it so"),
        ('F', "errorfile 503 /etc/shadow", "no such directive"),
        ('F', "acl x path -f /etc/shadow", "write it so"),
        ('F', "acl x path,map(/etc/shadow) -m str y", "write it so"),
        ('F', "acl x req.hdr(a),lua.b(c) -m str y", "write it so"),
        ('F', "acl x path -m str a\tb", "write it so"),
        ('F', "http-request lua.x", "write it so"),
        ('F', "http-request return file /etc/shadow", "write it so"),
        ('F', "http-request deny if { path /x }", "write it so"),
        ('F', "redirect location http://h/%[env(HOME)] if rule", "write it so"),
        ('F', "redirect location http://h/ code 302 if rule", "write it so"),
        ('F', "log-format %[src,map(/etc/shadow)]", "write it so"),
        ('F', "log-format %{+Q}[lua.x]", "write it so"),
        ('F', "log-format %[str(a]),map(/etc/shadow)]", "write it so"),
        ('F', "log-format %[hdr(a]),map(/etc/shadow)]", "write it so"),
        ('F', "redirect location http://h/%[hdr(a]),map(/etc/shadow)] if rule", "write it so"),
        ('F', "redirect prefix http://h/%\\x5bhdr(a]),lua.x]", "write it so"),
        ('F', "filter compression", "no such directive"),
        ('F', "stats admin if TRUE", "no such directive"),
        ('F', "monitor-uri \"$HOME\"", "environment variable; write what it stands for"),
        ('F', "mode 'http", "a quote that does not end"),
        ('F', "mode http\\x", "two hexadecimal digits"),
        ('F', "mode\x0bhttp", "control character"),
        ('F', "mode http\rchroot", "control character"),
        ('F', "mode\\x00 http", "control character"),
        ('B', "external-check command /bin/sh", "as `external-check command /var/lib/octavia/ping-wrapper.sh`"),
        ('B', "external-check path /tmp", "write it so"),
        ('B', "http-check send hdr Host %[str(a]),map(/etc/shadow)]", "as `http-check send hdr Host <domain>`"),
        ('B', "http-check send hdr Host %H", "write it so"),
        ('B', "server x unix@/run/x weight 1", "write that directive"),
        ('B', "server x /run/docker.sock weight 1", "write it so"),
        ('B', "server x sockpair@3 weight 1", "write it so"),
        ('B', "server x name.example.com:80 weight 1", "write it so"),
        ('B', "server x 192.0.2.4:80 weight 1 source 0.0.0.0 usesrc client", "no option `source`"),
        ('B', "server x 192.0.2.4:80 weight 1 ssl ca-file /etc/shadow", "`ca-file` as"),
        ('B', "server x 192.0.2.4:80 weight 1 socks4 1.2.3.4:5", "no option `socks4`"),
        ('B', "use-server x if TRUE", "no such directive"),
        ('B', "option httpchk GET / HTTP/1.0 x", "write that directive"),
    ] {
        let found = found(&with(section, line));
        assert!(found.len() == 1 && found[0].contains(said), "{line}\n{found:#?}");
        assert!(!found[0].contains(|c: char| c.is_control()), "{found:?}");
    }
    assert!(found("daemon\n")[0].contains("stands before any section"));
    let many = found(&with('G', &"chroot /\n".repeat(1000)));
    assert_eq!(many.len(), super::MOST);
}

#[test]
fn words_are_haproxys() {
    let all = |line: &str| words(line).unwrap().join("|");
    for (line, expected) in [
        ("", ""),
        ("  a\t b  # c", "a|b"),
        ("a#b", "a"),
        (r"a\#b", "a#b"),
        (r"a\ b", "a b"),
        (r#""a b"c 'd"e'"#, r#"a bc|d"e"#),
        (r#"'a\ b' "a\ b""#, r"a\ b|a b"),
        (r"\x63hroot", "chroot"),
        (r"'\x63'", r"\x63"),
        (r"a\zb ab\", r"a\zb|ab\"),
        (r#"\$a "\$a" $a"#, r"\$a|$a|$a"),
        (r#""""#, ""),
        (r"a\tb", "a\tb"),
    ] {
        assert_eq!(all(line), expected, "{line}");
    }
    assert_eq!(words(r#""$A""#), Err(Unreadable::Variable));
    assert_eq!(words(r#""a"#), Err(Unreadable::Quote));
}

#[test]
fn every_class_of_the_tables_is_one_that_exists() {
    let lb = LbId::new("lb").unwrap();
    let vip: IpAddr = "203.0.113.7".parse().unwrap();
    let (base, certs) = (Path::new("/b"), Path::new("/c"));
    let around = Surroundings { lb: &lb, base, certs, vips: &[vip] };
    let some = ["5", "203.0.113.7", "203.0.113.7:80", "/b/lb.sock", "/b/lb/servers-state", "/c/lb/x.pem", "max-age=0;"];
    let patterns = SECTIONS.iter().flat_map(|(section, directives)| {
        let all = directives.iter().flat_map(|d| [d.pattern].into_iter().chain(d.options.iter().copied()));
        [*section].into_iter().chain(all)
    });
    let mut classes = 0;
    for word in patterns.flat_map(|pattern| pattern.split([' ', '|'])) {
        let Some((_, class, _)) = pattern::class_in(word) else { continue };
        assert!(some.iter().any(|word| pattern::is(class, word, &around)), "<{class}> is no class");
        classes += 1;
    }
    assert!(classes > 40);
}

/// A line written so that haproxy takes it for the same words: letters as escapes, between quotes, with tabs and blanks.
fn hidden(line: &str) -> impl Strategy<Value = String> + use<> {
    let words: Vec<String> = line.split(' ').map(ToOwned::to_owned).collect();
    let word = |word: String| {
        let pieces: Vec<_> = word
            .chars()
            .map(|c| {
                let hex = format!("\\x{:02x}", u32::from(c));
                let upper = format!("\\x{:02X}", u32::from(c));
                prop::sample::select(vec![
                    c.to_string(),
                    c.to_string(),
                    hex.clone(),
                    upper,
                    format!("\"{c}\""),
                    format!("'{c}'"),
                    format!("\"{hex}\""),
                    format!("''{c}\"\""),
                ])
            })
            .collect();
        pieces.prop_map(|pieces| pieces.concat())
    };
    let words: Vec<_> = words.into_iter().map(word).collect();
    let blanks = "[ \t]{1,3}";
    (words, prop::collection::vec(blanks, 8), "[ \t]{0,3}", prop::sample::select(vec!["", "\r", " # x", "#"])).prop_map(
        |(words, blanks, before, after)| {
            let spaced = words.iter().zip(&blanks).map(|(word, blank)| format!("{word}{blank}"));
            format!("{before}{}{after}", spaced.collect::<String>())
        },
    )
}

fn forbidden() -> impl Strategy<Value = (&'static str, String)> {
    let all = vec!["lua-load /x", "chroot /x", "user root", "stats socket /x", "program x", "setenv A b", ".if true"];
    prop::sample::select(all).prop_flat_map(|line| (Just(line), hidden(line)))
}

proptest! {
    #[test]
    fn no_way_of_writing_hides_a_directive((line, hidden) in forbidden()) {
        let plain: Vec<_> = line.split(' ').map(ToOwned::to_owned).collect();
        prop_assert_eq!(words(&hidden), Ok(plain), "{}", hidden);
        prop_assert_eq!(found(&with('G', &hidden)).len(), 1, "{}", hidden);
    }

    #[test]
    fn nor_of_writing_one_that_is_allowed_forbids_it(hidden in hidden("user nobody")) {
        prop_assert_eq!(found(&with('G', &hidden)), [""; 0], "{}", hidden);
    }

    #[test]
    fn no_text_is_too_odd(text in "(\\PC|[\n\t\r\\\\\"'#$ ]){0,200}", section in "[GFB]") {
        let _ = found(&with(section.chars().next().unwrap(), &text));
    }
}
