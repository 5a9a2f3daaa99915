//! haproxy as the agent runs it under systemd, with a health monitor of type PING as Octavia has it.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use amphora_agent::config::{HaproxyPolicy, Paths};
use amphora_agent::haproxy::{Haproxy, Setting};
use amphora_agent::loadbalancers::LbId;
use lab::amphora::HAPROXY_NETNS;
use netns::Namespace;

use crate::inside::{PATIENCE, run};

const BASE: &str = "/var/lib/octavia";
/// In Debian a program with a file capability, which nobody can execute whose bounding set is without it.
const PING: &str = "/bin/ping -q -n -w 1 -c 1 $HAPROXY_SERVER_ADDR";

/// What haproxy's last check of the member said: `PROCOK`, or what was wrong.
fn checked(lb: &LbId) -> String {
    let mut stream = UnixStream::connect(format!("{BASE}/{lb}.sock")).unwrap();
    stream.write_all(b"show stat\n").unwrap();
    let mut stat = String::new();
    stream.read_to_string(&mut stat).unwrap();
    let column = |line: &str, name: &str| {
        let at = stat.lines().next().unwrap().split(',').position(|column| column == name).unwrap();
        line.split(',').nth(at).unwrap().to_owned()
    };
    let member = stat.lines().find(|line| line.contains(",member,")).unwrap();
    column(member, "check_status")
}

#[test]
#[ignore = "the outer tests run it, in a machine of its own"]
fn a_ping_monitor_finds_its_member_up() {
    run("ping", 8025, |case| async move {
        let wrapper = format!("{BASE}/ping-wrapper.sh");
        fs::create_dir_all(BASE).unwrap();
        fs::write(&wrapper, format!("#!/bin/bash\n{PING} > /dev/null 2>&1\n")).unwrap();
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
        let inside = Namespace::find(HAPROXY_NETNS).unwrap().unwrap();
        // As Octavia's image has it.
        inside.run(|| fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647")).unwrap().unwrap();
        let lb = LbId::new("c0000000-0000-4000-8000-000000000031").unwrap();
        let paths = Paths {
            base: BASE.into(),
            certs: format!("{BASE}/certs").into(),
            haproxy: "/usr/sbin/haproxy".into(),
            network: None,
        };
        let setting = Setting {
            paths: Arc::new(paths),
            amphora_id: Some("a".to_owned()),
            active_standby: false,
            policy: HaproxyPolicy::Warn,
            vips: Vec::new(),
        };
        let haproxy = Haproxy::new(case.services.clone(), inside, None);
        let configuration = format!(
            "global\n  user nobody\n  stats socket {BASE}/{lb}.sock mode 0666 level user\n  maxconn 100\n  \
             external-check\n  insecure-fork-wanted\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 5s\n  \
             timeout server 5s\nbackend b\n  option external-check\n  external-check command {wrapper}\n  \
             server member 127.0.0.1:9 check inter 1s fall 1 rise 1\n"
        );
        haproxy.upload(&setting, &lb, "a".to_owned(), configuration.into()).await.unwrap();
        haproxy.start(&setting, &lb).await.unwrap();
        let begin = std::time::Instant::now();
        loop {
            match checked(&lb).as_str() {
                "PROCOK" => break,
                // Not checked yet, or at it.
                "INI" | "" | "* INI" if begin.elapsed() < PATIENCE => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                other => panic!("{other}"),
            }
        }
        haproxy.delete(&setting, &lb).await.unwrap();
    });
}
