//! The agent dies at every step of every operation. With it dead nothing moves, so each time the amphora is looked at as
//! it was left: whatever is announced is bound and silent. Then a new agent has what was acknowledged, and a retry
//! completes what was not.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]
#![allow(clippy::doc_markdown, reason = "ToR is a word here, not code")]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use lab::amphora::{FRONTEND_NIC, HAPROXY_NETNS};
use lab::error::chain;
use lab::{Amphora, Api, Dual, Fabric, Family, Neighbours, Options, Reply, TorKind, Wreck, addresses, wait_for};
use serde_json::{Value, json};

/// A ceiling, for a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_mins(1);
/// From this point on a plug is complete and its answer is being made durable.
const ANSWERING: &str = "plug: done, not acknowledged";
/// More points than any operation has.
const MANY: usize = 120;

/// One ToR, one amphora, and the plug it gets.
struct Lab {
    fabric: Fabric,
    vip: Dual,
    body: Value,
}

impl Lab {
    fn new(name: &str, kind: TorKind) -> Self {
        let mut options = Options::new(kind);
        options.amphorae = 1;
        options.tors[0].neighbours = Neighbours::Each(Family::V4);
        let fabric = Fabric::new(name, &options).unwrap();
        fabric.write_configs(Family::V4).unwrap();
        let vip = addresses::vip(7);
        let body = fabric.amphorae[0].plug_body(vip);
        Self { fabric, vip, body }
    }

    fn amphora(&self) -> &Amphora {
        &self.fabric.amphorae[0]
    }

    fn both(&self) -> BTreeSet<IpAddr> {
        [self.vip.v4.into(), self.vip.v6.into()].into()
    }

    fn start(&self) -> Api {
        self.amphora().start_agent(&[]).unwrap();
        self.amphora().wait_api(PATIENCE).unwrap().0
    }

    /// Calls as soon as the agent answers; an error when it ends before.
    fn call(&self, call: &dyn Fn(&mut Api) -> lab::Result<Reply>) -> lab::Result<Reply> {
        let agent = self.amphora().agent().unwrap();
        let mut api = self.amphora().api()?;
        let up = || match api.get("/") {
            Err(error) if agent.is_running() => Err(chain(&error)),
            other => Ok(other),
        };
        wait_for("the agent answers or ends", PATIENCE, up)?.0?;
        call(&mut api)
    }

    fn plug(&self, api: &mut Api) -> lab::Result<Reply> {
        api.plug_vip(self.vip.v4.into(), &self.body)
    }

    fn unplug(&self, api: &mut Api) -> lab::Result<Reply> {
        api.unplug_vip(self.vip.v4.into())
    }

    fn register(&self, api: &mut Api, family: Family) -> lab::Result<Reply> {
        api.register(self.amphora().id(), self.vip.of(family), self.amphora().frontend(family), None)
    }

    fn unregister(&self, api: &mut Api, family: Family) -> lab::Result<Reply> {
        api.unregister(self.amphora().id(), &format!("vip_ip={}", self.vip.of(family)))
    }

    /// Waits for the session and for exactly `vips` in the ToR's kernel.
    fn wait_routes(&self, vips: &BTreeSet<IpAddr>) {
        for family in [Family::V4, Family::V6] {
            let vip = self.vip.of(family);
            let hop = self.amphora().frontend(family);
            let want: &[IpAddr] = if vips.contains(&vip) { &[hop] } else { &[] };
            self.fabric.tors[0].wait_next_hops(IpNet::from(vip), want, PATIENCE).unwrap();
        }
    }

