//! The direct backend, in a node of the lab.

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
    program.args(tests).args(["--ignored", "--test-threads=4"]);
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
