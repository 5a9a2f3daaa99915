//! What routers hold of what is announced.

use std::{net::IpAddr, time::Instant};

use bgp::{Announcement, Attributes, Audience, Change, Peer, Prefix};

use crate::{
    AMPHORA_AS, NEXT_HOP, NEXT_HOP6, Site, TOR_A, TOR_AS, TOR_B, TOR_B6, VIP, VIP6, announcement, bring_up,
    daemon::{Daemon, Gobgpd},
    established, on_both, only, peer, session, session_when,
    tor::{Bird, Frr, Preference, Route},
    until,
};

on_both! {
    every_family_of_prefix_and_session the_audience_decides each_peer_sees_communities_of_its_own
    attributes_of_routes_and_of_peers ten_thousand
}

const FRR: &str = " neighbor 192.0.2.10 remote-as 64512
 neighbor 192.0.2.10 timers connect 1
 address-family ipv4 unicast
  network 10.99.1.0/24
  no network import-check
  neighbor 192.0.2.10 activate
 exit-address-family
 address-family ipv6 unicast
  neighbor 192.0.2.10 activate
 exit-address-family
";

/// A BIRD session to the amphora, over IPv4 or IPv6.
fn bird(amphora: &str, own_as: u32) -> String {
    format!(
        "protocol static {{ ipv4; route 10.99.2.0/24 blackhole; }}
protocol bgp amphora {{
  local as {own_as}; neighbor {amphora} as {AMPHORA_AS};
  connect retry time 1; connect delay time 1; error wait time 1, 2;
  ipv4 {{ import all; export all; gateway recursive; extended next hop on; }};
  ipv6 {{ import all; export all; gateway recursive; }};
}}"
    )
}

fn prefix(text: &str) -> Prefix {
    text.parse::<IpAddr>().unwrap().try_into().unwrap()
}

fn communities(texts: &[&str]) -> Attributes {
    Attributes { communities: texts.iter().map(|text| text.parse().unwrap()).collect(), ..Attributes::default() }
}

/// A route with this next hop and nothing else to it.
fn plain(next_hop: &str) -> Route {
    let (origin, communities, large_communities) = ("IGP".to_owned(), vec![], vec![]);
    Route { next_hop: next_hop.to_owned(), origin, communities, large_communities }
}

