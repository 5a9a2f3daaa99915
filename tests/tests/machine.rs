//! A node is a machine of its own, and this one does not notice: files, processes, certificates, and a killed lab.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]
#![allow(clippy::doc_markdown, reason = "ToR is a word here, not code")]

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use lab::{Fabric, Family, Node, Options, TorKind, Workdir, addresses, bare, command};
use nix::sys::signal::Signal;

#[test]
fn state_can_be_on_a_real_disk() {
    for on_disk in [false, true] {
        let mut options = Options::new(TorKind::Bird);
        options.amphorae = 1;
        options.state_on_disk = on_disk;
        let fabric = Fabric::new("disk", &options).unwrap();
        let node = fabric.amphorae[0].node();
        node.write_file("/var/lib/octavia/probe", "x", 0o600).unwrap();
        let on_this_machine = fabric.workdir.path().join("amphora-0-state/probe");
        assert_eq!(on_this_machine.exists(), on_disk);
    }
}

#[test]
fn a_node_has_its_own_files_names_and_processes() {
    let workdir = Workdir::new("node").unwrap();
    let node = Node::new(&workdir, "alone").unwrap();
    node.write_file("/etc/octavia/amphora-agent.conf", "x", 0o600).unwrap();
    node.write_file("/var/lib/octavia/state", "y", 0o600).unwrap();
    node.write_file("/run/octavia/z", "z", 0o600).unwrap();
    assert_eq!(node.read_file("/etc/octavia/amphora-agent.conf").unwrap(), "x");
    assert_eq!(node.run(["stat", "-c", "%a", "/var/lib/octavia/state"]).unwrap(), "600\n");
    assert!(!fs::exists("/run/octavia/z").unwrap(), "a node's files are its own");
    assert_eq!(node.run(["hostname"]).unwrap(), "alone\n");
    assert!(node.run(["sh", "-c", "echo 1 > /sys/bus/pci/rescan"]).is_err(), "/sys is this machine's: read-only");
    let refusal = node.run(["sh", "-c", "echo no >&2; exit 3"]).unwrap_err().to_string();
    assert!(refusal.contains("no\n") && refusal.contains('3'), "{refusal}");

    // An orphan is reaped by PID 1, and a process is the test's to signal.
    node.run(["sh", "-c", "sleep 0.05 >/dev/null 2>&1 &"]).unwrap();
    let sleeper = node.spawn("sleep", &mut command(["sleep", "1000"])).unwrap();
    assert!(sleeper.is_running() && fs::exists(format!("/proc/{}", sleeper.pid())).unwrap());
    let stat = || node.run(["sh", "-c", "cat /proc/[0-9]*/stat | grep -c '(sleep)'"]);
    lab::wait_for("the orphan is gone", Duration::from_secs(2), || match stat().unwrap().trim() {
        "1" => Ok(()),
        more => Err(format!("{more} sleepers")),
    })
    .unwrap();
    sleeper.kill(Signal::SIGTERM).unwrap();
    assert_eq!(sleeper.wait(Duration::from_secs(2)).unwrap().to_string(), "signal: 15 (SIGTERM)");
}

/// This machine's mounts and links: what a lab must not change. Other labs never show in it either.
fn machine() -> (String, String) {
    let links = Command::new("ip").args(["-o", "link"]).output().unwrap();
    (fs::read_to_string("/proc/self/mountinfo").unwrap(), String::from_utf8(links.stdout).unwrap())
}

