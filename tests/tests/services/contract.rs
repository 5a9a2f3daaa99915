//! The contract, said once for both backends. Each case has a service and a port of its own; they run side by side.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use amphora_agent::services::{ServiceError, Status};
use lab::amphora::HAPROXY_NETNS;
use netns::Namespace;
use nix::sys::signal::Signal;

use crate::inside::{kill, run};

#[test]
#[ignore = "the outer tests run it, in a machine of its own"]
fn a_start_returns_when_it_serves_and_a_second_changes_nothing() {
    run("start", 8001, |case| async move {
        case.configure("one", "");
        assert_eq!(case.services.start(&case.name).await, Err(ServiceError::Unknown(case.name.clone())));
        assert!(case.services.install(&case.haproxy()).await.unwrap());
        assert!(!case.services.install(&case.haproxy()).await.unwrap(), "the same again changes nothing");
        assert_eq!(case.services.status(&case.name).await.unwrap(), Status::Inactive, "installing starts nothing");
        let mut events = case.services.events();
        case.services.start(&case.name).await.unwrap();
        assert_eq!(case.answer().unwrap(), "one", "at once: nobody has to wait");
        let pid = case.pid().await;
        while events.recv().await.unwrap() != case.name {} // systemd's other services are told of as well
        let (first, second) = tokio::join!(case.services.start(&case.name), case.services.start(&case.name));
        assert_eq!((first, second, case.pid().await), (Ok(()), Ok(()), pid));
        case.services.stop(&case.name).await.unwrap();
        assert_eq!(case.services.status(&case.name).await.unwrap(), Status::Inactive);
        assert!(case.processes(&case.trace()).is_empty());
        case.services.stop(&case.name).await.unwrap();
        let mut changed = case.haproxy();
        changed.description = "Another".to_owned();
        assert!(case.services.install(&changed).await.unwrap());
        let (first, second) = tokio::join!(case.services.start(&case.name), case.services.start(&case.name));
        assert_eq!((first, second), (Ok(()), Ok(())));
        assert_eq!(case.answer().unwrap(), "one");
        case.services.remove(&case.name).await.unwrap();
    });
}

#[test]
#[ignore = "the outer tests run it, in a machine of its own"]
fn a_failing_check_starts_nothing_and_is_repeated_in_the_error() {
    run("check", 8002, |case| async move {
        case.configure("one", "  no-such-word");
        case.services.install(&case.haproxy()).await.unwrap();
        let error = case.services.start(&case.name).await.unwrap_err();
        assert!(matches!(error, ServiceError::Check { .. }), "{error:?}");
        assert!(error.text().contains("no-such-word"), "{error}");
        assert!(case.answer().is_err());
        case.until(|status| matches!(status, Status::Failed { .. })).await;
        case.configure("two", "");
        case.services.start(&case.name).await.unwrap();
        assert_eq!(case.answer().unwrap(), "two", "a call begins anew what was given up");
        case.services.remove(&case.name).await.unwrap();
    });
}

#[test]
#[ignore = "the outer tests run it, in a machine of its own"]
fn a_program_that_ends_at_once_has_failed_in_its_own_words() {
    run("ends", 8003, |case| async move {
        case.services.install(&case.shell("echo no licence today >&2; exit 3")).await.unwrap();
        let error = case.services.start(&case.name).await.unwrap_err();
        assert!(matches!(error, ServiceError::Failed { .. }), "{error:?}");
        assert!(error.text().contains("no licence today") && error.text().contains('3'), "{error}");
        case.until(|status| matches!(status, Status::Failed { .. })).await;
        let missing = {
            let mut service = case.shell("");
            service.command = vec!["/usr/sbin/no-such-program".to_owned()];
            service
        };
        case.services.install(&missing).await.unwrap();
        let error = case.services.start(&case.name).await.unwrap_err();
        assert!(error.text().contains("/usr/sbin/no-such-program"), "{error}");
        case.services.remove(&case.name).await.unwrap();
    });
}

#[test]
#[ignore = "the outer tests run it, in a machine of its own"]
fn a_program_that_is_never_ready_is_ended_in_time() {
    run("never-ready", 8004, |case| async move {
        let mut service = case.shell("echo thinking; sleep 98700 & sleep 98700");
        service.start_timeout = Duration::from_secs(1);
        case.services.install(&service).await.unwrap();
        let error = case.services.start(&case.name).await.unwrap_err();
        assert!(matches!(error, ServiceError::TimedOut { .. }), "{error:?}");
        assert!(error.text().contains("thinking"), "{error}");
        case.services.stop(&case.name).await.unwrap();
        assert_eq!(case.services.status(&case.name).await.unwrap(), Status::Inactive, "nobody tries it again");
        assert!(case.processes("sleep\098700").is_empty(), "nor is anything left of it");
        case.services.remove(&case.name).await.unwrap();
    });
}

