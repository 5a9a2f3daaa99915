use std::fs;

use super::*;

const CONFIGURATION: &str = "# Configuration for loadbalancer 1
global
    stats socket /var/lib/octavia/1.sock mode 0666 level user

defaults
    mode http
frontend prometheus-exporter-internal-endpoint
    bind 127.0.0.1:9101
    mode http

# a remark between sections
frontend plain
    maxconn 1000
    bind 192.0.2.7:80
    mode http

frontend secure
    bind 192.0.2.7:443 ssl crt-list /var/lib/octavia/certs/1/secure.pem   ca-file /x
    mode http
frontend passed-on
    bind 192.0.2.7:8443
    mode tcp

backend pool:plain
    mode http
    bind 192.0.2.7:443 ssl crt-list /no/frontend
";

fn kinds(listeners: &[Listener]) -> Vec<(&str, &str, &str)> {
    listeners.iter().map(|l| (l.id.as_str(), l.kind.as_str(), l.status)).collect()
}

#[test]
fn listeners_are_the_frontends_with_their_modes() {
    let expected = [
        ("prometheus-exporter-internal-endpoint", "HTTP", "ACTIVE"),
        ("plain", "HTTP", "ACTIVE"),
        ("secure", "TERMINATED_HTTPS", "ACTIVE"),
        ("passed-on", "TCP", "ACTIVE"),
    ];
    assert_eq!(kinds(&frontends(CONFIGURATION)), expected);
    assert_eq!(kinds(&frontends("frontend a\nfrontend b\n  mode")), [("a", "TCP", "ACTIVE"), ("b", "", "ACTIVE")]);
    assert!(frontends("mode http\n\u{fffd}\n").is_empty());
}

#[test]
fn an_id_is_a_plain_name_and_no_directory_of_the_agents() {
    for good in ["6f4b2f0e-4a4e-4c1b-9f0a-0d3b7a1c2d3e", "123", "lb_1"] {
        assert!(LbId::new(good).is_some(), "{good}");
    }
    for bad in ["", "..", "a.b", "a/b", "certs", "vrrp", "lvs", "amphora-agent", &"x".repeat(65)] {
        assert!(LbId::new(bad).is_none(), "{bad}");
    }
}

#[test]
fn running_is_what_the_pid_files_say_and_the_kernel_confirms() {
    let root = tempfile::tempdir().unwrap();
    let base = root.path();
    assert_eq!(overview(&base.join("missing")).unwrap(), Overview::default());
    let write = |path: &str, text: &str| {
        let path = base.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let ours = format!("{}\n", std::process::id());
    write("up/haproxy.cfg", "frontend one\n    mode tcp\n");
    write("up/up.pid", &ours);
    write("stale/haproxy.cfg", "");
    write("stale/stale.pid", "4294967295");
    write("not-started/haproxy.cfg", "");
    write("certs/haproxy.cfg", "frontend never\n    mode tcp\n");
    write("empty/servers-state", "");
    write("stats_counters.json", "{}");
    for (id, conf, pid) in [
        ("active", "virtual_server group ipv4-group {\n}\n", Some(ours.as_str())),
        ("disabled", "# nothing\n", Some(ours.as_str())),
        ("died", "virtual_server x {\n}\n", Some("4294967295")),
        ("never-ran", "virtual_server x {\n}\n", None),
    ] {
        write(&format!("lvs/octavia-keepalivedlvs-{id}.conf"), conf);
        if let Some(pid) = pid {
            write(&format!("lvs/octavia-keepalivedlvs-{id}.pid"), pid);
        }
    }
    std::os::unix::fs::symlink(base.join("up"), base.join("linked")).unwrap();

    assert_eq!(running(base).unwrap(), [LbId::new("up").unwrap()]);
    assert_eq!(running(&base.join("missing")).unwrap(), []);
    let seen = overview(base).unwrap();
    assert_eq!((seen.haproxy_running, seen.lvs_running), (1, 2));
    assert_eq!(kinds(&seen.haproxy), [("one", "TCP", "ACTIVE")]);
    let lvs = [
        ("active", "UDP", "ACTIVE"),
        ("died", "UDP", "ERROR"),
        ("disabled", "UDP", "OFFLINE"),
        ("never-ran", "UDP", "OFFLINE"),
    ];
    assert_eq!(kinds(&seen.lvs), lvs);

    let read = |id| configuration(base, &LbId::new(id).unwrap()).unwrap();
    assert_eq!(read("stale").unwrap(), b"");
    assert_eq!((read("empty"), read("absent"), read("linked")), (None, None, None));
}