    /// An amphora that has never been plugged; the speaker stays. The agent must be dead.
    fn forget(&self) {
        let node = self.amphora().node();
        let inside = format!("/run/netns/{HAPROXY_NETNS}");
        if node.run(["test", "-e", &inside]).is_ok() {
            let inside = self.amphora().haproxy_netns().unwrap();
            // Its name there depends on how far the agent got.
            for name in ["eth1", FRONTEND_NIC] {
                if inside.run(["ip", "link", "show", name]).is_ok() {
                    let mut home = vec!["ip", "link", "set", name, "down", "netns", "1"];
                    if name != FRONTEND_NIC {
                        home.extend(["name", FRONTEND_NIC]);
                    }
                    inside.run(home).unwrap();
                }
            }
            node.run(["ip", "netns", "delete", HAPROXY_NETNS]).unwrap();
        }
        node.run(["sh", "-c", "rm -rf /var/lib/octavia/amphora-agent"]).unwrap();
    }

    fn look(&self) -> Wreck {
        Wreck::of(self.amphora()).unwrap()
    }

    /// Looks until it is as `right` wants it.
    fn wait_look(&self, what: &str, right: impl Fn(&Wreck) -> bool) -> Wreck {
        let look = || {
            let wreck = Wreck::of(self.amphora()).map_err(|error| chain(&error))?;
            assert_eq!(wreck.unbacked(), [] as [IpAddr; 0], "announced unbound: {wreck:?}");
            if right(&wreck) { Ok(wreck) } else { Err(format!("{wreck:?}")) }
        };
        wait_for(what, PATIENCE, look).unwrap().0
    }

    /// The point at which the agent says it died.
    fn last_point(&self) -> String {
        let log = std::fs::read_to_string(self.amphora().agent().unwrap().log()).unwrap();
        log.lines().rev().find_map(|line| line.strip_prefix("crash point ")).unwrap().to_owned()
    }
}

/// An operation to be killed in.
struct Operation<'a> {
    name: &'a str,
    /// Makes the world it starts from, with the agent running or dead; leaves it dead.
    before: &'a dyn Fn(),
    call: &'a dyn Fn(&mut Api) -> lab::Result<Reply>,
    /// What the world is when all of it is done.
    after: &'a dyn Fn(&Wreck) -> bool,
    /// What a call gets that comes after the one that was answered.
    again: u16,
}

/// Kills the agent at its first, second, third... point from its start on, until it gets through the operation.
fn walk(lab: &Lab, operation: &Operation) {
    let begin = Instant::now();
    let mut points = Vec::new();
    let mut acknowledged = 0;
    loop {
        let n = points.len() + 1;
        assert!(n < MANY, "{}: the agent does not get through it: {points:?}", operation.name);
        (operation.before)();
        let agent = lab.amphora().start_agent(&[("AMPHORA_AGENT_CRASH_AT", &n.to_string())]).unwrap();
        let answered = match lab.call(operation.call) {
            Ok(reply) => {
                assert!(
                    matches!(reply.status, 200 | 202),
                    "{} at {n}: {} {}",
                    operation.name,
                    reply.status,
                    reply.text()
                );
                true
            }
            Err(error) => {
                agent.wait(PATIENCE).unwrap_or_else(|_| panic!("{} at {n}: {}", operation.name, chain(&error)));
                false
            }
        };
        let finished = || match Wreck::of(lab.amphora()) {
            _ if !agent.is_running() => Ok(false),
            Ok(wreck) if (operation.after)(&wreck) => Ok(true),
            other => Err(format!("{other:?}")),
        };
        if wait_for("the end of the operation or of the agent", PATIENCE, finished).unwrap().0 {
            break;
        }
        let point = lab.last_point();
        let wreck = lab.look();
        assert_eq!(wreck.unbacked(), [] as [IpAddr; 0], "{}, killed at {point}: {wreck:?}", operation.name);

        let mut api = lab.start();
        if answered {
            acknowledged += 1;
            let again = (operation.call)(&mut api).unwrap();
            assert_eq!(again.status, operation.again, "{}, killed at {point} after its answer", operation.name);
        } else {
            // When the answer is durable but was not heard, a retry cannot be told from a second call. The work is done
            // then, and the controller takes this 409 for success.
            let unheard = points.iter().any(|p: &String| p.ends_with(ANSWERING)) && (operation.after)(&wreck);
            let retry = (operation.call)(&mut api).unwrap();
            assert!(
                unheard && retry.status == operation.again || matches!(retry.status, 200 | 202),
                "{}, killed at {point}, retried: {}",
                operation.name,
                retry.text()
            );
            let again = (operation.call)(&mut api).unwrap();
            assert_eq!(again.status, operation.again, "{}, killed at {point}: {}", operation.name, again.text());
        }
        lab.wait_look(&format!("{} is complete after the kill at {point}", operation.name), operation.after);
        points.push(point);
    }
    lab.amphora().kill_agent().unwrap(); // or it would die in what comes next
    println!(
        "{}: killed at {} points, {acknowledged} of them after the answer, in {:.1?}: {points:?}",
        operation.name,
        points.len(),
        begin.elapsed()
    );
    assert!(points.len() >= 4, "{}: too few points to be all its steps", operation.name);
}

