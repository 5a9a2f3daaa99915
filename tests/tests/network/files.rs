//! The files that a Python agent reads and writes: ours are what Octavia's own code would have written, and what it has
//! written is taken over.

use std::path::{Path, PathBuf};

use hyper::Method;
use lab::amphora::{FRONTEND_NIC, HAPROXY_NETNS};
use lab::octavia::environment;
use lab::picture::{self, Picture};
use lab::{Api, command, wait_for};
use serde_json::{Value, json};

use crate::support::{MEMBER, PATIENCE, Site, fixed, plug, plugged, port};

const DIRECTORY: &str = "/etc/octavia/interfaces";

/// Octavia's Python environment; `None`, and said so, without.
fn python(test: &str) -> Option<PathBuf> {
    environment().inspect_err(|error| lab::skipped(test, &error.to_string())).ok()
}

/// Has Octavia write the files of these interfaces into `directory`.
fn octavia_writes(site: &Site, environment: &Path, directory: &str, topology: &str, scripts: bool, interfaces: &Value) {
    let node = site.amphora().node();
    let asked = json!({"directory": directory, "topology": topology, "scripts": scripts, "interfaces": interfaces});
    node.write_file("/run/asked.json", asked.to_string(), 0o600).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("octavia/interfaces.py");
    let mut python = command([environment.join("bin/python")]);
    let python = node.spawn("octavia-files", python.arg(script).arg("/run/asked.json")).unwrap();
    assert!(python.wait(PATIENCE).unwrap().success(), "{}", std::fs::read_to_string(python.log()).unwrap());
}

fn json_of(site: &Site, path: &str) -> Value {
    serde_json::from_str(&site.amphora().node().read_file(path).unwrap()).unwrap()
}

/// The call and the same as arguments of Octavia's classes.
fn vip(site: &Site) -> (Value, Value) {
    let v6 = json!({"ip_address": "2001:db8:2::77", "subnet_cidr": "2001:db8:2::/64", "gateway": "2001:db8:2::1", "host_routes": []});
    let routes = json!([{"destination": "198.18.0.0/16", "nexthop": "192.0.2.9"}]);
    let call = json!({
        "subnet_cidr": "192.0.2.0/25", "gateway": "192.0.2.1", "mac_address": site.amphora().frontend_mac(),
        "vrrp_ip": "192.0.2.11", "mtu": 1450, "host_routes": routes, "additional_vips": [v6],
    });
    let first = json!({"ip_address": "192.0.2.77", "subnet_cidr": "192.0.2.0/25", "gateway": "192.0.2.1", "host_routes": routes});
    let class = json!({
        "kind": "vip", "name": "eth1", "mtu": 1450, "vips": [first, v6], "vrrp_ip": "192.0.2.11", "fixed_ips": [],
    });
    (call, class)
}

