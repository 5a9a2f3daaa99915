//! `kill -9` of the agent at every step of every call: what was answered is there, what was not is wholly absent or is
//! completed by a retry, and haproxy serves on all the while.

use lab::{Api, Reply, wait_for};

use crate::support::{LB, Lab, PATIENCE, act, answer, configuration, delete};

/// More points than the agent passes from its start to the end of such a call.
const MANY: usize = 80;

/// A call that is killed at its first step, its second, and so on.
struct Walk<'a> {
    name: &'a str,
    /// Makes what it starts from, by an agent that does not die.
    before: &'a dyn Fn(&Lab, &mut Api),
    call: &'a dyn Fn(&Lab, &mut Api) -> lab::Result<Reply>,
    /// Whether all of it is done.
    after: &'a dyn Fn(&Lab) -> bool,
    /// What clients may be answered at any moment; `None` where haproxy may be down.
    served: Option<&'a [&'a str]>,
}

impl Walk<'_> {
    fn run(&self, lab: &Lab) {
        let mut deaths = Vec::new();
        for step in 1..MANY {
            (self.before)(lab, &mut lab.start(&[]));
            lab.amphora().kill_agent().unwrap();
            let agent = lab.amphora().start_agent(&[("AMPHORA_AGENT_CRASH_AT", &step.to_string())]).unwrap();
            let mut api = lab.amphora().api().unwrap();
            let up = || match api.get("/") {
                Err(error) if agent.is_running() => Err(lab::error::chain(&error)),
                other => Ok(other),
            };
            let up = wait_for("the agent answers or ends", PATIENCE, up).unwrap().0.is_ok();
            let reply = if up { Some((self.call)(lab, &mut api)) } else { None };
            if let Some(Ok(reply)) = reply {
                assert!(matches!(reply.status, 200 | 202), "{} at {step}: {}", self.name, reply.text());
                lab.amphora().kill_agent().unwrap();
                let what = format!("{} is done, as it was answered before a kill", self.name);
                wait_for(&what, PATIENCE, || if (self.after)(lab) { Ok(()) } else { Err("not yet") }).unwrap();
                println!("{}: killed at {} steps: {deaths:?}", self.name, deaths.len());
                assert!(deaths.len() >= 3, "{}: too few to be all: {deaths:?}", self.name);
                return;
            }
            agent.wait(PATIENCE).unwrap();
            if up {
                let log = std::fs::read_to_string(agent.log()).unwrap();
                let point = log.lines().rev().find_map(|line| line.strip_prefix("crash point ")).unwrap();
                deaths.push(point.to_owned());
            }
            if let Some(served) = self.served {
                let split = lab.ask(80, 20);
                let right = split.answers.keys().all(|answer| served.contains(&answer.as_str()));
                assert!(right && split.failed() == 0, "{}, killed at {:?}: {split}", self.name, deaths.last());
            }
            let mut api = lab.start(&[]);
            for again in ["retried", "called again"] {
                let (status, body) = answer((self.call)(lab, &mut api));
                assert!(matches!(status, 200 | 202), "{}, killed at {:?}, {again}: {body}", self.name, deaths.last());
                assert!((self.after)(lab), "{}, killed at {:?}, {again}: not done", self.name, deaths.last());
            }
            lab.amphora().kill_agent().unwrap();
        }
        panic!("{}: still dying at step {MANY}", self.name);
    }
}

fn fresh(lab: &Lab, api: &mut Api) {
    assert_eq!(answer(delete(api, LB)).0, 200);
    assert_eq!((lab.files(LB), lab.masters()), (Vec::new(), Vec::new()));
}

fn stored(lab: &Lab, api: &mut Api, text: &str) {
    assert_eq!(answer(lab.upload(api, LB, configuration(LB, text))).0, 202);
}

fn running(lab: &Lab, api: &mut Api) {
    stored(lab, api, "old");
    assert_eq!(answer(act(api, LB, "reload")).0, 202);
    lab.wait_answer(80, "old");
}

fn serves(lab: &Lab, text: &str) -> bool {
    lab.ask(80, 1).answers.contains_key(text) && lab.masters().len() == 1
}

#[test]
fn an_upload_killed_anywhere_leaves_the_old_configuration_or_the_new() {
    let (lab, _) = Lab::new("haproxy-kill-upload");
    lab.amphora().kill_agent().unwrap();
    let is_stored = |lab: &Lab, text: &str| {
        lab.files(LB).contains(&"haproxy.cfg".to_owned())
            && lab.read(&format!("/var/lib/octavia/{LB}/haproxy.cfg")) == Some(configuration(LB, text))
    };
    let upload = |lab: &Lab, api: &mut Api| lab.upload(api, LB, configuration(LB, "new"));
    let after = |lab: &Lab| is_stored(lab, "new");
    let first = Walk { name: "first upload", before: &fresh, call: &upload, after: &after, served: None };
    first.run(&lab);
    let served = Some(&["old"][..]);
    Walk { name: "upload", before: &running, call: &upload, after: &after, served }.run(&lab);
}

#[test]
fn a_start_stop_or_reload_killed_anywhere_is_completed_by_a_retry() {
    let (lab, _) = Lab::new("haproxy-kill-act");
    lab.amphora().kill_agent().unwrap();
    let ready = |lab: &Lab, api: &mut Api| {
        fresh(lab, api);
        stored(lab, api, "new");
    };
    let start = |_: &Lab, api: &mut Api| act(api, LB, "start");
    let serves_new = |lab: &Lab| serves(lab, "new");
    Walk { name: "start", before: &ready, call: &start, after: &serves_new, served: None }.run(&lab);
    let changed = |lab: &Lab, api: &mut Api| {
        running(lab, api);
        stored(lab, api, "new");
    };
    let reload = |_: &Lab, api: &mut Api| act(api, LB, "reload");
    let served = Some(&["old", "new"][..]);
    Walk { name: "reload", before: &changed, call: &reload, after: &serves_new, served }.run(&lab);
    let stop = |_: &Lab, api: &mut Api| act(api, LB, "stop");
    let is_down = |lab: &Lab| lab.masters().is_empty() && lab.ask(80, 1).answered() == 0;
    Walk { name: "stop", before: &running, call: &stop, after: &is_down, served: None }.run(&lab);
}

#[test]
fn a_deletion_killed_anywhere_is_completed_by_a_retry() {
    let (lab, _) = Lab::new("haproxy-kill-delete");
    lab.amphora().kill_agent().unwrap();
    let whole = |lab: &Lab, api: &mut Api| {
        running(lab, api);
        let path = format!("/1.0/loadbalancer/{LB}/certificates/a.pem");
        assert_eq!(api.send(hyper::Method::PUT, &path, &[], b"secret".to_vec()).unwrap().status, 200);
    };
    let call = |_: &Lab, api: &mut Api| delete(api, LB);
    let nothing_left = |lab: &Lab| {
        let find = ["find", "/var/lib/octavia", "/run/amphora-agent", "-name", &format!("*{LB}*")];
        lab.node_run(&find).is_empty() && lab.masters().is_empty() && lab.ask(80, 1).answered() == 0
    };
    Walk { name: "deletion", before: &whole, call: &call, after: &nothing_left, served: None }.run(&lab);
}
