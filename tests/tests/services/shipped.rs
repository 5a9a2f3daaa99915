//! What is shipped for a machine that systemd boots: its units, and keepalived in its sandbox.

use std::fs;
use std::process::Command;

use amphora_agent::services::{Backend, Direct, Service, ServiceError, Services, Status};
use amphora_agent::{keepalived, keepalivedlvs, loadbalancers::LbId, vrrp};
use lab::wait_for;

use crate::inside::{PATIENCE, places, processes, run};

/// What a command said, and whether it went well.
fn ask(line: &str) -> (bool, String) {
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).trim().to_owned())
}

#[test]
#[ignore = "the outer tests run it, in a machine of its own"]
fn the_namespace_is_prepared_and_cannot_be_stopped_by_hand() {
    for unit in ["amphora-agent", "amphora-netns", "amphora-withdraw"] {
        let verified = ask(&format!("systemd-analyze verify /etc/systemd/system/{unit}.service"));
        assert_eq!(verified, (true, String::new()), "{unit}");
    }
    for key in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding", "net.ipv4.ip_nonlocal_bind"] {
        let inside = format!("nsenter --net=/run/netns/amphora-haproxy sysctl -n {key}");
        assert_eq!(ask(&inside), (true, "1".to_owned()), "{key}");
    }
    for (action, unit) in [("restart", "amphora-netns"), ("stop", "amphora-netns"), ("stop", "amphora-withdraw")] {
        let (well, said) = ask(&format!("systemctl {action} {unit}"));
        assert!(!well && said.contains("by dependency only"), "{action} {unit}: {said}");
    }
}

/// Without its certificates it cannot start; they may come.
#[test]
#[ignore = "the outer tests run it, in a machine of its own"]
fn an_agent_that_cannot_start_is_tried_for_ever() {
    fs::create_dir_all("/etc/octavia").unwrap();
    let conf = "[amphora_agent]\namphora_id = x\nagent_server_cert = /nowhere\nagent_server_ca = /nowhere\n";
    fs::write("/etc/octavia/amphora-agent.conf", conf).unwrap();
    let _ = ask("systemctl --no-block start amphora-agent");
    let often = || match ask("systemctl show -P NRestarts amphora-agent").1.parse::<u32>() {
        Ok(8..) => Ok(()),
        other => Err(format!("{other:?} {}", ask("systemctl status amphora-agent").1)),
    };
    wait_for("more attempts than systemd's own limit", PATIENCE, often).unwrap();
    assert_eq!(ask("systemctl stop amphora-agent"), (true, String::new()));
}

/// Octavia's configurations for UDP and SCTP say `net_namespace` (`keepalivedlvs.cfg.j2`).
#[test]
#[ignore = "the outer tests run it, in a machine of its own"]
fn a_keepalived_enters_the_namespace_of_its_configuration() {
    run("lvs-sandbox", 8041, |case| async move {
        let conf = case.directory().join("keepalived.conf");
        let text = "net_namespace amphora-haproxy\nvrrp_instance x {\n  interface keep0\n  virtual_router_id 9\n  \
                    priority 9\n  virtual_ipaddress {\n    10.99.0.1/32\n  }\n}\n";
        fs::write(&conf, text).unwrap();
        let pids = [("-p", case.directory().join("pid")), ("-r", case.directory().join("vrrp.pid"))];
        let service = keepalived::service(case.name.clone(), "keepalived of a test", &conf, 0, &pids);
        let service = Service { notify: keepalived::notifies(&case.services), ..service };
        case.services.install(&service).await.unwrap();
        keepalived::start(&case.services, &case.name, &pids[1].1).await.unwrap();
        let master = || match ask("ip -n amphora-haproxy -o address show dev keep0").1 {
            said if said.contains(" 10.99.0.1/32 ") => Ok(()),
            said => Err(format!("{said} {}", ask(&format!("systemctl status {}", case.name)).1)),
        };
        wait_for("it is the master", PATIENCE, master).unwrap();
        assert!(matches!(case.services.status(&case.name).await.unwrap(), Status::Active { .. }));
        case.services.remove(&case.name).await.unwrap();
    });
}

/// keepalived tells only systemd itself that it is ready.
#[test]
#[ignore = "the outer tests run it, in a machine of its own"]
fn a_keepalived_of_the_agents_own_is_not_waited_for_in_vain() {
    run("notified", 8042, |case| async move {
        let direct = Services::new(Backend::Direct(Direct::open(places(case.directory())).unwrap()));
        let listener = LbId::new("1").unwrap();
        for (services, notify) in [(&case.services, true), (&direct, false)] {
            assert_eq!(vrrp::service(services, case.directory(), 0).notify, notify);
            assert_eq!(keepalivedlvs::service(services, case.directory(), &listener, 0).notify, notify);
        }
    });
}

/// A machine that Octavia's Python agent has set up, taken over while it runs.
#[test]
#[ignore = "the outer tests run it, in a machine of its own"]
fn upstreams_units_are_stopped_and_removed() {
    run("upstreams", 8043, |case| async move {
        let file = format!("/usr/lib/systemd/system/{}.service", case.name);
        let unit = "[Service]\nType=exec\nExecStart=/bin/sleep 98704\n[Install]\nWantedBy=multi-user.target\n";
        for stop_first in [true, false] {
            fs::write(&file, unit).unwrap();
            assert!(ask("systemctl daemon-reload").0 && ask(&format!("systemctl -q enable --now {}", case.name)).0);
            assert!(matches!(case.services.status(&case.name).await.unwrap(), Status::Active { .. }));
            if stop_first {
                case.services.stop(&case.name).await.unwrap();
                assert!(processes("sleep\098704").is_empty());
                assert!(fs::exists(&file).unwrap(), "a stop is no deletion");
                case.services.start(&case.name).await.unwrap();
                assert_eq!(processes("sleep\098704").len(), 1);
            }
            case.services.remove(&case.name).await.unwrap();
            assert!(processes("sleep\098704").is_empty());
            assert!(!fs::exists(&file).unwrap());
            let link = format!("/etc/systemd/system/multi-user.target.wants/{}.service", case.name);
            assert!(fs::symlink_metadata(link).is_err());
            assert_eq!(case.services.stop(&case.name).await, Err(ServiceError::Unknown(case.name.clone())));
        }
    });
}
