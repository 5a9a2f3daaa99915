//! The lab tested without an agent: bare gobgpds announce a VIP that the test binds by hand.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]
#![allow(clippy::doc_markdown, reason = "ToR is a word here, and so are the kernel's functions")]

use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use lab::addresses::{self, FRONTEND, tor_host};
use lab::amphora::{FRONTEND_NIC, HAPROXY_NETNS};
use lab::fabric::TOR_FRONTEND_NIC;
use lab::speaker::{BareNeighbour, gobgp, start_bare};
use lab::{
    Amphora, Capture, Dual, Fabric, Family, Gobgpd, Neighbours, Node, Options, Proc, TorKind, TorOptions, Workdir,
    command,
};
use nix::sys::signal::Signal;

const BOTH: [Family; 2] = [Family::V4, Family::V6];
const SESSION_TIME: Duration = Duration::from_secs(20);
const ROUTE_TIME: Duration = Duration::from_secs(5);

fn host_prefix(address: IpAddr) -> IpNet {
    IpNet::from(address)
}

/// Does by hand what plugging does: the NIC into the namespace, the VIP on `lo`, replies through the gateway.
fn plug_by_hand(amphora: &Amphora, vip: Dual) {
    let node = amphora.node();
    node.run(["ip", "netns", "add", HAPROXY_NETNS]).unwrap();
    node.run(["ip", "link", "set", FRONTEND_NIC, "netns", HAPROXY_NETNS, "name", "eth1"]).unwrap();
    let inside = amphora.haproxy_netns().unwrap();
    // While the NIC's link-local address is tentative the kernel sends no neighbour solicitation for replies from an
    // address of another interface (ndisc_solicit, net/ipv6/ndisc.c): the first IPv6 answers would wait for a second.
    inside.sysctl("net/ipv6/conf/eth1/accept_dad", "0").unwrap();
    let (gateway, own) = (FRONTEND.host(tor_host(0)), |family| amphora.frontend(family));
    inside
        .ip(&format!(
            "link set lo up\nlink set eth1 up\naddr add {}/25 dev eth1\naddr add {}/64 dev eth1 nodad\n\
             addr add {}/32 dev lo\naddr add {}/128 dev lo nodad\nroute add 0.0.0.0/0 via {}\nroute add ::/0 via {}",
            own(Family::V4),
            own(Family::V6),
            vip.v4,
            vip.v6,
            gateway.v4,
            gateway.v6
        ))
        .unwrap();
    meet_the_gateway(amphora);
}

/// Resolves the gateway, which makes the gateway know the amphora too. A Linux router that does not yet moves flows about
/// meanwhile: nexthop_select_path (net/ipv4/nexthop.c) passes over a next hop whose neighbour is incomplete, so that a SYN
/// and the ACK after it may reach different amphorae, and the second answers with a reset.
fn meet_the_gateway(amphora: &Amphora) {
    let inside = amphora.haproxy_netns().unwrap();
    let gateway = FRONTEND.host(tor_host(0));
    for family in BOTH {
        let discard = SocketAddr::new(gateway.of(family), 9);
        let own = SocketAddr::new(amphora.frontend(family), 0);
        inside.within(|| UdpSocket::bind(own).unwrap().send_to(b"hello", discard).unwrap()).unwrap();
        lab::wait_for("the gateway is known", ROUTE_TIME, || {
            let neighbour = inside.run(["ip", "neigh", "show", "to", &discard.ip().to_string()]).unwrap();
            if neighbour.contains("REACHABLE") { Ok(()) } else { Err(neighbour) }
        })
        .unwrap();
    }
}

fn announce(amphora: &Amphora, vip: Dual) {
    for (family, name) in [(Family::V4, "ipv4"), (Family::V6, "ipv6")] {
        let (prefix, hop) = (host_prefix(vip.of(family)).to_string(), amphora.frontend(family).to_string());
        gobgp(amphora.node(), &["global", "rib", "add", "-a", name, &prefix, "nexthop", &hop]).unwrap();
    }
}

fn start_speaker(fabric: &Fabric, amphora: &Amphora, amphora_as: u32, session: Family) -> Proc {
    let neighbours: Vec<_> = fabric
        .tors
        .iter()
        .map(|tor| BareNeighbour {
            address: tor.peering_address(session),
            asn: tor.options().asn,
            password: tor.options().password.clone(),
            ttl_min: tor.options().ttl_hops.map(|hops| u8::MAX - hops + 1),
            multihop: fabric.peering.is_some(),
        })
        .collect();
    let IpAddr::V4(router_id) = amphora.management(Family::V4) else { unreachable!("asked for IPv4") };
    start_bare(amphora.node(), amphora_as, router_id, &neighbours).unwrap()
}

