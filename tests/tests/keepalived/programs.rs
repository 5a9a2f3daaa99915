//! The programs keepalived runs, beside Octavia's own on the same ground.

use lab::workdir::built_program;
use lab::{Amphora, wait_for};

use crate::support::{PATIENCE, stock};

/// How a command in the amphora's root namespace ends.
fn code(amphora: &Amphora, command: &str) -> i32 {
    let said = amphora.node().run(["sh", "-c", &format!("{command} >/dev/null 2>&1; echo $?")]).unwrap();
    said.trim().parse().unwrap()
}

fn ours(program: &str) -> String {
    format!("{} {program}", built_program("amphora-agent").unwrap().display())
}

/// Octavia's own, where it is installed.
fn octavias(program: &str) -> Option<String> {
    let program = lab::octavia::environment().ok()?.join("bin").join(program);
    program.exists().then(|| program.display().to_string())
}

/// Answers one INIT with a chunk of that type: an SCTP member as far as a check sees.
const MEMBER: &str = r"
import socket, struct, sys
family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET
s = socket.socket(family, socket.SOCK_RAW, 132)
s.bind((sys.argv[1], 0))
print('ready', flush=True)
while True:
    data, peer = s.recvfrom(1500)
    at = (data[0] & 15) * 4 if family == socket.AF_INET else 0
    src, dst = struct.unpack_from('!HH', data, at)
    if dst != 9999 or data[at + 12] != 1:
        continue
    tag = data[at + 16:at + 20]
    kind = int(sys.argv[2])
    s.sendto(struct.pack('!HH', dst, src) + tag + bytes(4) + bytes([kind, 0, 0, 20]) + bytes(16), peer)
";

#[test]
fn an_sctp_member_is_up_refuses_is_silent_or_says_something_else() {
    let test = "an_sctp_member_is_up_refuses_is_silent_or_says_something_else";
    let fabric = stock("sctp", 1);
    let amphora = &fabric.amphorae[0];
    let node = amphora.node();
    node.write_file("/run/member.py", MEMBER, 0o600).unwrap();
    let theirs = octavias("amphora-health-checker");
    if theirs.is_none() {
        lab::skipped(test, "Octavia's own checker is not beside ours: run tests/octavia/install.sh");
    }
    for (kind, expected) in [(2, 0), (6, 1), (9, 3)] {
        for ip in ["127.0.0.1", "::1"] {
            let log = format!("member-{kind}-{}", ip.len());
            let mut python = lab::command(["python3", "/run/member.py", ip, &kind.to_string()]);
            let member = node.spawn(&log, &mut python).unwrap();
            let ready = || match std::fs::read_to_string(member.log()) {
                Ok(text) if text.contains("ready") => Ok(()),
                other => Err(format!("{other:?}")),
            };
            wait_for("the member listens", PATIENCE, ready).unwrap();
            for checker in [Some(ours("amphora-health-checker")), theirs.clone()].into_iter().flatten() {
                let got = code(amphora, &format!("{checker} sctp -t 20 {ip} 9999"));
                assert_eq!(got, expected, "{checker}: chunk {kind} from {ip}");
            }
            member.kill_and_wait().unwrap();
        }
    }
    for checker in [Some(ours("amphora-health-checker")), theirs].into_iter().flatten() {
        assert_eq!(code(amphora, &format!("{checker} sctp -t 1 127.0.0.1 9999")), 2, "{checker}: silence");
        assert_eq!(code(amphora, &format!("{checker} tcp 127.0.0.1 9999")), 1, "{checker}");
    }
    let ours = ours("amphora-health-checker");
    assert_eq!(code(amphora, &format!("{ours} udp 127.0.0.1 9999")), 1, "a closed port");
    node.sysctl("net/ipv4/ping_group_range", "0 2147483647").unwrap();
    assert_eq!(code(amphora, &format!("{ours} ping 127.0.0.1")), 0);
    assert_eq!(code(amphora, &format!("{ours} ping ::1")), 0);
    assert_eq!(code(amphora, &format!("{ours} ping {}", lab::addresses::MANAGEMENT.host(99).v4)) == 0, false);
}

