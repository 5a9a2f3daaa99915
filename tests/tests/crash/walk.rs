//! An operation is killed at its first point, its second, and so on to its end.

use std::net::IpAddr;
use std::time::Instant;

use lab::error::chain;
use lab::{Api, Reply, Wreck, wait_for};

use crate::one::{One, PATIENCE};

/// From this point on a plug is complete and its answer is being made durable.
const ANSWERING: &str = "plug: done, not acknowledged";
/// More points than any operation has.
const MANY: usize = 120;

/// An operation to be killed in.
pub(crate) struct Operation<'a> {
    pub(crate) name: &'a str,
    /// Makes the world it starts from, with the agent running or dead; leaves it dead.
    pub(crate) before: &'a dyn Fn(),
    pub(crate) call: &'a dyn Fn(&mut Api) -> lab::Result<Reply>,
    /// What the world is when all of it is done.
    pub(crate) after: &'a dyn Fn(&Wreck) -> bool,
    /// What a call gets that comes after the one that was answered.
    pub(crate) again: u16,
}

/// Kills the agent at its first, second, third... point from its start on, until it gets through the operation.
pub(crate) fn walk(lab: &One, operation: &Operation) {
    let begin = Instant::now();
    let mut points = Vec::new();
    let mut acknowledged = 0;
    loop {
        let n = points.len() + 1;
        assert!(n < MANY, "{}: the agent does not get through it: {points:?}", operation.name);
        (operation.before)();
        let agent = lab.amphora().start_agent(&[("AMPHORA_AGENT_CRASH_AT", &n.to_string())]).unwrap();
        let answered = match lab.call(operation.call) {
            Ok(reply) => {
                assert!(
                    matches!(reply.status, 200 | 202),
                    "{} at {n}: {} {}",
                    operation.name,
                    reply.status,
                    reply.text()
                );
                true
            }
            Err(error) => {
                agent.wait(PATIENCE).unwrap_or_else(|_| panic!("{} at {n}: {}", operation.name, chain(&error)));
                false
            }
        };
        let finished = || match Wreck::of(lab.amphora()) {
            _ if !agent.is_running() => Ok(false),
            Ok(wreck) if (operation.after)(&wreck) => Ok(true),
            other => Err(format!("{other:?}")),
        };
        if wait_for("the end of the operation or of the agent", PATIENCE, finished).unwrap().0 {
            break;
        }
        let point = lab.last_point();
        let wreck = lab.look();
        assert_eq!(lab.unbacked(&wreck), [] as [IpAddr; 0], "{}, killed at {point}: {wreck:?}", operation.name);

        let mut api = lab.start();
        if answered {
            acknowledged += 1;
        } else {
            // When the answer is durable but was not heard, a retry cannot be told from a second call. The work is done
            // then, and the controller takes this 409 for success.
            // The points of all tasks are counted, so a walk may have passed over the one before that.
            let answering = |p: &String| p.ends_with(ANSWERING) || p.contains(": log: ") || p.contains(": owner: ");
            let unheard = points.iter().chain([&point]).any(answering) && (operation.after)(&wreck);
            let retry = (operation.call)(&mut api).unwrap();
            assert!(
                unheard && retry.status == operation.again || matches!(retry.status, 200 | 202),
                "{}, killed at {point}, retried: {}",
                operation.name,
                retry.text()
            );
        }
        // An answer is durable, and that is all it says while the agent has just started.
        let complete = format!("{} is complete after the kill at {point}", operation.name);
        lab.wait_look(&complete, operation.after);
        let again = (operation.call)(&mut api).unwrap();
        assert_eq!(again.status, operation.again, "{}, killed at {point}: {}", operation.name, again.text());
        lab.wait_look(&complete, operation.after);
        points.push(point);
    }
    lab.amphora().kill_agent().unwrap(); // or it would die in what comes next
    println!(
        "{}: killed at {} points, {acknowledged} of them after the answer, in {:.1?}: {points:?}",
        operation.name,
        points.len(),
        begin.elapsed()
    );
    assert!(points.len() >= 4, "{}: too few points to be all its steps", operation.name);
}