/// Builds a fabric whose amphorae all serve and announce `vip`, and waits for every route.
fn announced(name: &str, options: &Options, session: Family, vip: Dual) -> Fabric {
    let fabric = Fabric::new(name, options).unwrap();
    for amphora in &fabric.amphorae {
        plug_by_hand(amphora, vip);
        amphora.start_haproxy(&[vip.v4.into(), vip.v6.into()], 80).unwrap();
        start_speaker(&fabric, amphora, options.amphora_as, session);
        announce(amphora, vip);
    }
    for tor in &fabric.tors {
        for amphora in &fabric.amphorae {
            tor.wait_established(amphora.management(session), SESSION_TIME).unwrap();
        }
        for family in BOTH {
            let hops: Vec<IpAddr> = fabric.amphorae.iter().map(|amphora| amphora.frontend(family)).collect();
            tor.wait_next_hops(host_prefix(vip.of(family)), &hops, ROUTE_TIME).unwrap();
        }
    }
    fabric
}

/// 300 connections per family reach all three amphorae, and the answers leave by the front-end gateway.
fn clients_reach_everybody(fabric: &Fabric, vip: Dual) {
    for family in BOTH {
        let vip = vip.of(family);
        let wire = Capture::start(fabric.tors[0].node(), TOR_FRONTEND_NIC, &format!("tcp and src host {vip}")).unwrap();
        let split = lab::traffic::connect(&fabric.client, SocketAddr::new(vip, 80), 300).unwrap();
        let replies = wire.stop().unwrap();
        assert_eq!((split.answered(), split.failed()), (300, 0), "{split}");
        assert_eq!(split.answers.len(), fabric.amphorae.len(), "{split}");
        assert!(split.answers.values().all(|count| *count >= 50), "{split}");
        // The answer to a SYN has both flags; `tcp[...]` does not work on IPv6 in pcap-filter(7).
        let syn_acks = replies.matching("").unwrap().iter().filter(|line| line.contains("Flags [S.]")).count();
        assert_eq!(syn_acks, 300, "every reply passes the ToR's front-end NIC once");
    }
}

fn three_amphorae(name: &str, mut options: Options, session: Family) {
    options.tors[0].neighbours = Neighbours::Each(session); // saves gobgpd 3.10's slow first dial
    let vip = addresses::vip(7);
    let fabric = announced(name, &options, session, vip);
    clients_reach_everybody(&fabric, vip);
}

#[test]
fn frr_over_ipv4() {
    three_amphorae("frr-v4", Options::new(TorKind::Frr), Family::V4);
}

#[test]
fn frr_over_ipv6() {
    three_amphorae("frr-v6", Options::new(TorKind::Frr), Family::V6);
}

#[test]
fn bird_over_ipv4() {
    three_amphorae("bird-v4", Options::new(TorKind::Bird), Family::V4);
}

#[test]
fn bird_over_ipv6() {
    three_amphorae("bird-v6", Options::new(TorKind::Bird), Family::V6);
}

#[test]
fn ibgp_with_gobgpd_4() {
    if let Err(error) = Gobgpd::V4.directory() {
        return lab::skipped("ibgp_with_gobgpd_4", &error.to_string());
    }
    for kind in [TorKind::Frr, TorKind::Bird] {
        let mut options = Options::new(kind);
        options.gobgpd = Gobgpd::V4;
        options.tors[0].asn = options.amphora_as;
        three_amphorae("ibgp", options, Family::V4);
    }
}

#[test]
fn two_tors_behind_a_router_take_dialled_sessions() {
    for kind in [TorKind::Frr, TorKind::Bird] {
        let mut options = Options::new(kind);
        options.multihop = true;
        options.tors.push(TorOptions::new(kind));
        let vip = addresses::vip(7);
        let fabric = announced("multihop", &options, Family::V4, vip);
        for family in BOTH {
            let split = lab::traffic::connect(&fabric.client, SocketAddr::new(vip.of(family), 80), 60).unwrap();
            assert_eq!((split.answered(), split.failed()), (60, 0), "{split}");
        }
    }
}