#[test]
#[ignore = "the outer tests run it, in a machine of its own"]
fn a_reload_serves_the_new_configuration_or_goes_on_with_the_old() {
    run("reload", 8005, |case| async move {
        case.configure("one", "");
        case.services.install(&case.haproxy()).await.unwrap();
        let error = case.services.reload(&case.name).await.unwrap_err();
        assert_eq!(error, ServiceError::NotActive(case.name.clone()));
        assert!(error.to_string().contains("is not active, cannot reload."), "{error}");
        case.services.start(&case.name).await.unwrap();
        let pid = case.pid().await;

        case.configure("two", "");
        case.services.reload(&case.name).await.unwrap();
        assert_eq!(case.answer().unwrap(), "two", "at once");
        for round in 0..5 {
            case.configure(&format!("round-{round}"), "");
            let again = || case.services.reload(&case.name);
            let all = tokio::join!(again(), again(), again());
            assert_eq!(all, (Ok(()), Ok(()), Ok(())));
            assert_eq!(case.answer().unwrap(), format!("round-{round}"));
        }

        case.configure("three", "  no-such-word");
        let error = case.services.reload(&case.name).await.unwrap_err();
        assert!(matches!(error, ServiceError::Check { .. }), "{error:?}");
        assert!(error.text().contains("no-such-word"), "{error}");
        // What no check finds: somebody has the address.
        let taken = Namespace::find(HAPROXY_NETNS).unwrap().unwrap().run(|| TcpListener::bind("127.0.0.1:8995"));
        let _taken = taken.unwrap().unwrap();
        case.configure("four", "  bind 127.0.0.1:8995");
        let error = case.services.reload(&case.name).await.unwrap_err();
        assert!(matches!(error, ServiceError::Failed { .. }), "{error:?}");
        assert!(error.text().contains("127.0.0.1:8995"), "{error}");
        assert_eq!(case.answer().unwrap(), "round-4");
        assert_eq!(case.pid().await, pid, "it was never away");

        case.configure("five", "");
        case.services.reload(&case.name).await.unwrap();
        assert_eq!(case.answer().unwrap(), "five");
        case.services.restart(&case.name).await.unwrap();
        assert_eq!(case.answer().unwrap(), "five");
        assert_ne!(case.pid().await, pid);
        case.services.stop(&case.name).await.unwrap();
        case.services.restart(&case.name).await.unwrap();
        assert_eq!(case.answer().unwrap(), "five");
        case.services.remove(&case.name).await.unwrap();
    });
}

#[test]
#[ignore = "the outer tests run it, in a machine of its own"]
fn what_crashes_is_told_at_once_and_started_again() {
    run("crash", 8006, |case| async move {
        case.configure("one", "");
        case.services.install(&case.haproxy()).await.unwrap();
        case.services.start(&case.name).await.unwrap();
        let pid = case.pid().await;
        let before = Instant::now();
        kill(pid, Signal::SIGKILL);
        let status = case.until(|status| matches!(status, Status::Active { pid: now, .. } if *now != pid)).await;
        let Status::Active { since, .. } = status else { unreachable!("looked for") };
        // systemd counts in microseconds.
        assert!(since + Duration::from_millis(1) > before && since <= Instant::now());
        assert_eq!(case.answer().unwrap(), "one");
        case.services.remove(&case.name).await.unwrap();
    });
}

