//! The agent dies at every step of a call about a UDP listener. Without a pool it needs no IPVS, and all the rest is the same.

use lab::{Amphora, Api, Walk};

use crate::support::{LISTENER, LVS, plug, put, start, stock};

/// What `before` makes it start from is of another round than what the call stores.
const OLD: usize = 1000;

fn configuration(round: usize) -> String {
    format!("# {round}\nnet_namespace amphora-haproxy\n\n# Listener {LISTENER} is disabled\n")
}

fn stored(amphora: &Amphora) -> Option<String> {
    amphora.node().read_file(&format!("{LVS}/octavia-keepalivedlvs-{LISTENER}.conf")).ok()
}

fn upload(api: &mut Api, round: usize) -> lab::Result<lab::Reply> {
    put(api, &format!("/1.0/listeners/a/{LISTENER}/udp_listener"), configuration(round))
}

fn act(api: &mut Api, action: &str) -> lab::Result<lab::Reply> {
    put(api, &format!("/1.0/loadbalancer/{LISTENER}/{action}"), "")
}

/// The processes of its keepalived: one that leads, or none.
fn main_process(amphora: &Amphora) -> Result<Option<u32>, String> {
    match amphora.pids("keepalived").unwrap()[..] {
        [] => Ok(None),
        [pid] => Ok(Some(pid)),
        ref pids => Err(format!("keepalived has the pids {pids:?}")),
    }
}

fn is<T: PartialEq + std::fmt::Debug>(there: &T, wanted: &T) -> Result<(), String> {
    if there == wanted { Ok(()) } else { Err(format!("{there:?}")) }
}

#[test]
fn kill_9_at_any_step_of_a_call_about_a_udp_listener_is_mended_by_its_retry() {
    let fabric = stock("lvs-crash", 1);
    let amphora = &fabric.amphorae[0];
    plug(amphora, &mut start(amphora));
    amphora.kill_agent().unwrap();
    let delete = |api: &mut Api| api.delete(&format!("/1.0/listeners/{LISTENER}"));
    let runs = |_| match main_process(amphora)? {
        Some(_) => Ok(()),
        None => Err("keepalived does not run".to_owned()),
    };

    let first = Walk {
        name: "UDP listener upload, the first",
        but: None,
        before: &|api, _| drop(delete(api).unwrap().success().unwrap()),
        call: &upload,
        always: &|step| assert!([None, Some(configuration(step))].contains(&stored(amphora))),
        after: &|step| is(&stored(amphora), &Some(configuration(step))),
    };
    let points = first.run(amphora);
    assert!(points.len() >= 4, "the script, the file, the service, the answer: {points:?}");
    let again = Walk {
        name: "UDP listener upload",
        but: None,
        before: &|api, step| drop(upload(api, step + OLD).unwrap().success().unwrap()),
        always: &|step| assert!([configuration(step + OLD), configuration(step)].contains(&stored(amphora).unwrap())),
        ..first
    };
    let points = again.run(amphora);
    assert!(points.len() >= 3, "the file, the service, the answer: {points:?}");

    let begin = Walk {
        name: "UDP listener start",
        but: None,
        before: &|api, _| drop(act(api, "stop").unwrap().success().unwrap()),
        call: &|api, _| act(api, "start"),
        always: &|_| {},
        after: &runs,
    };
    let points = begin.run(amphora);
    assert!(points.len() >= 3, "{points:?}");

    // The same process goes on serving wherever the agent dies.
    let pid = std::cell::Cell::new(None);
    let reload = Walk {
        name: "UDP listener reload",
        but: None,
        before: &|api, step| {
            act(api, "start").unwrap().success().unwrap();
            upload(api, step).unwrap().success().unwrap();
            pid.set(main_process(amphora).unwrap());
            assert!(pid.get().is_some());
        },
        call: &|api, _| act(api, "reload"),
        always: &|_| assert_eq!(main_process(amphora), Ok(pid.get())),
        after: &|_| is(&main_process(amphora), &Ok(pid.get())),
    };
    let points = reload.run(amphora);
    assert!(!points.is_empty(), "{points:?}");

    let end = Walk {
        name: "UDP listener stop",
        but: None,
        before: &|api, _| drop(act(api, "start").unwrap().success().unwrap()),
        call: &|api, _| act(api, "stop"),
        always: &|_| {},
        after: &|_| is(&main_process(amphora), &Ok(None)),
    };
    let points = end.run(amphora);
    assert!(points.len() >= 2, "{points:?}");

    let listed = |api: &mut Api| api.get("/1.0/listeners").unwrap().text().contains(LISTENER);
    let find = ["find", "/var/lib/octavia", "/run/amphora-agent", "-name", &format!("*{LISTENER}*")];
    let remove = Walk {
        name: "UDP listener deletion",
        but: None,
        before: &|api, step| {
            upload(api, step).unwrap().success().unwrap();
            act(api, "start").unwrap().success().unwrap();
            assert!(listed(api));
        },
        call: &|api, _| delete(api),
        // What is left of one is a listener still, so that nothing of it is forgotten.
        always: &|_| assert!(stored(amphora).is_some() || main_process(amphora) == Ok(None)),
        after: &|_| is(&(amphora.node().run(find).unwrap(), main_process(amphora)), &(String::new(), Ok(None))),
    };
    let points = remove.run(amphora);
    assert!(points.len() >= 3, "{points:?}");
    assert!(!listed(&mut start(amphora)));
}
