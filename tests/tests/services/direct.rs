//! The direct backend, in a node of the lab.

use std::os::unix::process::ExitStatusExt;

use lab::amphora::HAPROXY_NETNS;
use lab::workdir::built_program;
use lab::{Node, Proc, Workdir, command};

use crate::inside::{AGENT, BACKEND, PATIENCE};

/// A machine with the namespace.
fn node(workdir: &Workdir) -> Node {
    let node = Node::new(workdir, "services").unwrap();
    node.run(["ip", "netns", "add", HAPROXY_NETNS]).unwrap();
    node.run(["ip", "-n", HAPROXY_NETNS, "link", "set", "lo", "up"]).unwrap();
    node
}

/// Runs tests of this program in the node.
fn start(node: &Node, tests: &[&str], variables: &[(&str, &str)]) -> Proc {
    let mut program = command([std::env::current_exe().unwrap()]);
    program.args(tests).args(["--ignored", "--nocapture", "--test-threads=4"]);
    program.env(BACKEND, "direct").env(AGENT, built_program("amphora-agent").unwrap());
    node.spawn("contract", program.envs(variables.iter().copied())).unwrap()
}

#[test]
fn the_direct_backend_keeps_the_contract() {
    let workdir = Workdir::new("services-direct").unwrap();
    let node = node(&workdir);
    let ended = start(&node, &["contract::"], &[]).wait(3 * PATIENCE).unwrap();
    let said = std::fs::read_to_string(node.log_path("contract")).unwrap();
    assert!(ended.success(), "{said}");
    assert!(said.contains("10 passed"), "{said}");
}

#[test]
fn a_reboot_starts_what_is_installed_in_its_order() {
    let workdir = Workdir::new("services-reboot").unwrap();
    let node = node(&workdir);
    let ended = start(&node, &["faults::after_a_reboot"], &[]).wait(PATIENCE).unwrap();
    assert!(ended.success(), "{}", std::fs::read_to_string(node.log_path("contract")).unwrap());
}

#[test]
fn kill_9_at_any_step_leaves_what_the_next_agent_mends() {
    let workdir = Workdir::new("services-crash").unwrap();
    let node = node(&workdir);
    let mut steps = Vec::new();
    for step in 1.. {
        assert!(step < 200, "still dying: {steps:?}");
        let walk = start(&node, &["faults::walk"], &[("AMPHORA_AGENT_CRASH_AT", &step.to_string())]);
        let ended = walk.wait(PATIENCE).unwrap();
        let said = || std::fs::read_to_string(node.log_path("contract")).unwrap();
        let mended = start(&node, &["faults::mended"], &[]).wait(PATIENCE).unwrap();
        assert!(mended.success(), "after step {step}: {}", said());
        if ended.success() {
            break;
        }
        let point = said().lines().rev().find_map(|line| line.strip_prefix("crash point ").map(str::to_owned));
        assert_eq!(ended.signal(), Some(9), "step {step}: {}", said());
        steps.extend(point);
    }
    println!("{} steps: {steps:#?}", steps.len());
    for part in ["installed", "before exec", "after exec", "before its reload", "before SIGTERM", "removed"] {
        assert!(steps.iter().any(|step| step.ends_with(part)), "no step {part} in {steps:?}");
    }
}