/// eBGP over IPv4 to FRR and iBGP over IPv6 to BIRD, both families in both: next hops as said,
/// ORIGIN IGP, communities, no mark.
async fn every_family_of_prefix_and_session(gobgpd: &Gobgpd) {
    let site = Site::new();
    let daemon = Daemon::start(&site.amphora, gobgpd);
    let (frr, bird) =
        (Frr::start(&site.tor_a, TOR_AS, FRR), Bird::start(&site.tor_b, &bird("2001:db8:b::10", AMPHORA_AS)));
    let b = Peer { remote_as: AMPHORA_AS.try_into().unwrap(), ..peer("tor-b", TOR_B6) };
    let both = [announcement(VIP, NEXT_HOP, Audience::All), announcement(VIP6, NEXT_HOP6, Audience::All)];
    let speaker = bring_up(&daemon, &both, &[peer("tor-a", TOR_A), b]).await;

    let session = established(&speaker, TOR_A).await;
    assert_eq!(session.peer, Some("tor-a".parse().unwrap()));
    assert_eq!(session.families.len(), 2);
    assert_eq!(session.hold_time.unwrap().as_secs(), 9);
    assert!(session.since.is_some() && !session.add_path, "FRR offers to receive several paths, not to send them");
    established(&speaker, TOR_B6).await;

    let (v4, v6) = (format!("{VIP}/32"), format!("{VIP6}/128"));
    until("FRR has both", || frr.route(&v4).is_some() && frr.route(&v6).is_some());
    until("BIRD has both", || bird.route(&v4).is_some() && bird.route(&v6).is_some());
    assert_eq!((frr.route(&v4), frr.route(&v6)), (Some(plain(NEXT_HOP)), Some(plain(NEXT_HOP6))));
    assert_eq!((bird.route(&v4), bird.route(&v6)), (Some(plain(NEXT_HOP)), Some(plain(NEXT_HOP6))));
    assert!(bird.birdc(&format!("show route {v4} all")).contains("BGP.local_pref: 100"));

    // read back: the table, one prefix, and what each peer is sent
    let table = speaker.announcements().await.unwrap();
    assert_eq!((table.announcements.as_slice(), table.strays.len()), (both.as_slice(), 0));
    assert_eq!(speaker.announcement(prefix(VIP6)).await.unwrap().as_ref(), Some(&both[1]));
    assert_eq!(speaker.announcement(prefix("203.0.113.8")).await.unwrap(), None);
    let sent = speaker.advertised(TOR_A.parse().unwrap(), None).await.unwrap();
    assert_eq!(
        sent.iter().map(|a| (a.prefix, a.next_hop)).collect::<Vec<_>>(),
        both.each_ref().map(|a| (a.prefix, a.next_hop))
    );
    assert_eq!(speaker.advertised(TOR_B6.parse().unwrap(), Some(prefix(VIP))).await.unwrap().len(), 1);
    assert!(speaker.advertised("192.0.2.99".parse().unwrap(), None).await.is_err());

    // communities, an IPv4 prefix by an IPv6 next hop, another next hop: each replaces what stood
    let drained =
        Announcement { attributes: communities(&["65535:0"]), ..announcement(VIP, "192.0.2.78", Audience::All) };
    speaker.apply(&[Change::Announce(drained.clone())]).await.unwrap();
    assert_eq!(speaker.announcement(drained.prefix).await.unwrap(), Some(drained));
    until("the new next hop", || frr.route(&v4).is_some_and(|r| r.next_hop == "192.0.2.78"));
    assert_eq!(frr.route(&v4).unwrap().communities, ["graceful-shutdown"]);
    speaker.apply(&[Change::Announce(announcement("203.0.113.9", NEXT_HOP6, Audience::All))]).await.unwrap();
    until("RFC 5549", || bird.route("203.0.113.9/32") == Some(plain(NEXT_HOP6)));

    // withdraw, twice: the second is no error
    for _ in 0..2 {
        speaker.apply(&[Change::Withdraw(prefix(VIP)), Change::Withdraw(prefix(VIP6))]).await.unwrap();
        speaker.apply(&[Change::Withdraw(prefix("203.0.113.9"))]).await.unwrap();
    }
    until("nothing left", || frr.route(&v4).is_none() && frr.route(&v6).is_none() && bird.route(&v4).is_none());
    assert_eq!(speaker.announcements().await.unwrap(), bgp::Table::default());
}

