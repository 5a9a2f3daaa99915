//! The agent dies at every step of a VRRP call: what was there is there, and a retry completes the call.

use lab::{Api, Walk};

use crate::support::{VRRP, keepalived_pid, plug, put, start, stock, vrrp_configs};

#[test]
fn kill_9_at_any_step_of_a_vrrp_call_is_mended_by_its_retry() {
    let test = "kill_9_at_any_step_of_a_vrrp_call_is_mended_by_its_retry";
    let fabric = stock("vrrp-crash", 1);
    let Some(configs) = vrrp_configs(test, &fabric) else { return };
    let amphora = &fabric.amphorae[0];
    let mut api = start(amphora);
    plug(amphora, &mut api);
    let config = |step: usize| format!("# {step}\n{}", configs[0]);
    put(&mut api, "/1.0/vrrp/upload", config(0)).unwrap().success().unwrap();
    amphora.kill_agent().unwrap();
    let there = || amphora.node().read_file(&format!("{VRRP}/octavia-keepalived.conf")).unwrap();
    let act = |action: &'static str| move |api: &mut Api, _: usize| put(api, &format!("/1.0/vrrp/{action}"), "");
    let [start_it, stop_it, reload_it] = ["start", "stop", "reload"].map(act);
    let runs = |_| keepalived_pid(amphora).filter(|_| !amphora.pids("keepalived").unwrap().is_empty());
    let running = |step| runs(step).map(drop).ok_or_else(|| "keepalived does not run".to_owned());
    let stopped = |_| match amphora.pids("keepalived").unwrap()[..] {
        [] => Ok(()),
        ref pids => Err(format!("keepalived runs: {pids:?}")),
    };
    let nothing = |_: &mut Api, _: usize| {};

    let upload = Walk {
        name: "vrrp upload",
        but: None,
        before: &nothing,
        call: &|api, step| put(api, "/1.0/vrrp/upload", config(step)),
        always: &|step| {
            assert!([config(step - 1), config(step)].contains(&there()), "neither old nor new: {}", there());
        },
        after: &|step| if there() == config(step) { Ok(()) } else { Err(there()) },
    };
    assert!(upload.run(amphora).len() >= 4, "the scripts, the file, the service, the answer");
    let begin = Walk {
        name: "vrrp start",
        but: None,
        before: &|api, step| drop(stop_it(api, step).unwrap().success().unwrap()),
        call: &|api, step| start_it(api, step),
        always: &|_| {},
        after: &running,
    };
    assert!(begin.run(amphora).len() >= 3);
    // A reload takes the VIP from nobody, wherever the agent dies.
    let pid = std::cell::Cell::new(None);
    let again = Walk {
        name: "vrrp reload",
        but: None,
        before: &|api, step| {
            start_it(api, step).unwrap().success().unwrap();
            put(api, "/1.0/vrrp/upload", config(step)).unwrap().success().unwrap();
            pid.set(runs(step));
        },
        call: &|api, step| reload_it(api, step),
        always: &|step| assert_eq!((runs(step), pid.get().is_some()), (pid.get(), true)),
        after: &|step| if runs(step) == pid.get() { Ok(()) } else { Err(format!("{:?}", runs(step))) },
    };
    assert!(again.run(amphora).len() >= 2);
    let end = Walk {
        name: "vrrp stop",
        but: None,
        before: &|api, step| drop(start_it(api, step).unwrap().success().unwrap()),
        call: &|api, step| stop_it(api, step),
        always: &|_| {},
        after: &stopped,
    };
    assert!(end.run(amphora).len() >= 3);
}
