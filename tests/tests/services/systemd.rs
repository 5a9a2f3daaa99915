//! The systemd backend, in a Debian 12 of its own: the tree that `tests/debian12.sh` makes, booted by systemd-nspawn
//! inside a node of the lab, so that nothing outlives this program. What is written there goes to memory.

use std::fs;
use std::path::{Path, PathBuf};

use lab::workdir::built_program;
use lab::{Node, Workdir, nspawn, skipped};

use crate::inside::{AGENT, BACKEND, PATIENCE};

const PROGRAM: &str = "/usr/local/bin/contract";
const OUR_AGENT: &str = "/usr/local/bin/amphora-agent";

/// Runs the commands of `script`, one after the other, as a service of the booted machine, which is then off. What
/// they said, and whether all went well.
fn boot(name: &str, tree: &Path, script: &[&str]) -> (bool, String) {
    let workdir = Workdir::new(name).unwrap();
    let results = workdir.path().join("results");
    fs::create_dir(&results).unwrap();
    let body = script.join(" || exit 1\n") + " || exit 1\n";
    fs::write(results.join("run"), format!("#!/bin/sh\nexec >/results/log 2>&1\n{body}touch /results/well\n")).unwrap();
    let unit = format!(
        "[Unit]\nWants=amphora-netns.service amphora-withdraw.service\nAfter=amphora-netns.service multi-user.target\n[Service]\nType=exec\n\
         Environment={BACKEND}=systemd {AGENT}={OUR_AGENT}\nExecStart=/bin/sh /results/run\n\
         ExecStopPost=/bin/systemctl --no-block poweroff\n"
    );
    fs::write(results.join("unit"), unit).unwrap();
    let path = |path: PathBuf| path.canonicalize().unwrap().display().to_string();
    let units = "/etc/systemd/system";
    let binds = [
        format!("--bind={}:/results", path(results.clone())),
        format!("--bind-ro={}:{PROGRAM}", path(std::env::current_exe().unwrap())),
        format!("--bind-ro={}:{OUR_AGENT}", path(built_program("amphora-agent").unwrap())),
        format!("--bind-ro={}:{units}/contract.service", path(results.join("unit"))),
    ];
    let shipped = ["amphora-agent", "amphora-netns", "amphora-withdraw"].map(|unit| {
        let file = path(nspawn::repository().join(format!("systemd/{unit}.service")));
        format!("--bind-ro={file}:{units}/{unit}.service")
    });
    let node = Node::new(&workdir, name).unwrap();
    let mut machine = nspawn::boot_command(&node, &workdir, tree).unwrap();
    machine.arg("--private-network").args(&binds).args(&shipped).arg("systemd.wants=contract.service");
    let ended = node.spawn("nspawn", &mut machine).unwrap().wait(4 * PATIENCE);
    let said = fs::read_to_string(results.join("log")).unwrap_or_default();
    let console = fs::read_to_string(node.log_path("nspawn")).unwrap_or_default();
    nspawn::remove_group(&node, workdir.path());
    let order = fs::read_to_string(results.join("order")).unwrap_or_default();
    (results.join("well").exists(), format!("{said}\n{console}\n{ended:?}\nended: {}", order.replace('\n', " ")))
}

#[test]
fn the_systemd_backend_keeps_the_contract() {
    let tree = match nspawn::debian12() {
        Ok(tree) => tree,
        Err(error) => return skipped("the_systemd_backend_keeps_the_contract", &error.to_string()),
    };
    let speaker = format!("{PROGRAM} --ignored --exact systemd::stand_in_for_a_speaker");
    let unstoppable = "--property=DefaultDependencies=no --property=Type=exec";
    let (well, said) = boot(
        "services-systemd",
        &tree,
        &[
            "ip -n amphora-haproxy link set lo up",
            "ip -n amphora-haproxy link add keep0 type veth peer name keep1",
            "ip -n amphora-haproxy address add 10.99.0.9/24 dev keep0",
            "ip -n amphora-haproxy link set keep0 up && ip -n amphora-haproxy link set keep1 up",
            &format!("{PROGRAM} contract:: ping:: units:: shipped:: --ignored --test-threads=4"),
            &format!("systemd-run {unstoppable} sh -c '{speaker}; echo speaker >>/results/order'"),
            &format!("mkdir -p /run/amphora-agent && printf {SPEAKER} >/run/amphora-agent/speaker"),
            &format!("{PROGRAM} --ignored --exact systemd::leave_a_load_balancer_running"),
            &format!("until test -S {SPEAKER}; do sleep 0.1; done"),
        ],
    );
    assert!(well, "{said}");
    assert!(said.contains("19 passed"), "{said}");
    assert!(said.contains("ended: speaker load-balancer"), "withdrawn before anything is closed: {said}");
}

/// Where a speaker listens.
const SPEAKER: &str = "/run/stand-in.sock";

/// What a machine that goes down has to end first: whoever listens there.
#[test]
#[ignore = "the booted machine runs it, until it is ended"]
fn stand_in_for_a_speaker() {
    let listener = std::os::unix::net::UnixListener::bind(SPEAKER).unwrap();
    for connection in listener.incoming() {
        drop(connection);
    }
}

#[test]
#[ignore = "the booted machine runs it before it goes down"]
fn leave_a_load_balancer_running() {
    crate::inside::run("last", 8023, |case| async move {
        let script = "trap 'echo load-balancer >>/results/order; exit' TERM; while :; do sleep 0.1; done";
        let mut service = case.shell(script);
        service.notify = false;
        service.sandbox.writable.push("/results".into());
        case.services.install(&service).await.unwrap();
        case.services.start(&case.name).await.unwrap();
    });
}