/// All, one, another, nobody; moving touches no one else; no router learns another's routes.
async fn the_audience_decides(gobgpd: &Gobgpd) {
    let site = Site::new();
    let daemon = Daemon::start(&site.amphora, gobgpd);
    let (frr, bird) = (Frr::start(&site.tor_a, TOR_AS, FRR), Bird::start(&site.tor_b, &bird("198.51.100.10", 64_501)));
    let b = Peer { remote_as: 64_501.try_into().unwrap(), ..peer("tor-b", TOR_B) };
    let (all, moving) = (announcement(VIP, NEXT_HOP, Audience::All), |to| announcement("203.0.113.8", NEXT_HOP, to));
    let speaker = bring_up(&daemon, &[all, moving(only(&["tor-a"]))], &[peer("tor-a", TOR_A), b]).await;
    established(&speaker, TOR_A).await;
    established(&speaker, TOR_B).await;

    let (everybodys, ones) = (format!("{VIP}/32"), "203.0.113.8/32");
    until("everybody's", || frr.route(&everybodys).is_some() && bird.route(&everybodys).is_some());
    until("tor-a's", || frr.route(ones) == Some(plain(NEXT_HOP)));
    assert_eq!(bird.route(ones), None);

    let updates_a = frr.updates_received("192.0.2.10");
    speaker.apply(&[Change::Announce(moving(only(&["tor-a", "tor-b"])))]).await.unwrap();
    until("both have it", || bird.route(ones) == Some(plain(NEXT_HOP)));
    assert_eq!(frr.route(ones), Some(plain(NEXT_HOP)));
    speaker.apply(&[Change::Announce(moving(only(&["tor-b"])))]).await.unwrap();
    until("tor-a has it no more", || frr.route(ones).is_none());
    assert_eq!(bird.route(ones), Some(plain(NEXT_HOP)));
    let held = speaker.announcement(prefix("203.0.113.8")).await.unwrap();
    assert_eq!(held.unwrap().audience, only(&["tor-b"]));
    // the attribute change that is none on the wire may or may not be sent; the withdrawal is
    let updates = frr.updates_received("192.0.2.10") - updates_a;
    assert!((1..=2).contains(&updates), "{updates} UPDATEs to tor-a");

    let updates_a = frr.updates_received("192.0.2.10");
    speaker.apply(&[Change::Announce(moving(only(&[])))]).await.unwrap();
    until("nobody has it", || bird.route(ones).is_none());
    assert_eq!(speaker.announcement(prefix("203.0.113.8")).await.unwrap().unwrap().audience, only(&[]));
    assert_eq!(frr.updates_received("192.0.2.10"), updates_a, "tor-a is not concerned");

    // both routers announce a network of their own; neither hears of the other's
    session_when(&speaker, TOR_A, |s| (s.received, s.advertised) == (1, 1)).await;
    session_when(&speaker, TOR_B, |s| (s.received, s.advertised) == (1, 1)).await;
    assert_eq!(frr.prefixes("ipv4"), ["10.99.1.0/24".to_owned(), everybodys.clone()].into());
    assert!(bird.birdc("show route").contains("10.99.2.0/24") && !bird.birdc("show route").contains("10.99.1.0/24"));
    assert_eq!(speaker.announcements().await.unwrap().strays, []);
}

/// Each peer's routes carry its own communities beside the route's; changing one peer's is no message to another.
async fn each_peer_sees_communities_of_its_own(gobgpd: &Gobgpd) {
    let site = Site::new();
    let daemon = Daemon::start(&site.amphora, gobgpd);
    let (frr, bird) = (Frr::start(&site.tor_a, TOR_AS, FRR), Bird::start(&site.tor_b, &bird("198.51.100.10", 64_501)));
    let with = |peer: Peer, texts: &[&str]| Peer { attributes: communities(texts), ..peer };
    // One of two, one that has a name (NO_EXPORT), and the greatest there is.
    let a = with(peer("tor-a", TOR_A), &["64512:100", "65535:65281"]);
    let b = with(Peer { remote_as: 64_501.try_into().unwrap(), ..peer("tor-b", TOR_B) }, &["65535:65535"]);
    let plain = announcement(VIP, NEXT_HOP, Audience::All);
    let draining =
        Announcement { attributes: communities(&["65535:0"]), ..announcement(VIP6, NEXT_HOP6, Audience::All) };
    let speaker = bring_up(&daemon, &[plain.clone(), draining.clone()], &[a.clone(), b.clone()]).await;
    established(&speaker, TOR_A).await;
    established(&speaker, TOR_B).await;
    let (v4, v6) = (format!("{VIP}/32"), format!("{VIP6}/128"));
    let of = |route: Option<Route>| route.map_or_else(Vec::new, |route| route.communities);
    until("both routers have both", || {
        [&v4, &v6].iter().all(|prefix| frr.route(prefix).is_some() && bird.route(prefix).is_some())
    });
    assert_eq!(of(frr.route(&v4)), ["64512:100", "no-export"]);
    assert_eq!(of(frr.route(&v6)), ["64512:100", "graceful-shutdown", "no-export"]);
    assert_eq!(of(bird.route(&v4)), ["(65535,65535)"]);
    assert_eq!(of(bird.route(&v6)), ["(65535,0)", "(65535,65535)"]);
    assert!(
        frr.route(&v4).unwrap().large_communities.is_empty() && bird.route(&v4).unwrap().large_communities.is_empty()
    );
    // what was announced is read back as it was, whatever is put on for a peer
    let mut held = speaker.announcements().await.unwrap().announcements;
    held.sort_by_key(|announcement| announcement.prefix);
    assert_eq!(held, [plain, draining]);
    assert!(!speaker.set_policy(&[a.clone(), b.clone()]).await.unwrap(), "nothing has changed");

    let since = session(&speaker, TOR_B).await.since;
    let b_alone = || bird.birdc("show protocols all").lines().find(|l| l.contains("Import updates")).map(str::to_owned);
    let updates = b_alone();
    for texts in [&["64512:101"][..], &[]] {
        assert!(speaker.set_policy(&[with(a.clone(), texts), b.clone()]).await.unwrap());
        until("tor-a's have changed", || frr.route(&v4).is_some_and(|route| route.communities == texts));
    }
    assert_eq!((session(&speaker, TOR_B).await.since, b_alone()), (since, updates), "tor-b is not concerned");
    assert_eq!(of(bird.route(&v4)), ["(65535,65535)"]);
}

