//! What a route carries: each peer's own attributes, and each VIP's.

use std::net::IpAddr;

use ipnet::IpNet;
use lab::routes::RouteWatch;
use lab::tor::Path;
use lab::{Dual, Fabric, Family, Gobgpd, Neighbours, Options, Tor, TorKind, TorOptions, addresses, wait_for};
use nix::sys::signal::Signal;

use crate::active::{PATIENCE, boot, peer, plug, register, wait_peer, wait_routes};

/// An FRR and a BIRD of these ASes, and one amphora of AS 64512.
fn two_tors(test: &str, ases: [u32; 2], gobgpd: Gobgpd) -> Fabric {
    let mut options = Options::new(TorKind::Frr);
    (options.amphorae, options.gobgpd) = (1, gobgpd);
    let kinds = [TorKind::Frr, TorKind::Bird].into_iter().zip(ases);
    options.tors = kinds
        .map(|(kind, asn)| TorOptions { asn, neighbours: Neighbours::Each(Family::V4), ..TorOptions::new(kind) })
        .collect();
    Fabric::new(test, &options).unwrap()
}

/// The only path a ToR has to a VIP.
fn path(tor: &Tor, vip: IpAddr) -> Option<Path> {
    let mut paths = tor.paths(IpNet::from(vip)).unwrap();
    assert!(paths.len() <= 1, "{paths:?}");
    paths.pop_first().map(|(_, path)| path)
}

#[track_caller]
fn wait_path(tor: &Tor, vip: IpAddr, want: &Path) {
    let look = || match path(tor, vip) {
        Some(path) if path == *want => Ok(()),
        path => Err(format!("{path:?}")),
    };
    wait_for(&format!("{} has {vip} with {want:?}", tor.name()), PATIENCE, look).unwrap();
}

/// That no route to one of these VIPs has gone meanwhile. An IPv6 one is there now: where it changed in any way, zebra
/// (without `--v6-rr-semantics`) and BIRD take it away for a moment, for that is how they replace one.
fn none_went(fabric: &Fabric, watches: Vec<RouteWatch>, vips: &[Dual]) {
    for (tor, watch) in fabric.tors.iter().zip(watches) {
        for vip in vips {
            wait_routes(tor, *vip, &[&fabric.amphorae[0]]);
        }
        let of = |line: &str| vips.iter().any(|vip| line.starts_with(&format!("Deleted {} ", vip.v4)));
        let gone = watch.so_far().into_iter().find(|event| of(&event.line));
        assert!(gone.is_none(), "{}: {gone:?}", tor.name());
    }
}

fn watch(fabric: &Fabric) -> Vec<RouteWatch> {
    fabric.tors.iter().map(|tor| tor.watch_routes().unwrap()).collect()
}

/// What a path shall be, in words of the configuration. `ases` are those of an external session.
fn expected(tor: &Tor, communities: &str, ases: usize, med: Option<u32>, local_pref: Option<u32>) -> Path {
    let communities = communities.split_whitespace().map(|text| text.parse().unwrap()).collect();
    if tor.options().asn == 64512 {
        return Path { communities, as_path: vec![], med, local_pref: local_pref.or(Some(100)) };
    }
    let local_pref = (tor.options().kind == TorKind::Bird).then_some(100);
    Path { communities, as_path: vec![64512; ases], med, local_pref }
}

