//! A gobgpd that is not there, and one that hangs.

use std::fs;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use lab::{Amphora, Api, Family, addresses, picture};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::{PATIENCE, fabric, inside, routed_picture, running, start, vip, wait_route};
use crate::{serving, wait_on_tor};

/// Takes `/usr/bin/gobgpd` away from a node, leaving this machine's alone, and gives it back by a rename.
fn without_gobgpd(amphora: &Amphora) {
    let script = "mkdir -p /run/usr/upper /run/usr/work && cp /usr/bin/gobgpd /run/usr/gobgpd \
                  && mount -t overlay overlay -o lowerdir=/usr,upperdir=/run/usr/upper,workdir=/run/usr/work /usr \
                  && rm /usr/bin/gobgpd";
    amphora.node().run(["sh", "-c", script]).unwrap();
}

#[test]
fn without_gobgpd_the_api_is_up_plugs_work_registrations_say_why_and_its_installation_announces() {
    let fabric = fabric("no-gobgpd", 1);
    let amphora = &fabric.amphorae[0];
    without_gobgpd(amphora);
    let mut api = start(amphora);
    api.plug_vip(vip().v4.into(), &amphora.plug_body(vip())).unwrap().success().unwrap();
    assert_eq!(picture::look(&inside(amphora)).unwrap(), routed_picture(amphora, vip()));
    let reply = api.register(amphora.id(), vip().v4.into(), amphora.frontend(Family::V4), None).unwrap();
    assert_eq!((reply.status, &reply.json()["provisioning_status"]), (202, &json!("PENDING_CREATE")));
    let route = wait_route(&mut api, vip().v4.into(), "PENDING_CREATE", "OFFLINE");
    println!("reason: {}", route["reason"]);
    assert!(route["reason"].as_str().unwrap().contains("gobgpd"), "{route}");
    assert_eq!(api.get("/1.0/info").unwrap().status, 200);
    let peers = api.peers().unwrap();
    assert_eq!((peers.status, &peers.json()[0]["state"]), (200, &json!("Idle")));
    assert!(peers.json()[0]["last_error"].as_str().unwrap().contains("gobgpd"), "{}", peers.text());
    let log = fs::read_to_string(amphora.agent().unwrap().log()).unwrap();
    assert_eq!(log.matches("gobgpd cannot be started").count(), 1, "said once, not at every attempt:\n{log}");

    amphora.node().run(["cp", "/run/usr/gobgpd", "/usr/bin/gobgpd.new"]).unwrap();
    amphora.node().run(["mv", "/usr/bin/gobgpd.new", "/usr/bin/gobgpd"]).unwrap();
    wait_route(&mut api, vip().v4.into(), "ACTIVE", "ONLINE");
    wait_on_tor(&fabric);
}

/// A call by its name, and its status.
type Call<'a> = (&'a str, &'a dyn Fn(&mut Api) -> u16);