/// MED goes to both kinds of peers, prepends to external ones, `LOCAL_PREF` to internal ones; a route's own MED and
/// `LOCAL_PREF` stand before its peer's, prepends add up. Changes reach the routers in the same session.
async fn attributes_of_routes_and_of_peers(gobgpd: &Gobgpd) {
    // FRR external and BIRD internal, then the other way round
    for (frr_as, bird_as) in [(TOR_AS, AMPHORA_AS), (AMPHORA_AS, TOR_AS)] {
        let site = Site::new();
        let daemon = Daemon::start(&site.amphora, gobgpd);
        let (frr, bird) =
            (Frr::start(&site.tor_a, frr_as, FRR), Bird::start(&site.tor_b, &bird("198.51.100.10", bird_as)));
        let own = Attributes { med: Some(50), local_pref: Some(150), prepend: 1, ..communities(&["64512:1"]) };
        let a = Peer { remote_as: frr_as.try_into().unwrap(), attributes: own.clone(), ..peer("tor-a", TOR_A) };
        let b = Peer { remote_as: bird_as.try_into().unwrap(), attributes: own, ..peer("tor-b", TOR_B) };
        let plain = announcement(VIP, NEXT_HOP, Audience::All);
        let worse = Attributes { med: Some(0), local_pref: Some(0), prepend: 11, ..communities(&["64512:2"]) };
        let worse = Announcement { attributes: worse, ..announcement(VIP6, NEXT_HOP6, Audience::All) };
        let speaker = bring_up(&daemon, &[plain.clone(), worse.clone()], &[a.clone(), b.clone()]).await;
        let (a_up, b_up) = (established(&speaker, TOR_A).await.since, established(&speaker, TOR_B).await.since);
        let (v4, v6) = (format!("{VIP}/32"), format!("{VIP6}/128"));
        let see = |prefix: &str, ases: usize, med: u32, local_pref: Option<u32>| {
            let external =
                |default| Some(Preference { as_path: vec![AMPHORA_AS; ases], med: Some(med), local_pref: default });
            let internal = Some(Preference { as_path: vec![], med: Some(med), local_pref: local_pref.or(Some(100)) });
            let want = if frr_as == TOR_AS { (external(None), internal) } else { (internal, external(Some(100))) };
            let seen = || (frr.preference(prefix), bird.preference(prefix));
            until(&format!("{prefix} is {want:?}, not {:?}", seen()), || seen() == want);
        };
        see(&v4, 2, 50, Some(150));
        see(&v6, 13, 0, Some(0));
        assert_eq!(frr.route(&v6).unwrap().communities, ["64512:1", "64512:2"]);
        for (route, prefix) in [(frr.route(&v4), &v4), (bird.route(&v6), &v6)] {
            assert_eq!(route.unwrap().large_communities, [""; 0], "marks on {prefix}");
        }

        // read back: what was announced, and what each peer is sent
        let held = speaker.announcement(worse.prefix).await.unwrap();
        assert_eq!(held, Some(worse.clone()));
        for (peer, external) in [(TOR_A, frr_as == TOR_AS), (TOR_B, bird_as == TOR_AS)] {
            let sent =
                speaker.advertised(peer.parse().unwrap(), Some(worse.prefix)).await.unwrap().remove(0).attributes;
            assert_eq!((sent.prepend, sent.med), (if external { 12 } else { 0 }, Some(0)), "{peer}");
            assert_eq!(sent.local_pref, (!external).then_some(0), "{peer}");
        }
        assert!(!speaker.set_policy(&[b.clone(), a.clone()]).await.unwrap(), "nothing has changed");

        // a route's own, then the peers'
        let better = Attributes { local_pref: Some(200), ..Attributes::default() };
        speaker.apply(&[Change::Announce(Announcement { attributes: better, ..worse.clone() })]).await.unwrap();
        see(&v6, 2, 50, Some(200));
        let med_alone = |peer: Peer| Peer { attributes: Attributes { med: Some(7), ..Attributes::default() }, ..peer };
        assert!(speaker.set_policy(&[med_alone(a), med_alone(b)]).await.unwrap());
        see(&v4, 1, 7, None);
        see(&v6, 1, 7, Some(200));
        assert_eq!(session(&speaker, TOR_A).await.since, a_up, "the session is the same");
        assert_eq!(session(&speaker, TOR_B).await.since, b_up, "the session is the same");
        // back to where the first began
        speaker.apply(&[Change::Announce(worse)]).await.unwrap();
        see(&v6, 12, 0, Some(0));
    }
}

