//! Golden cases: the same requests to this agent and to Octavia's own Python agent, in equal amphorae. Every difference
//! between the answers is in docs/differences.md with its reason; one that is not, or is there no more, fails.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]
#![allow(clippy::format_push_string, clippy::format_collect, reason = "short texts, made once")]

mod case;
mod corpus;
mod differences;
mod pair;
mod raw;
mod reasons;
mod takeover;

use lab::octavia::environment;

/// The test's name in the list of what was skipped.
const NAME: &str = "both_agents_answer_alike_but_for_what_is_listed";

#[test]
fn both_agents_answer_alike_but_for_what_is_listed() {
    if let Err(error) = environment() {
        lab::skipped(NAME, &error.to_string());
        return;
    }
    let cases = corpus::all();
    let pair = pair::Pair::new("golden", "SINGLE");
    let answers = pair.ask(&cases);
    differences::check(&cases, &answers);
}
