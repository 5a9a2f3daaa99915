use super::*;
use crate::services::ServiceName;

#[test]
fn a_unit_has_the_order_the_checks_and_the_sandbox() {
    let name = |text| ServiceName::new(text).unwrap();
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let mut service = Service::new(name("haproxy-1"), "HAProxy of 100% \\ of it\nall", words("/usr/sbin/haproxy -Ws"));
    service.checks = vec![words("/usr/sbin/haproxy -c")];
    service.before = vec![name("octavia-keepalived")];
    service.after = vec![name("a"), name("b")];
    (service.notify, service.reload, service.reload_forks) = (true, ReloadSignal::Usr2, true);
    service.environment.insert("A".to_owned(), "x \"y\" $z %n".to_owned());
    service.sandbox.capabilities = words("CAP_KILL CAP_NET_RAW");
    service.sandbox.writable = vec!["/var/lib/octavia".into()];
    let unit = render(&service, Path::new("/run/netns/amphora-haproxy"), Path::new("/usr/local/bin/amphora-agent"));
    for line in [
        "Description=HAProxy of 100%%   of it all",
        "Requires=amphora-netns.service",
        "After=network.target amphora-netns.service a.service b.service",
        "Before=amphora-withdraw.service octavia-keepalived.service",
        "Type=notify",
        "NetworkNamespacePath=/run/netns/amphora-haproxy",
        r#"Environment="A=x \"y\" $z %%n""#,
        r#"ExecStartPre="/usr/sbin/haproxy" "-c""#,
        r#"ExecStart="/usr/sbin/haproxy" "-Ws""#,
        r#"ExecReload="/usr/sbin/haproxy" "-c""#,
        r#"ExecReload="/usr/local/bin/amphora-agent" reload-main USR2 $MAINPID"#,
        "TimeoutStartSec=30000ms",
        "LimitNOFILE=2600000",
        "CapabilityBoundingSet=CAP_KILL CAP_NET_RAW",
        r#"ReadWritePaths=/run "-/var/lib/octavia""#,
        "ProtectKernelTunables=yes",
        "WantedBy=multi-user.target",
    ] {
        assert!(unit.lines().any(|l| l == line), "no line {line} in\n{unit}");
    }
    assert!(unit.starts_with(HEADER));
    let confined = |unit: &str| unit.contains("RestrictNamespaces=yes") && !unit.contains("@mount");
    assert!(confined(&unit));
    service.sandbox.namespaces = true;
    let unit = render(&service, Path::new("/run/netns/amphora-haproxy"), Path::new("/usr/local/bin/amphora-agent"));
    assert!(!unit.contains("RestrictNamespaces") && unit.contains("SystemCallFilter=@system-service chroot @mount\n"));
}

#[test]
fn a_word_stays_one_word_and_says_what_it_said() {
    assert_eq!(quote("a b", true), "\"a b\"");
    assert_eq!(quote("${X} 5% \\n \"", true), r#""$${X} 5%% \\n \"""#);
    assert_eq!(quote("a\nb\t", true), r#""a\x0ab\x09""#);
    assert_eq!(quote("$", false), "\"$\"");
}
