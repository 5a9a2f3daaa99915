//! Sessions: what brings them up, what keeps them down, and what leaves them alone.

use std::{thread, time::Duration};

use bgp::{Audience, Change, Distance, Family, Global, Peer, SessionState, Speaker};

use crate::{
    NEXT_HOP, Site, TOR_A, TOR_AS, TOR_B, TOR_B6, VIP, announcement, bring_up,
    daemon::{Daemon, Gobgpd},
    established, global, on_both, only, peer, restart_time, session,
    tor::{Bird, Frr, Route},
    until,
};

on_both! {
    passwords ttl_security only_what_differs_is_touched without_a_listener passive_and_local_address
    a_renamed_peer_has_its_own_routes_alone
}

const FRR: &str = " neighbor 192.0.2.10 remote-as 64512
 neighbor 192.0.2.10 timers connect 1
 address-family ipv4 unicast
  neighbor 192.0.2.10 activate
 exit-address-family
";

fn bird(options: &str) -> String {
    format!(
        "protocol bgp amphora {{
  local as {TOR_AS}; neighbor 198.51.100.10 as 64512; {options}
  connect retry time 1; connect delay time 1; error wait time 1, 2;
  ipv4 {{ import all; export none; gateway recursive; }};
}}"
    )
}

fn with_password(name: &str, address: &str, password: &str) -> Peer {
    Peer { password: Some(password.parse().unwrap()), ..peer(name, address) }
}

