//! The agent dies at every step of a VRRP call: what was there is there, and a retry completes the call.

use lab::{Amphora, Api, Reply, error::chain, wait_for};

use crate::support::{PATIENCE, VRRP, keepalived_pid, plug, put, start, stock, vrrp_configs};

/// More points than the agent passes from its start to the end of such a call.
const MANY: usize = 80;

/// A call, the world it starts from, and what the world is when it is done. `step` tells one round from another.
struct Walk<'a> {
    name: &'a str,
    before: &'a dyn Fn(&mut Api, usize),
    call: &'a dyn Fn(&mut Api, usize) -> lab::Result<Reply>,
    /// Whatever the agent died at.
    always: &'a dyn Fn(usize),
    after: &'a dyn Fn(usize) -> Result<(), String>,
}

/// Returns how many of the deaths were in the call.
fn walk(amphora: &Amphora, walk: &Walk) -> usize {
    let mut deaths = 0;
    for step in 1..MANY {
        (walk.before)(&mut start(amphora), step);
        amphora.kill_agent().unwrap();
        let agent = amphora.start_agent(&[("AMPHORA_AGENT_CRASH_AT", &step.to_string())]).unwrap();
        let mut api = amphora.api().unwrap();
        let up = || match api.get("/") {
            Err(error) if agent.is_running() => Err(chain(&error)),
            other => Ok(other.is_ok()),
        };
        let up = wait_for("the agent answers or ends", PATIENCE, up).unwrap().0;
        let answer = if up { Some((walk.call)(&mut api, step)) } else { None };
        if let Some(Ok(reply)) = answer {
            assert!(matches!(reply.status, 200 | 202), "{} at {step}: {}", walk.name, reply.text());
            wait_for(walk.name, PATIENCE, || (walk.after)(step)).unwrap();
            amphora.kill_agent().unwrap();
            println!("{}: killed {} times, {deaths} of them in the call", walk.name, step - 1);
            return deaths;
        }
        deaths += usize::from(up);
        agent.wait(PATIENCE).unwrap();
        (walk.always)(step);
        let mut api = start(amphora);
        let retry = (walk.call)(&mut api, step).unwrap();
        assert!(matches!(retry.status, 200 | 202), "{} retried after {step}: {}", walk.name, retry.text());
        wait_for(walk.name, PATIENCE, || (walk.after)(step)).unwrap();
        amphora.kill_agent().unwrap();
    }
    panic!("{}: still dying at step {MANY}", walk.name);
}

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
    let (start_it, stop_it) = (act("start"), act("stop"));
    let runs = |_| keepalived_pid(amphora).filter(|_| !amphora.pids("keepalived").unwrap().is_empty());
    let running = |step| runs(step).map(drop).ok_or_else(|| "keepalived does not run".to_owned());
    let stopped = |_| match amphora.pids("keepalived").unwrap()[..] {
        [] => Ok(()),
        ref pids => Err(format!("keepalived runs: {pids:?}")),
    };
    let nothing = |_: &mut Api, _: usize| {};

    let upload = Walk {
        name: "vrrp upload",
        before: &nothing,
        call: &|api, step| put(api, "/1.0/vrrp/upload", config(step)),
        always: &|step| {
            assert!([config(step - 1), config(step)].contains(&there()), "neither old nor new: {}", there())
        },
        after: &|step| if there() == config(step) { Ok(()) } else { Err(there()) },
    };
    assert!(walk(amphora, &upload) >= 4, "the scripts, the file, the service, the answer");
    let begin = Walk {
        name: "vrrp start",
        before: &|api, step| drop(stop_it(api, step).unwrap().success().unwrap()),
        call: &|api, step| start_it(api, step),
        always: &|_| {},
        after: &running,
    };
    assert!(walk(amphora, &begin) >= 3);
    let end = Walk {
        name: "vrrp stop",
        before: &|api, step| drop(start_it(api, step).unwrap().success().unwrap()),
        call: &|api, step| stop_it(api, step),
        always: &|_| {},
        after: &stopped,
    };
    assert!(walk(amphora, &end) >= 3);
}