#[test]
fn the_interfaces_files_are_octavias() {
    let Some(environment) = python("the_interfaces_files_are_octavias") else { return };
    let site = Site::new("network-files");
    let mut api = site.start();
    let (call, mut class) = vip(&site);
    api.plug_vip("192.0.2.77".parse().unwrap(), &call).unwrap().success().unwrap();
    let fixed_ips = json!([
        {"ip_address": "10.1.0.5", "subnet_cidr": "10.1.0.0/24", "gateway": "10.1.0.1",
         "host_routes": [{"destination": "10.9.0.0/16", "nexthop": "10.1.0.9"}]},
        fixed("2001:db8:a::5", "2001:db8:a::/64"),
    ]);
    plugged(&plug(&mut api, &port(&fixed_ips)), "Plugged on interface eth2");
    let network = json!({"kind": "port", "name": "eth2", "mtu": 1500, "fixed_ips": fixed_ips, "is_sriov": false});
    let compare = |interfaces: Value, names: &[&str]| {
        octavia_writes(&site, &environment, "/run/theirs", "SINGLE", true, &interfaces);
        for name in names {
            let ours = json_of(&site, &format!("{DIRECTORY}/{name}.json"));
            let theirs = json_of(&site, &format!("/run/theirs/{name}.json"));
            assert_eq!(ours, theirs, "{name}: {ours:#} {theirs:#}");
        }
    };
    compare(json!([class, network]), &["eth1", "eth2"]);
    let base = |name: &str| site.amphora().node().read_file(&format!("/var/lib/octavia/{name}")).unwrap();
    let lines = format!("{} eth1\n{MEMBER} eth2\n", site.amphora().frontend_mac());
    assert_eq!(base("plugged_interfaces"), lines);
    let lo = json_of(&site, &format!("{DIRECTORY}/lo.json"));
    assert_eq!(lo["addresses"], json!([{"address": "127.0.0.1", "prefixlen": 8}]));

    // Members on the VIP's NIC, and a network that gives addresses itself.
    let mut shared = port(&json!([fixed("192.0.2.11", "192.0.2.0/25"), fixed("10.3.0.5", "10.3.0.0/24")]));
    shared["mac_address"] = site.amphora().frontend_mac().into();
    shared["mtu"] = 1450.into();
    plugged(&plug(&mut api, &shared), "Updated existing interface eth1");
    class["fixed_ips"] = shared["fixed_ips"].clone();
    let mut bare = port(&json!([]));
    bare["mtu"] = Value::Null;
    plugged(&plug(&mut api, &bare), "Updated existing interface eth2");
    let network = json!({"kind": "port", "name": "eth2", "mtu": null, "fixed_ips": [], "is_sriov": false});
    compare(json!([class, network]), &["eth1", "eth2"]);
    api.unplug_vip("192.0.2.77".parse().unwrap()).unwrap().success().unwrap();
}

/// Files and namespace of an amphora with a VIP and a member network, made by Octavia's own code; what is inside then.
fn octavia_plugs(site: &Site, environment: &Path, topology: &str, members: &Value) -> Picture {
    let node = site.amphora().node();
    let (_, class) = vip(site);
    let network = json!({"kind": "port", "name": "eth2", "mtu": 1400, "fixed_ips": members, "is_sriov": false});
    octavia_writes(site, environment, DIRECTORY, topology, false, &json!([class, network]));
    let mac = site.amphora().frontend_mac();
    node.write_file("/var/lib/octavia/plugged_interfaces", format!("{mac} eth1\n{MEMBER} eth2\n"), 0o644).unwrap();
    node.run(["ip", "netns", "add", HAPROXY_NETNS]).unwrap();
    let inside = site.inside();
    for (nic, name) in [(FRONTEND_NIC, "eth1"), ("ens8", "eth2")] {
        node.run(["ip", "link", "set", nic, "netns", HAPROXY_NETNS, "name", name]).unwrap();
        let mut up = command([environment.join("bin/python")]);
        let program = "import sys; from octavia.cmd.interface import main; main()";
        up.args(["-W", "ignore", "-c", program, "up", name]);
        let up = inside.spawn("amphora-interface", &mut up).unwrap();
        let status = up.wait(PATIENCE).unwrap();
        assert!(status.success(), "{}", std::fs::read_to_string(up.log()).unwrap());
    }
    inside.ip("link set lo up").unwrap();
    picture::look(&inside).unwrap()
}

/// The machine restarts: the namespace is gone with all that was in it, and the NICs are outside again.
fn reboot(site: &Site) -> Api {
    let (amphora, mac) = (site.amphora(), site.amphora().frontend_mac());
    amphora.stop_agent().unwrap();
    site.inside().ip("link del eth1\nlink del eth2").unwrap();
    amphora.node().run(["ip", "netns", "del", HAPROXY_NETNS]).unwrap();
    site.fabric.frontend.plug(amphora.node(), FRONTEND_NIC, Some(&mac)).unwrap();
    site.members.plug(amphora.node(), "ens8", Some(MEMBER)).unwrap();
    site.start()
}