/// Right on one router; wrong, then missing, then right on the other. 80 characters, v4 and v6.
async fn passwords(gobgpd: &Gobgpd) {
    let site = Site::new();
    let daemon = Daemon::start(&site.amphora, gobgpd);
    let longest = "p".repeat(80);
    let _frr = Frr::start(&site.tor_a, TOR_AS, &format!("{FRR} neighbor 192.0.2.10 password {longest}\n"));
    let over_v6 = bird("password \"right\";").replace("198.51.100.10", "2001:db8:b::10");
    let bird = Bird::start(&site.tor_b, &over_v6);
    let a = with_password("tor-a", TOR_A, &longest);
    let speaker = bring_up(&daemon, &[], &[a.clone(), with_password("tor-b", TOR_B6, "wrong")]).await;
    established(&speaker, TOR_A).await;

    let never = async |speaker: &Speaker| {
        for _ in 0..30 {
            assert!(session(speaker, TOR_B6).await.state < SessionState::OpenSent);
            assert!(!bird.birdc("show protocols amphora").contains("Established"));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    never(&speaker).await;
    let diff = speaker.set_peers(&[a.clone(), peer("tor-b", TOR_B6)], restart_time(), false).await.unwrap();
    assert_eq!((diff.changed.len(), diff.kept.len()), (1, 1));
    never(&speaker).await;
    speaker.set_peers(&[a.clone(), with_password("tor-b", TOR_B6, "right")], restart_time(), false).await.unwrap();
    established(&speaker, TOR_B6).await;

    // nothing that can be printed has a password
    let sessions = speaker.sessions().await.unwrap();
    let printed = format!("{a:?} {sessions:?} {speaker:?} {diff:?}");
    assert!(!printed.contains(&longest) && !printed.contains("wrong") && !printed.contains("right"), "{printed}");
}

/// The router sends with 255 and the amphora asks for no hop more: up. It sends with 64: not.
async fn ttl_security(gobgpd: &Gobgpd) {
    let site = Site::new();
    let daemon = Daemon::start(&site.amphora, gobgpd);
    let frr = Frr::start(&site.tor_a, TOR_AS, &format!("{FRR} neighbor 192.0.2.10 ttl-security hops 1\n"));
    let bird = Bird::start(&site.tor_b, &bird("multihop 64;"));
    let near = |p| Peer { distance: Distance::TtlSecurity(1.try_into().unwrap()), ..p };
    let speaker = bring_up(&daemon, &[], &[near(peer("tor-a", TOR_A)), near(peer("tor-b", TOR_B))]).await;
    established(&speaker, TOR_A).await;
    until("FRR agrees", || frr.established("192.0.2.10"));
    for _ in 0..30 {
        assert_ne!(session(&speaker, TOR_B).await.state, SessionState::Established);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // the same router, told as many hops away as it may be
    let far = Peer { distance: Distance::Multihop(64.try_into().unwrap()), ..peer("tor-b", TOR_B) };
    let diff = speaker.set_peers(&[near(peer("tor-a", TOR_A)), far], restart_time(), false).await.unwrap();
    assert_eq!((diff.changed.len(), diff.kept.len()), (1, 1));
    established(&speaker, TOR_B).await;
    until("BIRD agrees", || bird.birdc("show protocols amphora").contains("Established"));
}

/// The same peers and policies again send nothing; one peer's change leaves the other alone.
async fn only_what_differs_is_touched(gobgpd: &Gobgpd) {
    let site = Site::new();
    let daemon = Daemon::start(&site.amphora, gobgpd);
    let frr = Frr::start(&site.tor_a, TOR_AS, FRR);
    let _bird = Bird::start(&site.tor_b, &bird("password \"secret\";"));
    let b = Peer { families: vec![Family::Ipv4], ..with_password("tor-b", TOR_B, "secret") };
    let peers = [peer("tor-a", TOR_A), b.clone()];
    let speaker = bring_up(&daemon, &[announcement(VIP, NEXT_HOP, Audience::All)], &peers).await;
    let a_before = established(&speaker, TOR_A).await;
    let b_before = established(&speaker, TOR_B).await;
    let vip = format!("{VIP}/32");
    until("the route", || frr.route(&vip).is_some());
    let messages = |tor: &Frr| {
        let said = tor.show("neighbors 192.0.2.10");
        let stats = &said["192.0.2.10"]["messageStats"];
        (stats["updatesRecv"].clone(), stats["notificationsRecv"].clone(), stats["routeRefreshRecv"].clone())
    };
    let heard = messages(&frr);
    thread::sleep(Duration::from_millis(1100)); // a reset would show in `since`, which counts seconds

    // a second agent, after a restart of the first
    let again = daemon.connect().await;
    let reordered = [peers[1].clone(), peers[0].clone()];
    assert!(!again.set_policy(&reordered).await.unwrap());
    let diff = again.set_peers(&reordered, restart_time(), false).await.unwrap();
    assert_eq!((diff.kept.len(), diff.added.len(), diff.changed.len(), diff.removed.len()), (2, 0, 0, 0));
    assert_eq!(session(&again, TOR_A).await.since, a_before.since);
    assert_eq!(session(&again, TOR_B).await.since, b_before.since);

    // b's timers change and a third peer comes: a hears nothing of it
    let slower = Peer { hold_time: 30.try_into().unwrap(), keepalive: 0, ..b };
    let third = peer("tor-c", "192.0.2.200");
    let peers = [peers[0].clone(), slower, third];
    assert!(again.set_policy(&peers).await.unwrap());
    let diff = again.set_peers(&peers, restart_time(), false).await.unwrap();
    assert_eq!((diff.kept.len(), diff.added.len(), diff.changed.len()), (1, 1, 1));
    assert_eq!(established(&again, TOR_B).await.hold_time, Some(Duration::from_secs(30)));
    let diff = again.set_peers(&peers, restart_time(), false).await.unwrap();
    assert_eq!(diff.kept.len(), 3, "what was sent reads back as it was sent: {diff:?}");

    // and goes again
    assert!(again.set_policy(&peers[..2]).await.unwrap());
    let diff = again.set_peers(&peers[..2], restart_time(), false).await.unwrap();
    assert_eq!(diff.removed, ["192.0.2.200".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(session(&again, TOR_A).await.since, a_before.since);
    assert_eq!(messages(&frr), heard);
}

/// No port: nothing listens, and sessions come up by dialling.
async fn without_a_listener(gobgpd: &Gobgpd) {
    let site = Site::new();
    let daemon = Daemon::start(&site.amphora, gobgpd);
    let frr = Frr::start(&site.tor_a, TOR_AS, &format!("{FRR} neighbor 192.0.2.10 passive\n"));
    let speaker = daemon.connect().await;
    speaker.start(&Global { listen_port: None, ..global() }).await.unwrap();
    speaker.set_policy(&[peer("tor-a", TOR_A)]).await.unwrap();
    speaker.set_peers(&[peer("tor-a", TOR_A)], None, false).await.unwrap();
    assert_eq!(established(&speaker, TOR_A).await.peer_restart_time, Some(Duration::from_mins(2)));
    assert_eq!(site.amphora.run("ss -Hltn"), "");
    until("FRR agrees", || frr.established("192.0.2.10"));
}

/// Only the router dials, and only the one local address listens.
async fn passive_and_local_address(gobgpd: &Gobgpd) {
    let site = Site::new();
    let daemon = Daemon::start(&site.amphora, gobgpd);
    let frr = Frr::start(&site.tor_a, TOR_AS, FRR);
    let a = Peer { passive: true, local_address: Some("192.0.2.10".parse().unwrap()), ..peer("tor-a", TOR_A) };
    let speaker = daemon.connect().await;
    let listen = vec!["192.0.2.10".parse().unwrap()];
    speaker.start(&Global { listen, ..global() }).await.unwrap();
    assert!(speaker.start(&global()).await.is_err(), "started twice");
    speaker.set_policy(std::slice::from_ref(&a)).await.unwrap();
    speaker.set_peers(std::slice::from_ref(&a), restart_time(), false).await.unwrap();
    established(&speaker, TOR_A).await;
    until("FRR agrees", || frr.established("192.0.2.10"));
    let listening = site.amphora.run("ss -Hltn");
    assert!(listening.lines().count() == 1 && listening.contains("192.0.2.10:179"), "{listening}");
    assert_eq!(speaker.set_peers(&[a], restart_time(), false).await.unwrap().kept.len(), 1);
    // another local address is another peer
    let diff = speaker.set_peers(&[peer("tor-a", TOR_A)], restart_time(), false).await.unwrap();
    assert_eq!(diff.changed.len(), 1);
}

/// A new name at an old address is another audience: what the old one was sent is taken back.
async fn a_renamed_peer_has_its_own_routes_alone(gobgpd: &Gobgpd) {
    let site = Site::new();
    let daemon = Daemon::start(&site.amphora, gobgpd);
    let (frr, bird) = (Frr::start(&site.tor_a, TOR_AS, FRR), Bird::start(&site.tor_b, &bird("")));
    let (old, new, other) = (peer("old", TOR_A), peer("new", TOR_A), peer("other", TOR_B));
    let for_old = announcement(VIP, NEXT_HOP, only(&["old"]));
    let for_new = announcement("203.0.113.8", NEXT_HOP, only(&["new"]));
    let speaker = bring_up(&daemon, std::slice::from_ref(&for_old), &[old, other.clone()]).await;
    established(&speaker, TOR_B).await;
    let vip = format!("{VIP}/32");
    until("the old name's", || frr.route(&vip).is_some());
    let other_since = session(&speaker, TOR_B).await.since;

    speaker.apply(&[Change::Announce(for_new)]).await.unwrap();
    assert!(speaker.set_policy(&[new.clone(), other.clone()]).await.unwrap());
    let is_plain = |r: Option<Route>| r.is_some_and(|r| r.large_communities.is_empty());
    until("the new name's alone", || frr.route(&vip).is_none() && is_plain(frr.route("203.0.113.8/32")));
    speaker.set_peers(&[new, other], restart_time(), false).await.unwrap();
    established(&speaker, TOR_A).await;
    until("the new name's alone", || frr.route(&vip).is_none() && is_plain(frr.route("203.0.113.8/32")));
    assert_eq!(session(&speaker, TOR_B).await.since, other_since);
    assert_eq!(bird.route("203.0.113.8/32"), None);

    // the path for the old name is nobody's now, and is shown as that
    let table = speaker.announcements().await.unwrap();
    assert_eq!(table.strays.iter().map(|s| s.prefix).collect::<Vec<_>>(), [Some(for_old.prefix)]);
    assert_eq!(speaker.announcement(for_old.prefix).await.unwrap(), None);
}
