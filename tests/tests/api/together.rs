//! Calls that arrive at once.

use std::sync::Barrier;
use std::thread;

use lab::picture::{self, difference};
use lab::{Amphora, Api, Family, Reply, wait_for};
use nix::sys::signal::Signal;

use crate::support::{PATIENCE, inside, routed_picture, routes, running, vip};

/// One of the calls that come together.
type Call = Box<dyn FnOnce(&mut Api) -> Reply + Send>;

/// Sends every call on a connection of its own while the agent sleeps, so that it wakes up to all of them at once.
fn at_once(amphora: &Amphora, calls: Vec<Call>) -> Vec<Reply> {
    let agent = amphora.agent().unwrap();
    let connected = Barrier::new(calls.len() + 1);
    let asleep = Barrier::new(calls.len() + 1);
    thread::scope(|scope| {
        let calls: Vec<_> = calls
            .into_iter()
            .map(|call| {
                let (connected, asleep) = (&connected, &asleep);
                scope.spawn(move || {
                    let mut api = amphora.api().unwrap();
                    api.connect().unwrap();
                    connected.wait();
                    asleep.wait();
                    call(&mut api)
                })
            })
            .collect();
        connected.wait();
        agent.kill(Signal::SIGSTOP).unwrap();
        let stat = format!("/proc/{}/stat", agent.pid());
        let stopped = || match std::fs::read_to_string(&stat).unwrap() {
            line if line.contains(") T ") => Ok(()),
            line => Err(line),
        };
        wait_for("the agent sleeps", PATIENCE, stopped).unwrap();
        asleep.wait();
        // Each request is in the kernel's buffer of a socket of the agent, and nowhere else.
        let waiting = || {
            let sockets = amphora.node().run(["ss", "-Htn", "state", "established", "sport = :9443"]).unwrap();
            let with_data = sockets.lines().filter(|line| !line.starts_with("0 ")).count();
            if with_data >= calls.len() { Ok(()) } else { Err(sockets) }
        };
        let sent = wait_for("every request has arrived", PATIENCE, waiting);
        agent.kill(Signal::SIGCONT).unwrap();
        sent.unwrap();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    })
}

/// The controller sends a call again when it has waited a minute; to it both 202 and this 409 are success.
#[test]
fn two_identical_plugs_at_once_both_succeed() {
    let (fabric, mut api) = running("twins", 1);
    let (amphora, vip) = (&fabric.amphorae[0], vip());
    for round in 0..5 {
        let plug = || {
            let body = amphora.plug_body(vip);
            Box::new(move |api: &mut Api| api.plug_vip(vip.v4.into(), &body).unwrap()) as Call
        };
        let replies = at_once(amphora, vec![plug(), plug()]);
        let answers: Vec<_> = replies.iter().map(|reply| (reply.status, reply.text())).collect();
        println!("round {round}: {answers:?}");
        assert!(answers.iter().any(|(status, _)| *status == 202), "{answers:?}");
        let success =
            |(status, text): &(u16, String)| *status == 202 || *status == 409 && text.contains("already exists");
        assert!(answers.iter().all(success), "{answers:?}");
        let (want, found) = (routed_picture(amphora, vip), picture::look(&inside(amphora)).unwrap());
        assert!(found == want, "{:#?}", difference(&want, &found));
        api.unplug_vip(vip.v4.into()).unwrap().success().unwrap();
    }
}

#[test]
fn twenty_different_calls_at_once_all_get_their_answer() {
    let (fabric, mut api) = running("twenty", 1);
    let (amphora, vip) = (&fabric.amphorae[0], vip());
    let (body, id, hop) = (amphora.plug_body(vip), amphora.id().to_owned(), amphora.frontend(Family::V4));
    fabric.tors[0].wait_established(amphora.management(Family::V4), PATIENCE).unwrap(); // or the peers cannot be asked
    let mut calls: Vec<Call> = vec![Box::new(move |api| api.plug_vip(vip.v4.into(), &body).unwrap())];
    for path in ["/", "/1.0/info", "/1.0/distributor/amphorae", "/1.0/distributor/vips", "/1.0/distributor/peers"] {
        calls.push(Box::new(|api| api.get(path).unwrap()));
    }
    for n in 101..=109 {
        let foreign = "192.0.2.77".parse().unwrap();
        calls.push(Box::new(move |api| {
            api.register(&format!("other-{n}"), lab::addresses::vip(n).v4.into(), foreign, None).unwrap()
        }));
    }
    calls.push(Box::new(move |api| api.register(&id, vip.v4.into(), hop, None).unwrap()));
    for path in ["/1.0/plug/vip/203.0.113.50", "/1.0/distributor/vips/203.0.113.50", "/1.0/distributor/amphorae/nobody"]
    {
        calls.push(Box::new(|api| api.delete(path).unwrap()));
    }
    calls.push(Box::new(|api| api.get("/1.0/nowhere").unwrap()));
    assert_eq!(calls.len(), 20);
    let replies = at_once(amphora, calls);
    let statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
    let want = [vec![202], vec![200; 5], vec![202; 10], vec![200; 3], vec![404]].concat();
    assert!(statuses == want, "{statuses:?} {:#?}", replies.iter().map(Reply::text).collect::<Vec<_>>());

    let (want, found) = (routed_picture(amphora, vip), picture::look(&inside(amphora)).unwrap());
    assert!(found == want, "{:#?}", difference(&want, &found));
    let active = || {
        let all = routes(&mut api, "amphorae");
        let active = all.iter().filter(|route| route["provisioning_status"] == "ACTIVE").count();
        if (all.len(), active) == (10, 10) { Ok(()) } else { Err(format!("{all:?}")) }
    };
    wait_for("all ten are announced", PATIENCE, active).unwrap();
}