fn plugged(wreck: &Wreck, lab: &Lab) -> bool {
    let tables: BTreeSet<_> =
        ["-4 default", "-4 192.0.2.0/25", "-6 default", "-6 2001:db8:2::/64"].map(String::from).into();
    wreck.bound == lab.both() && wreck.silent && wreck.rules == lab.both() && wreck.table_1.is_superset(&tables)
}

#[test]
fn an_agent_killed_at_any_step_of_an_anycast_plug_completes_it_on_a_retry() {
    let lab = Lab::new("crash-plug", TorKind::Bird);
    let before = || {
        lab.amphora().kill_agent().unwrap();
        lab.forget();
    };
    let call = |api: &mut Api| {
        let reply = lab.plug(api)?;
        if reply.status == 202 {
            let wreck = lab.look();
            assert!(plugged(&wreck, &lab), "answered before it was done: {wreck:?}");
        }
        Ok(reply)
    };
    let after = |wreck: &Wreck| plugged(wreck, &lab);
    walk(&lab, &Operation { name: "plug", before: &before, call: &call, after: &after, again: 409 });
}

#[test]
fn an_agent_killed_at_any_step_of_an_interface_plug_or_unplug_completes_it_on_a_retry() {
    let mut lab = Lab::new("crash-interface", TorKind::Bird);
    lab.body["vip_mode"] = "interface".into();
    lab.body["frontend_ips"].take();
    lab.body["additional_vips"].take(); // IPv6 would wait for duplicate address detection each time
    let vip: BTreeSet<IpAddr> = [lab.vip.v4.into()].into();
    let sections = lab.amphora().distributor_sections()
        + &lab.fabric.tors[0].peer_section(Family::V4)
        + "[controller_worker]\nloadbalancer_topology = SINGLE\n";
    lab.amphora().write_config(&sections).unwrap();
    let on_nic = |wreck: &Wreck| {
        wreck.on_nics.is_superset(&vip)
            && wreck.rules == vip
            && wreck.table_1.len() == 2
            && wreck.bound.is_empty()
            && !wreck.silent
    };
    let unplugged = |wreck: &Wreck| wreck.on_nics.is_empty() && wreck.rules.is_empty() && wreck.table_1.is_empty();
    let before = || {
        lab.amphora().kill_agent().unwrap();
        lab.forget();
    };
    let call = |api: &mut Api| lab.plug(api);
    walk(&lab, &Operation { name: "plug interface", before: &before, call: &call, after: &on_nic, again: 409 });
    let before = || {
        lab.amphora().kill_agent().unwrap();
        lab.plug(&mut lab.start()).unwrap();
        lab.amphora().kill_agent().unwrap();
    };
    let call = |api: &mut Api| lab.unplug(api);
    walk(&lab, &Operation { name: "unplug interface", before: &before, call: &call, after: &unplugged, again: 200 });
}