/// Kills a program that holds a lab with SIGKILL: nothing of it may be left. The program is this test's other half.
#[test]
fn nothing_is_left_of_a_killed_lab() {
    let before = machine();
    let mut holder = Command::new(std::env::current_exe().unwrap());
    holder.args(["--exact", "holds_a_lab", "--nocapture", "--ignored"]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut holder = holder.spawn().unwrap();
    let mut pids: Vec<u32> = Vec::new();
    let mut workdir = PathBuf::new();
    let stdout = std::io::BufReader::new(holder.stdout.take().unwrap());
    for line in std::io::BufRead::lines(stdout).map_while(Result::ok) {
        if let Some((_, pid)) = line.split_once("pid ") {
            pids.push(pid.parse().unwrap());
        } else if let Some((_, path)) = line.split_once("workdir ") {
            workdir = path.into();
            assert!(workdir.exists());
            break;
        }
    }
    assert!(pids.len() > 10, "inits and daemons: {pids:?}");
    assert!(pids.iter().all(|pid| fs::exists(format!("/proc/{pid}")).unwrap()));
    let all: Vec<u32> = pids.iter().flat_map(|pid| same_pid_namespace(*pid)).collect();
    assert_eq!(machine(), before, "a running lab changes nothing of this machine");
    holder.kill().unwrap();
    holder.wait().unwrap();
    lab::wait_for("every process of the killed lab is gone", Duration::from_secs(10), || {
        let left: Vec<_> = all.iter().filter(|pid| is_alive(**pid)).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .unwrap();
    assert_eq!(machine(), before);
    // A killed program cannot remove its directory: the next one does (another test's lab may be that one).
    drop(Workdir::new("next").unwrap());
    lab::wait_for("its directory is gone", Duration::from_secs(5), || {
        if workdir.exists() { Err(workdir.display().to_string()) } else { Ok(()) }
    })
    .unwrap();
}

/// Alive, and not a zombie that waits for a parent which is not ours to be.
fn is_alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z')))
}

fn same_pid_namespace(pid: u32) -> Vec<u32> {
    let namespace = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let all = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    all.filter(|other| namespace(*other) == namespace(pid)).collect()
}

#[test]
#[ignore = "not a test: nothing_is_left_of_a_killed_lab starts it and kills it"]
fn holds_a_lab() {
    let options = Options::new(TorKind::Frr);
    let fabric = bare::fabric("killed", &options, Family::V4, addresses::vip(7)).unwrap();
    for node in [&fabric.client, &fabric.router, &fabric.controller, fabric.frontend.switch(), fabric.tors[0].node()] {
        println!("pid {}", node.pid());
    }
    for amphora in &fabric.amphorae {
        println!("pid {}", amphora.node().pid());
    }
    for daemon in fabric.tors[0].daemons() {
        println!("pid {}", daemon.pid());
    }
    println!("pid {}", fabric.management.switch().pid());
    println!("workdir {}", fabric.workdir.path().display());
    std::thread::sleep(Duration::from_mins(10));
}

/// An `openssl s_server` in the agent's place: what the lab's certificates and its client are good for.
#[test]
fn the_controller_speaks_mutual_tls_with_the_right_amphora_only() {
    let mut options = Options::new(TorKind::Bird);
    options.amphorae = 2;
    let fabric = Fabric::new("tls", &options).unwrap();
    let [amphora, other] = &fabric.amphorae[..] else { unreachable!("two were asked for") };
    let server = ["openssl", "s_server", "-accept", "9443", "-www", "-Verify", "1", "-verify_return_error"];
    let files = ["-cert", "server.pem", "-key", "server.pem", "-CAfile", "client_ca.pem"]
        .map(|word| if word.starts_with('-') { word.to_owned() } else { format!("/etc/octavia/certs/{word}") });
    amphora.node().spawn("s_server", command(server).args(&files)).unwrap();

    let mut api = amphora.api().unwrap();
    let answer = || api.get("/").and_then(lab::Reply::success).map_err(|error| lab::error::chain(&error));
    let (reply, _) = lab::wait_for("s_server answers", Duration::from_secs(5), answer).unwrap();
    assert!(reply.text().contains("CN=controller") || reply.text().contains("CN = controller"), "{}", reply.text());

    let pki = &fabric.pki;
    for identity in [None, Some(pki.stranger())] {
        let refused = amphora.api_as(pki.client(identity).unwrap()).unwrap().get("/");
        assert!(refused.is_err(), "{identity:?} got {refused:?}");
    }
    // The same server under another amphora's id: the name decides, as it does for the controller.
    let to = SocketAddr::new(amphora.management(Family::V4), 9443);
    let trusted = pki.client(Some(pki.controller())).unwrap();
    let wrong = lab::Api::new((*fabric.controller).clone(), to, other.id(), trusted).unwrap().get("/");
    let reason = lab::error::chain(&wrong.unwrap_err());
    assert!(reason.contains("not valid for"), "{reason}");
}