fn wait_inside(site: &Site, want: &Picture) {
    let same = || match picture::difference(want, &picture::look(&site.inside()).unwrap()) {
        none if none.is_empty() => Ok(()),
        difference => Err(format!("{difference:#?}")),
    };
    wait_for("all is inside", PATIENCE, same).unwrap();
}

/// The namespace and the files are made by Octavia's own code. Ours finds nothing to change, and answers as if it had
/// plugged everything itself.
#[test]
fn what_a_python_agent_has_plugged_is_taken_over_without_a_flap() {
    let Some(environment) = python("what_a_python_agent_has_plugged_is_taken_over_without_a_flap") else { return };
    let site = Site::new("network-takeover");
    let (call, _) = vip(&site);
    let mut fixed_ips = json!([
        {"ip_address": "10.1.0.5", "subnet_cidr": "10.1.0.0/24", "gateway": "10.1.0.1",
         "host_routes": [{"destination": "10.9.0.0/16", "nexthop": "10.1.0.9"}]},
        fixed("10.2.0.5", "10.2.0.0/24"),
    ]);
    let before = octavia_plugs(&site, &environment, "SINGLE", &fixed_ips);
    assert!(before.contains("address eth1 192.0.2.77/32") && before.contains("address eth2 10.1.0.5/24"), "{before:?}");

    let news = lab::Capture::start(site.fabric.frontend.switch(), "br0", "arp or icmp6").unwrap();
    let mut api = site.start();
    let again = api.plug_vip("192.0.2.77".parse().unwrap(), &call).unwrap();
    assert_eq!((again.status, again.json()), (409, json!({"message": "Interface already exists"})));
    let mut same = port(&fixed_ips);
    same["mtu"] = 1400.into();
    plugged(&plug(&mut api, &same), "Updated existing interface eth2");
    let taken = picture::look(&site.inside()).unwrap();
    assert_eq!(picture::difference(&picture::unmarked(&before), &picture::unmarked(&taken)), [] as [String; 0]);
    let heard = news.stop().unwrap();
    assert_eq!(heard.matching("").unwrap(), [] as [String; 0]);

    // It is this agent's from now on: what is not asked for any more goes, a changed gateway takes the other's place.
    fixed_ips.as_array_mut().unwrap().pop();
    fixed_ips[0]["host_routes"][0]["nexthop"] = "10.1.0.8".into();
    same["fixed_ips"] = fixed_ips;
    plugged(&plug(&mut api, &same), "Updated existing interface eth2");
    let mut shared = port(&json!([fixed("192.0.2.11", "192.0.2.0/25")]));
    (shared["mac_address"], shared["mtu"]) = (call["mac_address"].clone(), call["mtu"].clone());
    shared["vip_net_info"] = call.clone();
    shared["vip_net_info"]["vip"] = "192.0.2.77".into();
    shared["vip_net_info"]["gateway"] = "192.0.2.2".into();
    shared["vip_net_info"]["additional_vips"] = json!([]);
    plugged(&plug(&mut api, &shared), "Updated existing interface eth1");
    let updated = picture::look(&site.inside()).unwrap();
    let change = picture::difference(&picture::unmarked(&taken), &picture::unmarked(&updated));
    let expected = [
        "- address eth2 10.2.0.5/24",
        "- route table 1 default via 192.0.2.1 dev eth1",
        "- route table 254 10.9.0.0/16 via 10.1.0.9 dev eth2",
        "- route table 254 default via 192.0.2.1 dev eth1",
        "+ route table 1 default via 192.0.2.2 dev eth1",
        "+ route table 254 10.9.0.0/16 via 10.1.0.8 dev eth2",
        "+ route table 254 default via 192.0.2.2 dev eth1",
    ];
    assert_eq!(change, expected);

    // After a reboot all of it is back, without the files.
    site.amphora().node().run(["rm", "-r", DIRECTORY, "/var/lib/octavia/plugged_interfaces"]).unwrap();
    let mut api = reboot(&site);
    wait_inside(&site, &updated);
    assert_eq!(api.get("/1.0/interface/10.1.0.5").unwrap().json()["interface"], "eth2");
    assert!(json_of(&site, &format!("{DIRECTORY}/eth2.json"))["routes"].as_array().unwrap().len() == 1);
}

