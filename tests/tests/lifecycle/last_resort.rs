//! `last_resort = worse`: an amphora without members is what routers choose last, and a whole cluster of them stays.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use bgp::Community;
use ipnet::IpNet;
use lab::{Amphora, Api, Fabric, Family, Neighbours, Options, Proc, TorKind, TorOptions, addresses, wait_for};
use serde_json::{Value, json};

use crate::network::{pool, start};
use crate::support::{BOTH, PATIENCE, PORT, act, upload};

const GRACEFUL_SHUTDOWN: Community = Community(0xffff_0000);

struct Pair {
    fabric: Fabric,
    apis: Vec<Api>,
}

impl Pair {
    /// Two amphorae, each with one member that is up and a listener that serves, towards an FRR and a BIRD of these ASes.
    fn new(test: &str, ases: [u32; 2]) -> (Self, Vec<Proc>) {
        let mut options = Options::new(TorKind::Frr);
        options.amphorae = 2;
        let kinds = [TorKind::Frr, TorKind::Bird].into_iter().zip(ases);
        options.tors = kinds
            .map(|(kind, asn)| TorOptions { asn, neighbours: Neighbours::Each(Family::V4), ..TorOptions::new(kind) })
            .collect();
        let fabric = Fabric::new(test, &options).unwrap();
        let peers: String = fabric.tors.iter().map(|tor| tor.peer_section(Family::V4)).collect();
        let gates = "announce = listener\nmembers_low = 50\nlast_resort = worse\ncheck_interval = 200\n";
        for amphora in &fabric.amphorae {
            let sections = amphora.distributor_sections().replace("announce = api\n", gates) + &peers;
            amphora.write_config(&sections).unwrap();
            amphora.start_agent(&[]).unwrap();
        }
        let mut pair = Self { apis: Vec::new(), fabric };
        let mut members = Vec::new();
        let vip = addresses::vip(7);
        for amphora in &pair.fabric.amphorae {
            let mut api = amphora.wait_api(PATIENCE).unwrap().0;
            api.plug_vip(vip.v4.into(), &amphora.plug_body(vip)).unwrap().success().unwrap();
            upload(amphora, &mut api, vip, &pool(1));
            members.push(start(amphora, 1));
            act(&mut api, "start");
            pair.apis.push(api);
        }
        pair.wait_chosen(&[0, 1]);
        (pair, members)
    }

    fn amphora(&self, index: usize) -> &Amphora {
        &self.fabric.amphorae[index]
    }

    /// Waits until both ToRs send clients to these amphorae alone, and have paths of both all the same.
    #[track_caller]
    fn wait_chosen(&self, chosen: &[usize]) {
        for (tor, family) in self.fabric.tors.iter().flat_map(|tor| BOTH.map(|family| (tor, family))) {
            let prefix = IpNet::from(addresses::vip(7).of(family));
            let hops: Vec<IpAddr> = chosen.iter().map(|index| self.amphora(*index).frontend(family)).collect();
            tor.wait_next_hops(prefix, &hops, PATIENCE).unwrap();
            assert_eq!(tor.paths(prefix).unwrap().len(), 2, "{} has a path of each", tor.name());
        }
    }

    /// Waits until an agent says this of the VIP.
    fn wait_verdict(&mut self, index: usize, verdict: &str) -> Value {
        let path = format!("/1.0/distributor/why/{}", addresses::vip(7).v4);
        let api = &mut self.apis[index];
        let look = || match api.get(&path).unwrap().success().unwrap().json() {
            why if why["verdict"] == verdict => Ok(why),
            why => Err(why),
        };
        wait_for(&format!("amphora {index} says {verdict}"), PATIENCE, look).unwrap().0
    }

