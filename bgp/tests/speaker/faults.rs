//! A daemon that dies, hangs, is not there, or is open to others.

use std::{
    fs::{self, Permissions},
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        net::UnixListener,
    },
    process::Command,
    time::{Duration, Instant},
};

use bgp::{ApiVersion, Audience, Change, Error, SessionState, Speaker};
use futures_util::StreamExt;

use crate::{
    NEXT_HOP, NEXT_HOP6, Site, TOR_A, TOR_AS, TOR_B, VIP, VIP6, announcement, bring_up,
    daemon::{Daemon, Gobgpd},
    established, global,
    node::Node,
    on_both, peer, restart_time,
    tor::{Bird, Frr},
    until,
};

on_both! { killed_and_replayed a_hung_daemon_is_slow unprivileged_and_closed }

const FRR: &str = " neighbor 192.0.2.10 remote-as 64512
 neighbor 192.0.2.10 timers connect 1
 bgp graceful-restart
 address-family ipv4 unicast
  neighbor 192.0.2.10 activate
 exit-address-family
 address-family ipv6 unicast
  neighbor 192.0.2.10 activate
 exit-address-family
";

const BIRD: &str = "protocol kernel { ipv4 { export all; }; learn off; }
protocol bgp amphora {
  local as 64500; neighbor 198.51.100.10 as 64512; graceful restart on;
  connect retry time 1; connect delay time 1; error wait time 1, 2;
  ipv4 { import all; export none; gateway recursive; };
}";

/// The watch ends at once, the same speaker finds the new daemon, and the routers' kernels, which
/// were promised a graceful restart, never lose a route; not even though a third peer is away.
async fn killed_and_replayed(gobgpd: &Gobgpd) {
    let site = Site::new();
    let mut daemon = Daemon::start(&site.amphora, gobgpd);
    let frr = Frr::start(&site.tor_a, TOR_AS, FRR);
    let _bird = Bird::start(&site.tor_b, BIRD);
    let peers = [peer("tor-a", TOR_A), peer("tor-b", TOR_B), peer("away", "192.0.2.200")];
    let routes = [announcement(VIP, NEXT_HOP, Audience::All), announcement(VIP6, NEXT_HOP6, Audience::All)];
    let speaker = bring_up(&daemon, &routes, &peers).await;
    established(&speaker, TOR_A).await;
    established(&speaker, TOR_B).await;
    let (v4, v6) = (format!("ip route show {VIP}"), format!("ip -6 route show {VIP6}"));
    until("FRR's kernel", || !site.tor_a.run(&v4).is_empty() && !site.tor_a.run(&v6).is_empty());
    until("BIRD's kernel", || !site.tor_b.run(&v4).is_empty());

    let logs = tempfile::tempdir().unwrap();
    let monitors = [("frr", &site.tor_a), ("bird", &site.tor_b)].map(|(name, tor)| {
        let log = logs.path().join(name);
        let seen = fs::File::create(&log).unwrap();
        (tor.command("ip").args(["monitor", "route"]).stdout(seen).spawn().unwrap(), log)
    });
    let mut watch = Box::pin(speaker.watch());
    let first = watch.next().await.unwrap().unwrap();
    assert!(peers.iter().any(|p| p.address == first.address));
    daemon.program.take_over().unwrap(); // and the restart below gives it back
    daemon.kill();
    let begin = Instant::now();
    let last = loop {
        if let Err(error) = watch.next().await.unwrap() {
            break error;
        }
    };
    println!("the watch ended {:?} after the daemon", begin.elapsed());
    assert!(matches!(last, Error::Lost(_)), "{last:?}");
    assert!(begin.elapsed() < Duration::from_secs(1));
    assert!(watch.next().await.is_none());
    assert!(matches!(speaker.global().await, Err(Error::Unreachable { .. } | Error::Lost(_))));

    daemon.restart();
    assert_eq!(speaker.global().await.unwrap(), None, "the same speaker, a new daemon");
    assert!(matches!(speaker.apply(&[Change::Announce(routes[0].clone())]).await, Err(Error::NotStarted)));
    let begin = Instant::now();
    bring_up(&daemon, &routes, &peers).await;
    let mut watch = Box::pin(speaker.watch());
    while !watch
        .next()
        .await
        .unwrap()
        .is_ok_and(|e| e.address == peers[0].address && e.state == SessionState::Established)
    {}
    established(&speaker, TOR_B).await;
    println!("{:?}: sessions back after {:?}", gobgpd.flags.version, begin.elapsed());
    until("FRR has heard all", || {
        let said = frr.show("ipv4 unicast 203.0.113.7/32");
        said["paths"][0]["stale"] != true && frr.established("192.0.2.10")
    });
    std::thread::sleep(Duration::from_secs(2)); // stale routes are removed after End-of-RIB
    assert!(!site.tor_a.run(&v4).is_empty() && !site.tor_a.run(&v6).is_empty() && !site.tor_b.run(&v4).is_empty());
    for (_ends_with_its_node, log) in monitors {
        let seen = fs::read_to_string(log).unwrap();
        let deleted = seen.lines().filter(|l| l.starts_with("Deleted") && (l.contains(VIP) || l.contains(VIP6)));
        assert_eq!(deleted.collect::<Vec<_>>(), [""; 0]);
    }
}