#[test]
fn a_vip_that_a_python_agent_has_plugged_goes_with_all_that_came_with_it() {
    let Some(environment) = python("a_vip_that_a_python_agent_has_plugged_goes_with_all_that_came_with_it") else {
        return;
    };
    let site = Site::new("network-takeover-unplug");
    let before = octavia_plugs(&site, &environment, "SINGLE", &json!([fixed("10.1.0.5", "10.1.0.0/24")]));
    assert!(before.contains("address eth1 192.0.2.77/32"), "{before:?}");
    let mut api = site.start();
    api.unplug_vip("192.0.2.77".parse().unwrap()).unwrap().success().unwrap();
    let left = ["link eth1 mtu 1450 up", "link eth2 mtu 1400 up", "address eth2 10.1.0.5/24"];
    site.assert_inside(&left);
}

/// Who holds the VIP is what it was plugged with, whatever the configuration says: in a pair it is keepalived.
#[test]
fn of_a_pair_that_a_python_agent_has_plugged_keepalived_keeps_the_vip() {
    let Some(environment) = python("of_a_pair_that_a_python_agent_has_plugged_keepalived_keeps_the_vip") else {
        return;
    };
    let site = Site::new("network-takeover-pair");
    let config = "/etc/octavia/amphora-agent.conf";
    let single = site.amphora().node().read_file(config).unwrap();
    let pair = single.replace("SINGLE", "ACTIVE_STANDBY");
    assert!(pair != single);
    site.amphora().node().write_file(config, pair, 0o600).unwrap();
    let standby = octavia_plugs(&site, &environment, "ACTIVE_STANDBY", &json!([fixed("10.1.0.5", "10.1.0.0/24")]));
    assert!(!standby.contains("address eth1 192.0.2.77/32"), "{standby:?}");
    // As keepalived does it when it becomes the master.
    site.inside()
        .ip("addr add 192.0.2.77/32 dev eth1
route add default via 192.0.2.1 dev eth1 onlink table 1 proto keepalived
rule add from 192.0.2.77 table 1 priority 100 protocol keepalived")
        .unwrap();
    let master = picture::look(&site.inside()).unwrap();
    let unchanged = |when: &str| {
        let now = picture::look(&site.inside()).unwrap();
        let difference = picture::difference(&picture::unmarked(&master), &picture::unmarked(&now));
        assert_eq!(difference, [] as [String; 0], "{when}");
    };
    let mut api = site.start();
    unchanged("after the start");
    let reply = api.send(Method::PUT, "/1.0/config", &[], single.into_bytes()).unwrap();
    assert_eq!(reply.status, 202, "{}", reply.text());
    // A pass over everything, at the latest with this call.
    let mut same = port(&json!([fixed("10.1.0.5", "10.1.0.0/24")]));
    same["mtu"] = 1400.into();
    plugged(&plug(&mut api, &same), "Updated existing interface eth2");
    unchanged("with another topology in the configuration");
    let eth1 = json_of(&site, &format!("{DIRECTORY}/eth1.json"));
    assert_eq!(eth1["addresses"][1]["octavia_owned"], false, "{eth1:#}");
    // The standby it is after a reboot.
    let mut api = reboot(&site);
    wait_for("eth2 is back", PATIENCE, || match api.get("/1.0/interface/10.1.0.5").unwrap().status {
        200 => Ok(()),
        status => Err(status),
    })
    .unwrap();
    let back = picture::look(&site.inside()).unwrap();
    assert!(!back.iter().any(|line| line.contains("192.0.2.77")), "{back:#?}");
}