#[test]
#[ignore = "the outer tests run it, in a machine of its own"]
fn what_crashes_too_often_is_given_up_until_it_is_asked_for() {
    run("loop", 8007, |case| async move {
        let mut service = case.shell("sleep 0.05; echo out of order; exit 7");
        service.notify = false;
        case.services.install(&service).await.unwrap();
        case.services.start(&case.name).await.unwrap();
        let status = case.until(|status| matches!(status, Status::Failed { .. })).await;
        let Status::Failed { why } = status else { unreachable!("looked for") };
        assert!(why.contains('7'), "{why}");
        let error = case.services.reload(&case.name).await.unwrap_err();
        assert_eq!(error, ServiceError::NotActive(case.name.clone()));
        service.command[2] = "exec sleep 98701".to_owned();
        case.services.install(&service).await.unwrap();
        case.services.start(&case.name).await.unwrap();
        case.until(|status| matches!(status, Status::Active { .. })).await;
        let pid = case.pid().await;
        let became = || if case.processes("sleep\098701") == [pid] { Ok(()) } else { Err("still the shell") };
        lab::wait_for("the program", crate::inside::PATIENCE, became).unwrap();
        case.services.remove(&case.name).await.unwrap();
        assert!(case.processes("sleep\098701").is_empty());
    });
}

#[test]
#[ignore = "the outer tests run it, in a machine of its own"]
fn what_does_not_want_to_end_is_killed_with_its_children() {
    run("stubborn", 8008, |case| async move {
        let mut service = case.shell("trap '' TERM; (trap '' TERM; setsid sleep 98702) & while :; do sleep 0.1; done");
        (service.notify, service.stop_timeout) = (false, Duration::from_secs(1));
        case.services.install(&service).await.unwrap();
        case.services.start(&case.name).await.unwrap();
        let started = || if case.processes("sleep\098702").is_empty() { Err("not yet") } else { Ok(()) };
        lab::wait_for("its child", crate::inside::PATIENCE, started).unwrap();
        let (first, second) = tokio::join!(case.services.stop(&case.name), case.services.stop(&case.name));
        assert_eq!((first, second), (Ok(()), Ok(())));
        assert!(case.processes("sleep\098702").is_empty());
        assert_eq!(case.services.status(&case.name).await.unwrap(), Status::Inactive);
        case.services.remove(&case.name).await.unwrap();
    });
}

#[test]
#[ignore = "the outer tests run it, in a machine of its own"]
fn a_new_agent_finds_what_runs_and_what_does_not() {
    run("found", 8009, |mut case| async move {
        case.configure("one", "");
        case.services.install(&case.haproxy()).await.unwrap();
        case.another_agent();
        assert_eq!(case.services.status(&case.name).await.unwrap(), Status::Inactive);
        case.services.start(&case.name).await.unwrap();
        let before = case.services.status(&case.name).await.unwrap();
        case.another_agent();
        let after = case.services.status(&case.name).await.unwrap();
        let (Status::Active { pid, since }, Status::Active { pid: now, since: again }) = (before, after) else {
            panic!("not active")
        };
        assert_eq!(now, pid);
        assert!(again.max(since) - again.min(since) < Duration::from_millis(500), "{since:?} {again:?}");
        assert!(!case.services.install(&case.haproxy()).await.unwrap());
        case.configure("two", "");
        case.services.reload(&case.name).await.unwrap();
        assert_eq!(case.answer().unwrap(), "two");
        kill(pid, Signal::SIGKILL);
        case.until(|status| matches!(status, Status::Active { pid: now, .. } if *now != pid)).await;
        case.services.stop(&case.name).await.unwrap();
        case.another_agent();
        assert_eq!(case.services.status(&case.name).await.unwrap(), Status::Inactive);
        assert!(case.processes(&case.trace()).is_empty());
        case.services.remove(&case.name).await.unwrap();
    });
}

#[test]
#[ignore = "the outer tests run it, in a machine of its own"]
fn what_is_removed_is_gone() {
    run("removed", 8010, |mut case| async move {
        case.services.remove(&case.name).await.unwrap();
        case.configure("one", "");
        case.services.install(&case.haproxy()).await.unwrap();
        case.services.start(&case.name).await.unwrap();
        case.services.remove(&case.name).await.unwrap();
        assert!(case.processes(&case.trace()).is_empty());
        for _ in 0..2 {
            let unknown = ServiceError::Unknown(case.name.clone());
            assert_eq!(case.services.status(&case.name).await, Err(unknown.clone()));
            assert_eq!(case.services.stop(&case.name).await, Err(unknown.clone()));
            assert_eq!(case.services.start(&case.name).await, Err(unknown.clone()));
            assert_eq!(case.services.reload(&case.name).await, Err(unknown));
            case.another_agent();
        }
        case.services.remove(&case.name).await.unwrap();
        assert!(case.services.install(&case.haproxy()).await.unwrap());
        assert_eq!(case.services.status(&case.name).await.unwrap(), Status::Inactive);
        case.services.remove(&case.name).await.unwrap();
    });
}