#[test]
fn an_agent_killed_at_any_step_of_register_or_unregister_moves_no_other_route() {
    let lab = Lab::new("crash-register", TorKind::Bird);
    let tor = &lab.fabric.tors[0];
    let mut api = lab.start();
    lab.plug(&mut api).unwrap().success().unwrap();
    lab.register(&mut api, Family::V6).unwrap().success().unwrap();
    tor.wait_established(lab.amphora().management(Family::V4), PATIENCE).unwrap();
    let only_v6 = BTreeSet::from([lab.vip.v6.into()]);
    lab.wait_routes(&only_v6);
    let bystander = tor.watch_routes().unwrap();

    let before = || {
        if !lab.amphora().agent().unwrap().is_running() {
            lab.start();
        }
        lab.unregister(&mut lab.amphora().api().unwrap(), Family::V4).unwrap().success().unwrap();
        lab.wait_look("unregistered", |wreck| wreck.announced == only_v6);
        lab.amphora().kill_agent().unwrap();
    };
    let call = |api: &mut Api| lab.register(api, Family::V4);
    let after = |wreck: &Wreck| wreck.announced == lab.both();
    walk(&lab, &Operation { name: "register", before: &before, call: &call, after: &after, again: 202 });
    lab.wait_routes(&lab.both());

    let before = || {
        if !lab.amphora().agent().unwrap().is_running() {
            lab.start();
        }
        lab.register(&mut lab.amphora().api().unwrap(), Family::V4).unwrap().success().unwrap();
        lab.wait_look("registered", |wreck| wreck.announced == lab.both());
        lab.amphora().kill_agent().unwrap();
    };
    let call = |api: &mut Api| lab.unregister(api, Family::V4);
    let after = |wreck: &Wreck| wreck.announced == only_v6 && wreck.bound == lab.both();
    walk(&lab, &Operation { name: "unregister", before: &before, call: &call, after: &after, again: 200 });
    lab.wait_routes(&only_v6);

    // The other VIP's route has not moved through all of this, and neither has the session.
    let moved: Vec<_> = bystander.so_far().into_iter().filter(|e| e.line.contains(&lab.vip.v6.to_string())).collect();
    assert!(moved.is_empty(), "{moved:?}");
}

#[test]
fn an_agent_killed_at_any_step_of_an_unplug_withdraws_before_it_unbinds() {
    let lab = Lab::new("crash-unplug", TorKind::Bird);
    let mut api = lab.start();
    lab.plug(&mut api).unwrap().success().unwrap();
    // The front-end IP comes back in each round, and its duplicate address detection would take a second.
    lab.amphora().haproxy_netns().unwrap().sysctl("net/ipv6/conf/eth1/accept_dad", "0").unwrap();
    lab.register(&mut api, Family::V6).unwrap().success().unwrap();
    drop(api);
    let before = || {
        let running = lab.amphora().agent().unwrap().is_running();
        let mut api = if running { lab.amphora().api().unwrap() } else { lab.start() };
        let reply = lab.plug(&mut api).unwrap();
        assert!(matches!(reply.status, 202 | 409), "{}", reply.text());
        lab.register(&mut api, Family::V4).unwrap().success().unwrap();
        lab.wait_look("plugged and registered", |wreck| wreck.announced == lab.both());
        lab.wait_routes(&lab.both());
        lab.amphora().kill_agent().unwrap();
    };
    let call = |api: &mut Api| {
        let reply = lab.unplug(api)?;
        if reply.status == 200 {
            let wreck = lab.look();
            assert!(wreck.bound.is_empty() && wreck.announced.is_empty(), "answered before it was done: {wreck:?}");
        }
        Ok(reply)
    };
    let after = |wreck: &Wreck| {
        wreck.announced.is_empty() && wreck.bound.is_empty() && wreck.rules.is_empty() && wreck.on_nics.is_empty()
    };
    walk(&lab, &Operation { name: "unplug", before: &before, call: &call, after: &after, again: 200 });
    lab.wait_routes(&BTreeSet::new());
}

