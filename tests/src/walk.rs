//! A call is killed at its first step, its second, and so on to its end.

use std::time::Duration;

use crate::amphora::Amphora;
use crate::api::{Api, Reply};
use crate::error::chain;
use crate::wait::wait_for;

/// A ceiling, for a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_mins(1);
/// More points than the agent passes from its start to the end of a call.
const MANY: usize = 100;

/// A call, the world it starts from, and what the world is when it is done. The number tells one round from another.
pub struct Walk<'a> {
    /// The call, for what is printed.
    pub name: &'a str,
    /// Points of names that begin so are passed over, where something of the agent's that is none of the call goes on.
    pub but: Option<&'a str>,
    /// Makes what it starts from, by an agent that does not die.
    pub before: &'a dyn Fn(&mut Api, usize),
    /// Makes the call.
    pub call: &'a dyn Fn(&mut Api, usize) -> crate::Result<Reply>,
    /// Looks, whatever the agent died at, before there is another; panics where something is neither old nor new.
    pub always: &'a dyn Fn(usize),
    /// Whether all of it is done; what is instead, otherwise.
    pub after: &'a dyn Fn(usize) -> Result<(), String>,
}

impl std::fmt::Debug for Walk<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Walk").field(&self.name).finish()
    }
}

impl Walk<'_> {
    /// Kills the agent at its first, second, third... point, until it gets through the call. After every death a new agent
    /// completes the call when it is made again, and once more; what was answered is there after a kill. Needs an agent with
    /// the feature `crash-points`. Returns the points at which it died in the call.
    ///
    /// # Panics
    /// Where that is not so.
    pub fn run(&self, amphora: &Amphora) -> Vec<String> {
        let mut points = Vec::new();
        for step in 1..MANY {
            (self.before)(&mut start(amphora), step);
            amphora.kill_agent().expect("the agent can be killed");
            if self.dies_at(amphora, step, &mut points) {
                (self.always)(step);
                let mut api = start(amphora);
                for again in ["retried", "called again"] {
                    self.succeed((self.call)(&mut api, step), &format!("{again} after {:?}", points.last()));
                    self.done(step);
                }
                amphora.kill_agent().expect("the agent can be killed");
                continue;
            }
            amphora.kill_agent().expect("the agent can be killed");
            self.done(step);
            start(amphora);
            self.done(step); // nor does a new agent undo it
            amphora.kill_agent().expect("the agent can be killed");
            println!("{}: killed {} times, {} of them in the call: {points:?}", self.name, step - 1, points.len());
            return points;
        }
        panic!("{}: still dying at step {MANY}", self.name);
    }

    /// Whether the agent dies before its answer.
    fn dies_at(&self, amphora: &Amphora, step: usize, points: &mut Vec<String>) -> bool {
        let at = step.to_string();
        let but = self.but.map(|prefix| ("AMPHORA_AGENT_CRASH_BUT", prefix));
        let environment: Vec<_> = [("AMPHORA_AGENT_CRASH_AT", at.as_str())].into_iter().chain(but).collect();
        let agent = amphora.start_agent(&environment).expect("the agent starts");
        let mut api = amphora.api().expect("a client can be made");
        let up = || match api.get("/") {
            Err(error) if agent.is_running() => Err(chain(&error)),
            other => Ok(other.is_ok()),
        };
        let up = wait_for("the agent answers or ends", PATIENCE, up).expect("it does one of the two").0;
        if up {
            let reply = (self.call)(&mut api, step);
            if reply.is_ok() {
                self.succeed(reply, &format!("at {step}"));
                return false;
            }
        }
        agent.wait(PATIENCE).expect("it dies where there is no answer");
        let log = std::fs::read_to_string(agent.log()).expect("the agent has a log");
        let point =
            log.lines().rev().find_map(|line| line.strip_prefix("crash point ")).expect("it says where it dies");
        points.extend(up.then(|| point.to_owned()));
        true
    }

    fn succeed(&self, reply: crate::Result<Reply>, when: &str) {
        if let Err(error) = reply.and_then(Reply::success) {
            panic!("{} {when}: {}", self.name, chain(&error));
        }
    }

    fn done(&self, step: usize) {
        if let Err(error) = wait_for(self.name, PATIENCE, || (self.after)(step)) {
            panic!("{}", chain(&error));
        }
    }
}

fn start(amphora: &Amphora) -> Api {
    amphora.start_agent(&[]).expect("the agent starts");
    amphora.wait_api(PATIENCE).expect("the agent answers").0
}