/// Peers and VIPs with attributes of their own, changed by a reload: nobody loses a session or a route by it.
fn of_peers_and_vips(test: &str, ases: [u32; 2], gobgpd: Gobgpd) {
    if let Err(error) = gobgpd.directory() {
        return lab::skipped(test, &error.to_string());
    }
    let fabric = two_tors(test, ases, gobgpd);
    let (amphora, [frr, bird]) = (&fabric.amphorae[0], &fabric.tors[..]) else { unreachable!("two were asked for") };
    let configure = |of_frr: &str, of_bird: &str, of_vip: &str| {
        let [frr, bird] = [(frr, of_frr), (bird, of_bird)].map(|(tor, more)| tor.peer_section(Family::V4) + more);
        let (v4, v6) = (addresses::vip(8).v4, addresses::vip(8).v6);
        let vips = format!("[bgp_vip:{v4}/32]\n{of_vip}[bgp_vip:{v6}/128]\n{of_vip}");
        amphora.write_config(&(amphora.distributor_sections() + &frr + &bird + &vips)).unwrap();
    };
    configure(
        "communities = 64512:100, no-export\nmed = 10\nprepend = 1\nlocal_pref = 110\n",
        "communities = 64512:200\nmed = 20\nlocal_pref = 120\n",
        "communities = 64512:8\nmed = 0\nprepend = 2\nlocal_pref = 80\n",
    );
    let mut api = boot(&fabric).remove(0);
    let mut body = amphora.plug_body(addresses::vip(7));
    let more = addresses::vip(8);
    for family in [Family::V4, Family::V6] {
        let subnet = addresses::FRONTEND.of(family);
        let vip = serde_json::json!({ "ip_address": more.of(family), "subnet_cidr": subnet });
        body["additional_vips"].as_array_mut().unwrap().push(vip);
    }
    api.plug_vip(addresses::vip(7).v4.into(), &body).unwrap().success().unwrap();
    for vip in [addresses::vip(7), more] {
        register(amphora, &mut api, vip, None);
        fabric.tors.iter().for_each(|tor| wait_routes(tor, vip, &[amphora]));
    }
    for family in [Family::V4, Family::V6] {
        let [plain, own] = [7, 8].map(|n| addresses::vip(n).of(family));
        wait_path(frr, plain, &expected(frr, "64512:100 no-export", 2, Some(10), Some(110)));
        wait_path(frr, own, &expected(frr, "64512:100 no-export 64512:8", 4, Some(0), Some(80)));
        wait_path(bird, plain, &expected(bird, "64512:200", 1, Some(20), Some(120)));
        wait_path(bird, own, &expected(bird, "64512:200 64512:8", 3, Some(0), Some(80)));
    }

    let [of_frr, of_bird] =
        [frr, bird].map(|tor| wait_peer(&mut api, tor, "it is up", |peer| peer["state"] == "Established"));
    let watches = watch(&fabric);
    configure("med = 5\n", "communities = 64512:200\nmed = 20\nlocal_pref = 120\n", "communities = 64512:9\n");
    amphora.kill_program("amphora-agent", Signal::SIGHUP).unwrap();
    for family in [Family::V4, Family::V6] {
        let [plain, own] = [7, 8].map(|n| addresses::vip(n).of(family));
        wait_path(frr, own, &expected(frr, "64512:9", 1, Some(5), None));
        wait_path(frr, plain, &expected(frr, "", 1, Some(5), None));
        wait_path(bird, own, &expected(bird, "64512:200 64512:9", 1, Some(20), Some(120)));
        wait_path(bird, plain, &expected(bird, "64512:200", 1, Some(20), Some(120)));
    }
    for (tor, before) in [(frr, of_frr), (bird, of_bird)] {
        assert_eq!(peer(&mut api, tor)["since"], before["since"], "{}: the session is the same", tor.name());
    }
    none_went(&fabric, watches, &[7, 8].map(addresses::vip));
}

#[test]
fn attributes_of_peers_and_vips_reach_external_frr_and_internal_bird() {
    of_peers_and_vips("attributes", [64500, 64512], Gobgpd::Installed);
}

#[test]
fn attributes_of_peers_and_vips_reach_internal_frr_and_external_bird_with_gobgpd_4() {
    of_peers_and_vips("attributes-4", [64512, 64500], Gobgpd::V4);
}

#[test]
fn each_peer_sees_the_communities_of_its_own_section() {
    let fabric = two_tors("communities", [64500, 64501], Gobgpd::Installed);
    let (amphora, [frr, bird]) = (&fabric.amphorae[0], &fabric.tors[..]) else { unreachable!("two were asked for") };
    let configure = |of_frr: &str| {
        let frr = frr.peer_section(Family::V4) + &format!("communities = {of_frr}\n");
        let bird = bird.peer_section(Family::V4) + "communities = 64512:200\n";
        amphora.write_config(&(amphora.distributor_sections() + &frr + &bird)).unwrap();
    };
    let vip = addresses::vip(7);
    configure("64512:101, 64512:100");
    let mut api = boot(&fabric).remove(0);
    plug(amphora, &mut api, vip);
    register(amphora, &mut api, vip, None);
    for tor in [frr, bird] {
        wait_routes(tor, vip, &[amphora]);
    }
    let ip = IpAddr::from(vip.v4);
    wait_path(frr, ip, &expected(frr, "64512:100 64512:101", 1, None, None));
    wait_path(bird, ip, &expected(bird, "64512:200", 1, None, None));

    // Another configuration takes effect with the agent's next start; the other peer hears nothing and no route goes.
    let watches = watch(&fabric);
    amphora.stop_agent().unwrap();
    configure("64512:102");
    amphora.start_agent(&[]).unwrap();
    wait_path(frr, ip, &expected(frr, "64512:102", 1, None, None));
    wait_path(bird, ip, &expected(bird, "64512:200", 1, None, None));
    none_went(&fabric, watches, &[vip]);
}