/// How often the agent's log has `vip` removed from `lo`; each time it must have been withdrawn before.
fn removals_in_order(log: &str, vip: IpAddr) -> usize {
    let (mut announced, mut removals) = (false, 0);
    for line in log.lines() {
        let of_path = format!("Prefix({vip})");
        if line.contains("change=Announce") && line.contains(&of_path) {
            announced = true;
        } else if line.contains("change=Withdraw") && line.contains(&of_path) {
            announced = false;
        } else if line.contains("step=DeleteAddress(Address { device: Lo") && line.contains(&format!("ip: {vip},")) {
            assert!(!announced, "unbound while announced: {line}");
            removals += 1;
        }
    }
    removals
}

/// A pass that deals with a registration must not be the one that unbinds a VIP it has not asked the speaker about.
#[test]
fn a_vip_unplugged_while_others_are_registered_is_withdrawn_before_it_is_unbound() {
    const ROUNDS: usize = 25;
    let lab = Lab::new("crash-race", TorKind::Bird);
    let mut api = lab.start();
    let mut others = lab.amphora().api().unwrap();
    let foreign = Ipv4Addr::new(192, 0, 2, 100);
    lab.register(&mut api, Family::V4).unwrap().success().unwrap();
    for round in 0..ROUNDS {
        lab.plug(&mut api).unwrap().success().unwrap();
        let announced = || match lab.look() {
            wreck if wreck.bound == lab.both() && wreck.announced.contains(&lab.vip.v4.into()) => Ok(()),
            wreck => Err(format!("{wreck:?}")),
        };
        wait_for("the VIP is bound and announced", PATIENCE, announced).unwrap();
        let vip = Ipv4Addr::new(203, 0, 113, u8::try_from(100 + round).unwrap());
        std::thread::scope(|scope| {
            // A few, so that one of them is being dealt with whenever the unplugging comes.
            scope.spawn(|| {
                for peer in [Some("tor-0"), None, Some("tor-0"), None] {
                    let body = json!({ "vip_ip": vip, "nexthop_ip": foreign, "peer_id": peer });
                    others.post("/1.0/distributor/vips", &body).unwrap().success().unwrap();
                }
            });
            lab.unplug(&mut api).unwrap().success().unwrap();
        });
    }
    let log = std::fs::read_to_string(lab.amphora().agent().unwrap().log()).unwrap();
    assert_eq!(removals_in_order(&log, lab.vip.v4.into()), ROUNDS);
}

#[test]
fn a_vip_is_neither_bound_nor_announced_where_arp_cannot_be_silenced() {
    let lab = Lab::new("crash-loud", TorKind::Bird);
    let node = lab.amphora().node();
    let second = "fa:16:3e:00:01:01";
    lab.fabric.frontend.plug(node, "ens8", Some(second)).unwrap();
    node.run(["mount", "--bind", "/proc/sys", "/proc/sys"]).unwrap();
    node.run(["mount", "-o", "remount,ro,bind", "/proc/sys"]).unwrap();
    let mut api = lab.start();
    let other = json!({
        "subnet_cidr": "192.0.2.0/25", "gateway": "192.0.2.1", "mac_address": second, "vrrp_ip": "192.0.2.77",
    });
    let other_vip: IpAddr = Ipv4Addr::new(203, 0, 113, 8).into();
    lab.register(&mut api, Family::V4).unwrap().success().unwrap();
    let hop = Ipv4Addr::new(192, 0, 2, 77).into();
    api.register(lab.amphora().id(), other_vip, hop, None).unwrap().success().unwrap();
    assert_eq!(lab.plug(&mut api).unwrap().status, 500);
    let reply = api.plug_vip(other_vip, &other).unwrap();
    assert_eq!(reply.status, 500, "{}", reply.text());
    let wreck = lab.look();
    assert!(wreck.bound.is_empty() && wreck.announced.is_empty() && !wreck.silent, "{wreck:?}");

    node.run(["umount", "/proc/sys"]).unwrap();
    assert_eq!(lab.plug(&mut api).unwrap().status, 202);
    assert_eq!(api.plug_vip(other_vip, &other).unwrap().status, 202);
    lab.wait_look("both are announced", |wreck| wreck.announced == [lab.vip.v4.into(), other_vip].into());
}
