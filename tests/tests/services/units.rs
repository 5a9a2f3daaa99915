//! What only systemd's units have: that systemd finds no fault with them, and what they confine.

use std::process::Command;

use amphora_agent::services::{ReloadSignal, Service, ServiceName, Status};

use crate::inside::{Case, run};

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    format!("{}{}", String::from_utf8_lossy(&text), if output.status.success() { "" } else { "(failed)" })
}

fn path(name: &ServiceName) -> String {
    format!("/etc/systemd/system/{name}.service")
}

/// keepalived, as Octavia runs it.
fn keepalived(case: &Case) -> Service {
    let words = ["/usr/sbin/keepalived", "--dont-fork", "--log-console", "-f", "/var/lib/octavia/vrrp/keepalived.conf"];
    let words = words.map(str::to_owned).to_vec();
    let mut service = Service::new(ServiceName::new("units-keepalived").unwrap(), "keepalived of a test", words);
    (service.notify, service.reload) = (true, ReloadSignal::Hup);
    service.after = vec![case.name.clone()];
    service.sandbox.kernel_tunables = true;
    service.sandbox.capabilities = vec!["CAP_NET_ADMIN".to_owned(), "CAP_NET_RAW".to_owned()];
    service
}

#[test]
#[ignore = "the outer tests run it, in a machine of its own"]
fn units_are_valid_enabled_and_ordered() {
    run("units-haproxy", 8021, |case| async move {
        case.configure("one", "");
        let second = keepalived(&case);
        case.services.install(&case.haproxy()).await.unwrap();
        case.services.install(&second).await.unwrap();
        for name in [&case.name, &second.name] {
            assert_eq!(said("systemd-analyze", &["verify", &path(name)]), "");
            assert_eq!(said("systemctl", &["is-enabled", name.as_str()]), "enabled\n");
        }
        let after = said("systemctl", &["show", "-P", "After", second.name.as_str()]);
        for other in [&format!("{}.service", case.name), "amphora-netns.service"] {
            assert!(after.split_whitespace().any(|unit| unit == other), "{after}");
        }
        for service in [second.name, case.name.clone()] {
            case.services.remove(&service).await.unwrap();
            assert!(!std::path::Path::new(&path(&service)).exists());
            let left = format!("/etc/systemd/system/multi-user.target.wants/{service}.service");
            assert!(std::fs::symlink_metadata(left).is_err());
        }
    });
}

#[test]
#[ignore = "the outer tests run it, in a machine of its own"]
fn a_service_runs_in_the_namespace_and_in_its_sandbox() {
    run("units-sandbox", 8022, |case| async move {
        case.configure("one", "");
        case.services.install(&case.haproxy()).await.unwrap();
        case.services.start(&case.name).await.unwrap();
        let pid = case.pid().await;
        let ours = std::fs::metadata("/run/netns/amphora-haproxy").unwrap();
        let its = std::fs::metadata(format!("/proc/{pid}/ns/net")).unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::ino(&ours), std::os::unix::fs::MetadataExt::ino(&its));
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
        let security = said("systemd-analyze", &["security", "--threshold=50", &format!("{}.service", case.name)]);
        assert!(!security.contains("(failed)"), "{security}");
        println!("{}", security.lines().last().unwrap_or_default());
        case.services.remove(&case.name).await.unwrap();
    });
}

#[test]
#[ignore = "the outer tests run it, in a machine of its own"]
fn a_stop_that_meets_no_connection_waits_for_it_and_is_answered_by_its_job() {
    run("units-early", 8024, |mut case| async move {
        case.configure("one", "");
        case.services.install(&case.haproxy()).await.unwrap();
        for _ in 0..3 {
            case.services.start(&case.name).await.unwrap();
            case.another_agent(); // which is about to connect
            case.services.stop(&case.name).await.unwrap();
            assert_eq!(case.services.status(&case.name).await.unwrap(), Status::Inactive);
        }
        case.services.remove(&case.name).await.unwrap();
    });
}