#[test]
fn a_haproxy_is_checked_by_its_stats_socket() {
    let test = "a_haproxy_is_checked_by_its_stats_socket";
    let fabric = stock("vrrp-check", 1);
    let amphora = &fabric.amphorae[0];
    let node = amphora.node();
    let config = "global\n  stats socket /run/one.sock\ndefaults\n  mode http\n  timeout client 5s\nfrontend x\n  \
                  bind 127.0.0.1:81\n";
    node.write_file("/run/one.cfg", config, 0o600).unwrap();
    let haproxy = node.spawn("haproxy", &mut lab::command(["haproxy", "-db", "-f", "/run/one.cfg"])).unwrap();
    let theirs = octavias("haproxy-vrrp-check");
    if theirs.is_none() {
        lab::skipped(test, "Octavia's own check is not beside ours: run tests/octavia/install.sh");
    }
    let up = || if node.connect_unix("/run/one.sock").is_ok() { Ok(()) } else { Err("not yet") };
    wait_for("haproxy's socket", PATIENCE, up).unwrap();
    let checks: Vec<_> = [Some(ours("haproxy-vrrp-check")), theirs].into_iter().flatten().collect();
    for check in &checks {
        assert_eq!(code(amphora, check), 0, "{check}: none to check");
        assert_eq!(code(amphora, &format!("{check} /run/one.sock /run/one.sock")), 0, "{check}");
        assert_eq!(code(amphora, &format!("{check} /run/one.sock /run/absent.sock")), 1, "{check}");
    }
    haproxy.kill_and_wait().unwrap();
    for check in &checks {
        assert_eq!(code(amphora, &format!("{check} /run/one.sock")), 1, "{check}: dead");
    }
}

#[test]
fn masquerading_is_per_interface_and_twice_is_once() {
    let fabric = stock("masquerade", 1);
    let amphora = &fabric.amphorae[0];
    let node = amphora.node();
    let ours = ours("lvs-masquerade");
    let rules = |table: &str| node.run(["sh", "-c", &format!("nft list table {table} | tr -s ' \\t\\n' ' '")]).unwrap();
    for (family, table, ip) in [("ipv4", "ip octavia-ipv4", "ip"), ("ipv6", "ip6 octavia-ipv6", "ip6")] {
        // As Octavia's script leaves it for another interface.
        let old = format!(
            "add table {table}; add chain {table} {ip}-udp-masq {{ type nat hook postrouting priority 100; }}; \
             add rule {table} {ip}-udp-masq oifname \"eth1\" meta l4proto udp masquerade"
        );
        node.run(["nft", &old]).unwrap();
        for _ in 0..2 {
            for interface in ["eth1", "eth2"] {
                assert_eq!(code(amphora, &format!("{ours} add {family} {interface}")), 0);
            }
        }
        let text = rules(table);
        assert_eq!(text.matches(" meta l4proto ").count(), 4, "each rule once, and none of the old: {text}");
        for rule in [
            "oifname @masqueraded meta l4proto udp masquerade",
            "oifname @masqueraded meta l4proto sctp masquerade",
            "iifname @untracked meta l4proto tcp notrack",
            "oifname @untracked meta l4proto tcp notrack",
            "elements = { \"eth1\", \"eth2\" }",
        ] {
            assert!(text.contains(rule), "{rule}: {text}");
        }
        for _ in 0..2 {
            assert_eq!(code(amphora, &format!("{ours} delete {family} eth1")), 0);
        }
        let text = rules(table);
        assert!(text.contains("elements = { \"eth2\" }") && !text.contains("eth1"), "{text}");
        assert_eq!(code(amphora, &format!("{ours} delete {family} never-added")), 0);
    }
    assert_eq!(code(amphora, &format!("{ours} add ipv5 eth1")), 1);
}