    /// Amphora 1 is drained while a connection keeps it from being withdrawn: it comes before amphora 0, which has no
    /// members.
    #[track_caller]
    fn drain_the_good_one(&mut self) {
        let inside = self.amphora(1).haproxy_netns().unwrap();
        let to = BOTH.map(|family| SocketAddr::new(addresses::vip(7).of(family), PORT));
        let _stay = to.map(|vip| inside.connect(vip, PATIENCE).unwrap());
        let watches: Vec<_> = self.fabric.tors.iter().map(|tor| tor.watch_routes().unwrap()).collect();
        let path = format!("/1.0/distributor/amphorae/{}", self.amphora(1).id());
        let call = |api: &mut Api, action: &str, body: Value| {
            api.put(&format!("{path}/{action}"), &body).unwrap().success().unwrap();
        };
        call(&mut self.apis[1], "drain", json!({ "timeout_s": 300, "max_connections": 0 }));
        self.wait_shut(1, true);
        call(&mut self.apis[1], "undrain", json!({}));
        self.wait_shut(1, false);
        for (tor, watch) in self.fabric.tors.iter().zip(watches) {
            let hops = BOTH.map(|family| self.amphora(0).frontend(family).to_string());
            let seen = watch.so_far().into_iter().filter(|event| hops.iter().any(|hop| event.line.contains(hop)));
            assert_eq!(seen.count(), 0, "{} sends clients to the one without members", tor.name());
        }
    }

    /// Waits until both ToRs have the amphora's routes with `GRACEFUL_SHUTDOWN`, or without.
    #[track_caller]
    fn wait_shut(&self, index: usize, shut: bool) {
        for (tor, family) in self.fabric.tors.iter().flat_map(|tor| BOTH.map(|family| (tor, family))) {
            let (prefix, hop) = (addresses::vip(7).of(family).into(), self.amphora(index).frontend(family));
            let look = || match tor.paths(prefix).unwrap().remove(&hop) {
                Some(path) if path.communities.contains(&GRACEFUL_SHUTDOWN) == shut => Ok(()),
                path => Err(format!("{path:?}")),
            };
            wait_for(&format!("{} has it with GRACEFUL_SHUTDOWN: {shut}", tor.name()), PATIENCE, look).unwrap();
        }
    }
}

fn last_resort(test: &str, ases: [u32; 2]) {
    let (mut pair, members) = Pair::new(test, ases);
    let down = Instant::now();
    members[0].kill_and_wait().unwrap();
    pair.wait_chosen(&[1]);
    println!("{test}: one amphora's members down, the other alone is used after {:?}", down.elapsed());
    let why = pair.wait_verdict(0, "worse");
    assert_eq!((&why["announced"], &why["attributes"]["local_pref"]), (&true.into(), &0.into()), "{why}");
    assert!(why["reason"].as_str().is_some_and(|reason| reason.starts_with("members: 0 of 1")), "{why}");

    pair.drain_the_good_one();

    // An agent that has just started knows no gate, and leaves it the last resort.
    let watches: Vec<_> = pair.fabric.tors.iter().map(|tor| tor.watch_routes().unwrap()).collect();
    pair.amphora(0).kill_agent().unwrap();
    pair.amphora(0).start_agent(&[]).unwrap();
    pair.apis[0] = pair.amphora(0).wait_api(PATIENCE).unwrap().0;
    pair.wait_verdict(0, "worse");
    pair.wait_chosen(&[1]);
    for (tor, watch) in pair.fabric.tors.iter().zip(watches) {
        let vip = addresses::vip(7).v4.to_string();
        let seen: Vec<_> = watch.so_far().into_iter().filter(|event| event.line.contains(&vip)).collect();
        assert!(seen.is_empty(), "{}: {seen:?}", tor.name());
    }

    let down = Instant::now();
    members[1].kill_and_wait().unwrap();
    pair.wait_chosen(&[0, 1]);
    println!("{test}: both amphorae's members down, both are used after {:?}", down.elapsed());
    let _back = start(pair.amphora(0), 1);
    pair.wait_chosen(&[0]);
    pair.wait_verdict(0, "announce");
    // What stops a listener stops it in that state too.
    act(&mut pair.apis[1], "stop");
    for tor in &pair.fabric.tors {
        let prefix = IpNet::from(addresses::vip(7).of(Family::V4));
        let gone = || match tor.paths(prefix).unwrap().len() {
            1 => Ok(()), // FRR may take some ms more than the call
            paths => Err(format!("{paths} paths")),
        };
        wait_for(&format!("{} has one path left", tor.name()), PATIENCE, gone).unwrap();
    }
}

#[test]
fn an_amphora_without_members_is_the_last_choice_of_external_frr_and_internal_bird() {
    last_resort("last-resort", [64500, 64512]);
}

#[test]
fn an_amphora_without_members_is_the_last_choice_of_internal_frr_and_external_bird() {
    last_resort("last-resort-2", [64512, 64500]);
}