/// A table's worth in one call, and again.
async fn ten_thousand(gobgpd: &Gobgpd) {
    let site = Site::new();
    let daemon = Daemon::start(&site.amphora, gobgpd);
    let frr = Frr::start(&site.tor_a, TOR_AS, FRR);
    let speaker = bring_up(&daemon, &[], &[peer("tor-a", TOR_A)]).await;
    established(&speaker, TOR_A).await;
    let vips: Vec<String> = (0..10_000).map(|i| format!("100.64.{}.{}", i / 250, i % 250 + 1)).collect();
    let announce: Vec<Change> =
        vips.iter().map(|vip| Change::Announce(announcement(vip, NEXT_HOP, Audience::All))).collect();
    let begin = Instant::now();
    speaker.apply(&announce).await.unwrap();
    let took = begin.elapsed();
    let table = speaker.announcements().await.unwrap();
    assert_eq!((table.announcements.len(), table.strays.len()), (10_000, 0));
    let begin = Instant::now();
    assert!(speaker.announcement(prefix("100.64.39.250")).await.unwrap().is_some());
    let lookup = begin.elapsed();
    println!("{:?}: 10,000 announced in {took:?}, one looked up in {lookup:?}", gobgpd.flags.version);
    until("FRR has them", || frr.prefixes("ipv4").len() == 10_001);

    // withdraws and announcements in one batch keep their order
    let vip = prefix(&vips[0]);
    let last = Change::Announce(announcement(&vips[0], "192.0.2.78", Audience::All));
    let mut changes: Vec<Change> = vips.iter().map(|vip| Change::Withdraw(prefix(vip))).collect();
    changes.push(last);
    speaker.apply(&changes).await.unwrap();
    let held = speaker.announcements().await.unwrap().announcements;
    assert_eq!(
        held.iter().map(|a| (a.prefix, a.next_hop.to_string())).collect::<Vec<_>>(),
        [(vip, "192.0.2.78".to_owned())]
    );
}