#[test]
fn md5_and_gtsm_admit_who_agrees_and_nobody_else() {
    for kind in [TorKind::Frr, TorKind::Bird] {
        for neighbours in [Neighbours::Range, Neighbours::Each(Family::V4)] {
            let mut options = Options::new(kind);
            options.amphorae = 2;
            options.tors[0].password = Some("correct horse".replace(' ', "-"));
            options.tors[0].ttl_hops = Some(1);
            options.tors[0].neighbours = neighbours;
            let fabric = Fabric::new("md5", &options).unwrap();
            let tor = &fabric.tors[0];
            let [good, bad] = &fabric.amphorae[..] else { unreachable!("two were asked for") };
            start_speaker(&fabric, good, options.amphora_as, Family::V4);
            let wrong = BareNeighbour {
                address: tor.peering_address(Family::V4),
                asn: tor.options().asn,
                password: Some("wrong".into()),
                ttl_min: Some(255),
                multihop: false,
            };
            let IpAddr::V4(router_id) = bad.management(Family::V4) else { unreachable!("asked for IPv4") };
            start_bare(bad.node(), options.amphora_as, router_id, &[wrong]).unwrap();
            let took = tor.wait_established(good.management(Family::V4), SESSION_TIME).unwrap();
            std::thread::sleep(took.max(Duration::from_secs(2))); // as long again for the one that must not
            assert_eq!(tor.established().unwrap(), [good.management(Family::V4)], "{kind:?} {neighbours:?}");
        }
    }
}

/// A ToR without filters is how a test sees that an amphora passes nothing on: a bare gobgpd does.
#[test]
fn without_filters_a_bare_speaker_shows_as_a_transit_router() {
    for kind in [TorKind::Frr, TorKind::Bird] {
        for filters in [true, false] {
            let mut options = Options::new(kind);
            options.amphorae = 1;
            options.tors.push(TorOptions::new(kind));
            for (tor, asn) in options.tors.iter_mut().zip([64500, 64501]) {
                tor.asn = asn;
                tor.filters = filters;
                tor.neighbours = Neighbours::Each(Family::V4);
            }
            let fabric = Fabric::new("transit", &options).unwrap();
            start_speaker(&fabric, &fabric.amphorae[0], options.amphora_as, Family::V4);
            let [first, second] = &fabric.tors[..] else { unreachable!("two were asked for") };
            for tor in [first, second] {
                tor.wait_established(fabric.amphorae[0].management(Family::V4), SESSION_TIME).unwrap();
            }
            let wire_of_first = addresses::transit(0).of(Family::V4);
            let learned = || second.has_learned(wire_of_first).map_err(|error| error.to_string());
            if filters {
                std::thread::sleep(Duration::from_secs(2)); // what does not come has no event; the other case takes 1 s
                assert!(!learned().unwrap());
            } else {
                let learn = || if learned()? { Ok(()) } else { Err("nothing".to_owned()) };
                lab::wait_for("the other ToR's network arrives", ROUTE_TIME, learn).unwrap();
            }
            assert!(!first.has_learned(wire_of_first).unwrap(), "its own network is not learned");
        }
    }
}

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
fn routes_are_followed_as_they_change() {
    for kind in [TorKind::Frr, TorKind::Bird] {
        let mut options = Options::new(kind);
        options.tors[0].neighbours = Neighbours::Each(Family::V4);
        let vip = addresses::vip(7);
        let fabric = announced("watch", &options, Family::V4, vip);
        let (tor, leaver) = (&fabric.tors[0], &fabric.amphorae[1]);
        let watch = tor.watch_routes().unwrap();
        let start = Instant::now();
        gobgp(leaver.node(), &["global", "rib", "del", "-a", "ipv4", &host_prefix(vip.v4.into()).to_string()]).unwrap();
        let gone = watch
            .wait("the VIP's route without the leaver", ROUTE_TIME, |line| {
                line.contains(&vip.v4.to_string())
                    && !line.contains(&leaver.frontend(Family::V4).to_string())
                    && !line.starts_with("Deleted")
            })
            .unwrap();
        assert!(gone.at - start < Duration::from_secs(1), "{kind:?} took {:?}", gone.at - start);
        let left = [&fabric.amphorae[0], &fabric.amphorae[2]].map(|amphora| amphora.frontend(Family::V4));
        tor.wait_next_hops(host_prefix(vip.v4.into()), &left, ROUTE_TIME).unwrap();
        assert_eq!(leaver.kill_program("gobgpd", Signal::SIGKILL).unwrap(), 1);
        let left = [&fabric.amphorae[0], &fabric.amphorae[2]].map(|amphora| amphora.frontend(Family::V6));
        tor.wait_next_hops(host_prefix(vip.v6.into()), &left, ROUTE_TIME).unwrap();
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

#[test]
fn labs_run_side_by_side() {
    std::thread::scope(|scope| {
        for name in ["left", "right"] {
            scope.spawn(move || three_amphorae(name, Options::new(TorKind::Bird), Family::V4));
        }
    });
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
    let fabric = announced("killed", &options, Family::V4, addresses::vip(7));
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
    std::thread::sleep(Duration::from_secs(600));
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
