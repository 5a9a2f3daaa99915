use std::time::Duration;

use bgp::NextHop;

use super::*;
use crate::state::Server;

fn registration(n: u16, hop: u8) -> Registration {
    let [a, b] = n.to_be_bytes();
    Registration {
        vip: std::net::IpAddr::from([203, 0, a, b]).try_into().unwrap(),
        nexthop: NextHop::try_from(std::net::IpAddr::from([192, 0, 2, hop])).unwrap(),
        server: Server::EndPoint,
        peer: None,
    }
}

fn register(r: Registration) -> impl Fn(&Desired) -> Decision<Refusal> + Send + 'static {
    move |desired| match desired.registrations.get(&r.vip) {
        Some(held) if *held == r => Ok(vec![]),
        Some(held) => Err(Refusal::conflict("held", held.nexthop.to_string())),
        None => Ok(vec![Change::Register(r.clone())]),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_waits_for_requests_is_well_and_one_that_never_ends_a_request_is_stuck() {
    let dir = tempfile::tempdir().unwrap();
    let mut pulses = crate::pulse::Pulses::default();
    let (owner, thread) = Owner::start(&dir.path().join("state"), pulses.of("owning", Duration::ZERO)).unwrap();
    owner.commit(register(registration(1, 1))).await.unwrap();
    let until = async |stuck: bool| {
        while pulses.stuck().is_some() != stuck {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    until(false).await;
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = Mutex::new(held);
    let hang = owner.clone();
    let hung = tokio::spawn(async move {
        let wait = move |_: &Desired| {
            let _ = held.lock().unwrap().recv(); // until it is let go
            Ok(vec![])
        };
        hang.commit(wait).await.unwrap();
    });
    until(true).await;
    assert_eq!(pulses.stuck().unwrap().0, "owning");
    drop(release);
    hung.await.unwrap();
    until(false).await;
    drop(owner);
    thread.join().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_answered_is_on_disk_and_one_of_two_contradicting_requests_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let (owner, thread) = Owner::start(&path, Pulse::default()).unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..500 {
        for hop in [1, 2] {
            let owner = owner.clone();
            calls.spawn(async move { owner.commit(register(registration(n, hop))).await.is_ok() });
        }
    }
    let accepted = calls.join_all().await.into_iter().filter(|ok| *ok).count();
    assert_eq!(accepted, 500);
    let held = owner.shared().read(Clone::clone);
    drop(owner);
    thread.join().unwrap();
    let (owner, _thread) = Owner::start(&path, Pulse::default()).unwrap();
    assert_eq!(owner.shared().read(Clone::clone), held);
    assert_eq!(held.registrations.len(), 500);
}

#[tokio::test]
async fn the_same_again_is_the_same_answer_and_no_write() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let (owner, _thread) = Owner::start(&path, Pulse::default()).unwrap();
    let first = owner.commit(register(registration(1, 1))).await.unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let again = owner.commit(register(registration(1, 1))).await.unwrap();
    assert_eq!((first.changes.len(), again.changes.len()), (1, 0));
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_the_old_state_stands() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gone").join("state");
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    let (owner, _thread) = Owner::start(&path, Pulse::default()).unwrap();
    std::fs::remove_dir(path.parent().unwrap()).unwrap();
    let error = owner.commit(register(registration(1, 1))).await.unwrap_err();
    assert!(matches!(error, CommitError::Log(_)), "{error}");
    assert!(owner.shared().read(|d| d.registrations.is_empty()));
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    owner.commit(register(registration(1, 1))).await.unwrap();
}

#[tokio::test]
async fn an_unregistered_vip_is_leaving_until_it_is_withdrawn_or_registered_again() {
    let dir = tempfile::tempdir().unwrap();
    let (owner, _thread) = Owner::start(&dir.path().join("state"), Pulse::default()).unwrap();
    let r = registration(1, 1);
    owner.commit(register(r.clone())).await.unwrap();
    let vip = r.vip;
    owner.commit(move |_| Ok(vec![Change::Unregister(vip)])).await.unwrap();
    assert!(owner.shared().leaving(|l| l.contains_key(&vip)));
    owner.commit(register(r)).await.unwrap();
    assert!(!owner.shared().leaving(|l| l.contains_key(&vip)));
    let dirty = owner.shared().take_dirty();
    assert_eq!((dirty.generation, dirty.vips.len()), (4, 1), "the first pass is number 1");
}

#[tokio::test]
async fn an_older_release_can_take_over_once_nothing_is_drained() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let first_line = || std::fs::read_to_string(&path).unwrap().lines().next().unwrap().to_owned();
    let (owner, thread) = Owner::start(&path, Pulse::default()).unwrap();
    let registered = registration(1, 1);
    let drain = crate::state::Drain {
        vip: registered.vip,
        amphora: "me".into(),
        own: true,
        stage: crate::state::Stage::Deprefer,
        since: 0,
        deadline: 60,
        timeout_s: 60,
        max_connections: 0,
    };
    let of_vip = registered.vip;
    owner.commit(register(registered)).await.unwrap();
    assert!(first_line().ends_with(r#"{"amphora_agent_state":2}"#), "{}", first_line());
    owner.commit(move |_| Ok(vec![Change::Drain(drain.clone())])).await.unwrap();
    assert!(first_line().ends_with(r#"{"amphora_agent_state":3}"#), "{}", first_line());
    owner.commit(move |_| Ok(vec![Change::Undrain(of_vip)])).await.unwrap();
    let held = owner.shared().read(Clone::clone);
    drop(owner);
    thread.join().unwrap();
    assert!(first_line().ends_with(r#"{"amphora_agent_state":2}"#), "{}", first_line());
    assert_eq!(Owner::start(&path, Pulse::default()).unwrap().0.shared().read(Clone::clone), held);
}