/// A stopped daemon keeps its socket and answers nothing.
async fn a_hung_daemon_is_slow(gobgpd: &Gobgpd) {
    let node = Node::new();
    let daemon = Daemon::start(&node, gobgpd);
    let speaker = Speaker::connect_within(&daemon.program.socket, Duration::from_millis(300)).await.unwrap();
    speaker.start(&global()).await.unwrap();
    node.run(&format!("kill -STOP {}", daemon.pid()));
    let begin = Instant::now();
    assert!(matches!(speaker.global().await, Err(Error::Slow { .. })));
    let change = Change::Announce(announcement(VIP, NEXT_HOP, Audience::All));
    assert!(matches!(speaker.apply(&[change]).await, Err(Error::Slow { .. })));
    let crossed = Change::Announce(announcement(VIP6, NEXT_HOP, Audience::All));
    assert!(matches!(speaker.apply(&[crossed]).await, Err(Error::Invalid(_))), "nothing was sent");
    let connect = Speaker::connect_within(&daemon.program.socket, Duration::from_millis(300)).await;
    assert!(matches!(connect, Err(Error::Slow { .. })));
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    node.run(&format!("kill -CONT {}", daemon.pid()));
    assert!(speaker.global().await.unwrap().is_some());
}

/// Its own account, one capability, no TCP but BGP's, and a socket for one reader: first that
/// account's, then root's, also a root without the power to override modes.
async fn unprivileged_and_closed(gobgpd: &Gobgpd) {
    let node = Node::new();
    let daemon = Daemon::start(&node, gobgpd);
    let speaker = daemon.connect().await;
    assert_eq!(speaker.api(), if gobgpd.flags.version.0 == 3 { ApiVersion::V3 } else { ApiVersion::V4 });
    speaker.start(&global()).await.unwrap();
    speaker.set_policy(&[]).await.unwrap();
    speaker.set_peers(&[], restart_time(), false).await.unwrap();

    let status = node.run(&format!("cat /proc/{}/status", daemon.pid()));
    let line =
        |key: &str| status.lines().find_map(|l| l.strip_prefix(key)).unwrap().split_whitespace().collect::<Vec<_>>();
    assert_eq!((line("Uid:"), line("Gid:")), (vec!["64179"; 4], vec!["64179"; 4]));
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(line(set), ["0000000000000400"], "{set}");
    }
    assert_eq!((line("NoNewPrivs:"), line("Groups:")), (vec!["1"], vec![]));
    let listening = node.run("ss -Hltn");
    assert!(listening.lines().all(|l| l.contains(":179 ")) && !listening.is_empty(), "{listening}");

    let socket = &daemon.program.socket;
    let folder = socket.parent().unwrap();
    let mode = |path: &std::path::Path| (path.metadata().unwrap().mode() & 0o777, path.metadata().unwrap().uid());
    assert_eq!((mode(folder), mode(socket)), ((0o700, 64_179), (0o600, 64_179)));
    let reach = |uid: &str| {
        let drop = "--bounding-set=-dac_override,-dac_read_search";
        let connect = "IO::Socket::UNIX->new(Peer => $ARGV[0]) or exit 1";
        let mut command = Command::new("setpriv");
        command.args([drop, "--reuid", uid, "--clear-groups", "--", "perl", "-MIO::Socket::UNIX", "-e", connect]);
        command.arg(socket).status().unwrap().success()
    };
    assert!(reach("64179"));
    assert!(!reach("0"));
    daemon.program.take_over().unwrap();
    assert_eq!((mode(folder), mode(socket)), ((0o700, 0), (0o600, 0)));
    assert!(!reach("64179"));
    assert!(reach("0"));
    assert!(speaker.global().await.unwrap().is_some());
    daemon.connect().await;

    for (path, open) in [(folder, 0o750), (socket.as_path(), 0o660)] {
        let before = path.metadata().unwrap().permissions();
        fs::set_permissions(path, Permissions::from_mode(open)).unwrap();
        assert!(matches!(Speaker::connect(socket).await, Err(Error::Insecure { .. })), "{}", path.display());
        fs::set_permissions(path, before).unwrap();
    }
}

#[tokio::test]
async fn whatever_else_is_there() {
    let folder = tempfile::Builder::new().permissions(Permissions::from_mode(0o700)).tempdir().unwrap();
    let socket = folder.path().join("gobgpd.sock");
    assert!(matches!(Speaker::connect(&socket).await, Err(Error::Unreachable { .. })));
    fs::write(&socket, "").unwrap();
    fs::set_permissions(&socket, Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(Speaker::connect(&socket).await, Err(Error::Insecure { .. })));
    fs::remove_file(&socket).unwrap();

    let listener = UnixListener::bind(&socket).unwrap();
    fs::set_permissions(&socket, Permissions::from_mode(0o600)).unwrap();
    let silent = Speaker::connect_within(&socket, Duration::from_millis(200)).await;
    assert!(matches!(silent, Err(Error::Slow { .. })), "{silent:?}");
    drop(listener);
    let refused = Speaker::connect(&socket).await;
    assert!(matches!(refused, Err(Error::Unreachable { .. })), "{refused:?}");
}
