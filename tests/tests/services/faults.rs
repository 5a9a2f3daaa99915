//! What the direct backend has to see to by itself: an agent that dies between two steps, and a reboot.

use std::fs;
use std::time::Duration;

use amphora_agent::services::{ServiceError, ServiceName, Status};
use nix::sys::signal::Signal;

use crate::inside::{Case, kill, run};

/// The processes of haproxy that are no worker: those that lead a session.
fn masters(case: &Case) -> Vec<u32> {
    let session = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(3)?.parse::<u32>().ok()
    };
    case.processes(&case.trace()).into_iter().filter(|pid| session(*pid) == Some(*pid)).collect()
}

/// One of each call, by an agent that may die in any of them.
#[test]
#[ignore = "the outer tests run it, in a machine of its own"]
fn walk() {
    run("walk", 8031, |case| async move {
        case.configure("one", "");
        case.services.install(&case.haproxy()).await.unwrap();
        case.services.start(&case.name).await.unwrap();
        let mut changed = case.haproxy();
        changed.description = "Another".to_owned();
        case.services.install(&changed).await.unwrap();
        case.services.reload(&case.name).await.unwrap();
        case.services.restart(&case.name).await.unwrap();
        case.services.stop(&case.name).await.unwrap();
        case.services.start(&case.name).await.unwrap();
        case.services.remove(&case.name).await.unwrap();
    });
}

/// The agent that comes after it.
#[test]
#[ignore = "the outer tests run it, in a machine of its own"]
fn mended() {
    run("walk", 8031, |case| async move {
        let settled = case.services.status(&case.name).await;
        if settled != Err(ServiceError::Unknown(case.name.clone())) {
            match case.until(|status| *status != Status::Starting).await {
                Status::Active { pid, .. } => {
                    assert_eq!(masters(&case), [pid], "one, and no other");
                    assert_eq!(case.answer().unwrap(), "one");
                }
                Status::Inactive => {
                    let ended = || if masters(&case).is_empty() { Ok(()) } else { Err("still there") };
                    lab::wait_for("what was being stopped is stopped", crate::inside::PATIENCE, ended).unwrap();
                }
                other => panic!("{other:?}"),
            }
        } else {
            assert!(masters(&case).is_empty(), "nobody would look after it");
        }
        case.services.install(&case.haproxy()).await.unwrap();
        case.services.start(&case.name).await.unwrap();
        assert_eq!(case.answer().unwrap(), "one");
        assert_eq!(masters(&case).len(), 1);
        case.services.stop(&case.name).await.unwrap();
        assert!(case.processes(&case.trace()).is_empty());
        case.services.remove(&case.name).await.unwrap();
        let left = |directory: &std::path::Path| fs::read_dir(directory).unwrap().count();
        assert_eq!(left(&case.places().definitions) + left(&case.places().runtime), 0, "nor are there files");
    });
}

#[test]
#[ignore = "the outer tests run it, in a machine of its own"]
fn after_a_reboot() {
    run("reboot", 8032, |mut case| async move {
        let slow = "sleep 0.5; systemd-notify --ready; exec sleep 98703";
        let [first, second, third] = ["reboot-1", "reboot-2", "reboot-3"].map(|name| ServiceName::new(name).unwrap());
        for (name, after) in [(&second, Some(&first)), (&first, None), (&third, None)] {
            let mut service = case.shell(slow);
            service.name = name.clone();
            service.after = after.cloned().into_iter().collect();
            case.services.install(&service).await.unwrap();
        }
        case.services.start(&first).await.unwrap();
        case.services.start(&third).await.unwrap();
        case.services.stop(&third).await.unwrap();
        // A new agent on the same run of the machine starts nothing that was not started.
        case.another_agent();
        assert!(matches!(case.services.status(&first).await.unwrap(), Status::Active { .. }));
        assert_eq!(case.services.status(&second).await.unwrap(), Status::Inactive);
        assert_eq!(case.services.status(&third).await.unwrap(), Status::Inactive);

        // What a reboot does, but for the agent's own end: nobody is there to restart what dies.
        case.reboot(|case| {
            case.processes("sleep\098703").into_iter().for_each(|pid| kill(pid, Signal::SIGKILL));
        })
        .await;
        let mut since = Vec::new();
        for name in [&first, &second, &third] {
            case.name = name.clone();
            let status = case.until(|status| *status != Status::Starting).await;
            let Status::Active { since: at, .. } = status else { panic!("{name}: {status:?}") };
            since.push(at);
        }
        assert!(since[1] > since[0] + Duration::from_millis(500), "after the first is ready");
        for name in [&first, &second, &third] {
            case.services.remove(name).await.unwrap();
        }
    });
}