/// The longest of these calls.
fn longest(api: &mut Api, what: &str, calls: &[Call<'_>]) -> Duration {
    let mut longest = Duration::ZERO;
    for (name, call) in calls {
        let start = Instant::now();
        let status = call(api);
        let took = start.elapsed();
        println!("{what}: {name}: {status} after {took:.1?}");
        assert!(matches!(status, 200 | 202 | 500), "{what}: {name}: {status}");
        longest = longest.max(took);
    }
    longest
}

#[test]
fn a_hung_gobgpd_holds_up_no_call_and_everything_converges_when_it_goes_on() {
    let (fabric, mut api) = running("hung", 1);
    let amphora = &fabric.amphorae[0];
    serving(&fabric, &mut api);
    let other = "fa:16:3e:00:01:02";
    fabric.frontend.plug(amphora.node(), "ens8", Some(other)).unwrap();
    assert_eq!(amphora.kill_program("gobgpd", Signal::SIGSTOP).unwrap(), 1);
    let foreign: IpAddr = "192.0.2.77".parse().unwrap();
    let body =
        json!({"subnet_cidr": "192.0.2.0/25", "gateway": "192.0.2.1", "mac_address": other, "vrrp_ip": "192.0.2.99"});
    for round in 0..2 {
        let what = if round == 0 { "just hung" } else { "known to hang" };
        let new: IpAddr = addresses::vip(20 + round).v4.into();
        let took = longest(
            &mut api,
            what,
            &[
                ("GET /", &|api| api.get("/").unwrap().status),
                ("info", &|api| api.info().unwrap().status),
                ("register", &|api| api.register("other", new, foreign, None).unwrap().status),
                ("list", &|api| api.amphorae().unwrap().status),
                ("peers", &|api| api.peers().unwrap().status),
                ("plug", &|api| {
                    let vip = addresses::vip(30).v4.into();
                    if round == 0 { api.plug_vip(vip, &body).unwrap().status } else { api.get("/").unwrap().status }
                }),
                ("unregister", &|api| api.unregister("other", &format!("vip_ip={new}")).unwrap().status),
                ("register again", &|api| api.register("other", new, foreign, None).unwrap().status),
            ],
        );
        // A hung speaker is given two seconds by whoever finds it so; the controller would wait 60.
        let ceiling = if round == 0 { 10 } else { 1 };
        assert!(took < Duration::from_secs(ceiling), "{what}: {took:?}");
    }
    for n in 20..22 {
        let route = wait_route(&mut api, addresses::vip(n).v4.into(), "PENDING_CREATE", "OFFLINE");
        println!("reason: {}", route["reason"]);
        assert!(!route["reason"].as_str().unwrap().is_empty());
    }
    assert_eq!(amphora.kill_program("gobgpd", Signal::SIGCONT).unwrap(), 1);
    let start = Instant::now();
    for (vip, hop) in [(20, foreign), (21, foreign), (7, amphora.frontend(Family::V4))] {
        let vip = addresses::vip(vip).v4.into();
        wait_route(&mut api, vip, "ACTIVE", "ONLINE");
        fabric.tors[0].wait_next_hops(vip.into(), &[hop], PATIENCE).unwrap();
    }
    println!("converged {:.1?} after SIGCONT", start.elapsed());
}

/// Nothing announced is unbound while gobgpd cannot be asked to withdraw it; so it must not stay that way.
#[test]
fn a_gobgpd_that_hangs_for_good_is_replaced_and_what_waited_for_it_is_done() {
    let (fabric, mut api) = running("hung-for-good", 1);
    let (amphora, tor) = (&fabric.amphorae[0], &fabric.tors[0]);
    serving(&fabric, &mut api);
    let old = amphora.pids("gobgpd").unwrap();
    let routes = tor.watch_routes().unwrap();
    let bound = lab::routes::RouteWatch::start(&inside(amphora)).unwrap();
    assert_eq!(amphora.kill_program("gobgpd", Signal::SIGSTOP).unwrap(), 1);
    let start = Instant::now();
    let reply = api.unplug_vip(vip().v4.into()).unwrap();
    assert_eq!((reply.status, reply.text().contains("still bound")), (500, true), "{}", reply.text());
    let another = || match amphora.pids("gobgpd").unwrap() {
        new if new.len() == 1 && new != old => Ok(()),
        other => Err(format!("{other:?}")),
    };
    lab::wait_for("another gobgpd", Duration::from_mins(2), another).unwrap();
    println!("another gobgpd {:.1?} after the old one hung", start.elapsed());
    assert!(start.elapsed() > Duration::from_secs(20), "not at the first silence");
    let unplugged = || match api.unplug_vip(vip().v4.into()).unwrap() {
        reply if reply.status == 200 => Ok(()),
        reply => Err(reply.text()),
    };
    lab::wait_for("it is unplugged", Duration::from_mins(1), unplugged).unwrap();
    let deleted = |line: &str| line.starts_with("Deleted") && line.contains("203.0.113.7");
    let gone = routes.wait("the route goes", PATIENCE, deleted).unwrap().at;
    let unbound = bound.wait("the VIP goes", PATIENCE, |line| deleted(line) && line.contains("local")).unwrap().at;
    println!("unbound {:?} after its route went", unbound.checked_duration_since(gone));
    assert!(gone < unbound);
}
