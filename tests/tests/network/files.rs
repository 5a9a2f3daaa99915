//! The files that a Python agent reads and writes: ours are what Octavia's own code would have written, and what it has
//! written is taken over.

use std::path::{Path, PathBuf};

use lab::octavia::environment;
use lab::{command, picture};
use serde_json::{Value, json};

use crate::support::{MEMBER, PATIENCE, Site, fixed, plug, plugged, port};

const DIRECTORY: &str = "/etc/octavia/interfaces";

/// Octavia's Python environment; `None`, and said so, without.
fn python(test: &str) -> Option<PathBuf> {
    environment().inspect_err(|error| lab::skipped(test, &error.to_string())).ok()
}

/// Has Octavia write the files of these interfaces into `directory`.
fn octavia_writes(site: &Site, environment: &Path, directory: &str, scripts: bool, interfaces: &Value) {
    let node = site.amphora().node();
    let asked = json!({"directory": directory, "topology": "SINGLE", "scripts": scripts, "interfaces": interfaces});
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
        octavia_writes(&site, &environment, "/run/theirs", true, &interfaces);
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

/// The namespace and the files are made by Octavia's own code. Ours finds nothing to change, and answers as if it had
/// plugged everything itself.
#[test]
fn what_a_python_agent_has_plugged_is_taken_over_without_a_flap() {
    let Some(environment) = python("what_a_python_agent_has_plugged_is_taken_over_without_a_flap") else { return };
    let site = Site::new("network-takeover");
    let node = site.amphora().node();
    let (call, class) = vip(&site);
    let fixed_ips = json!([
        {"ip_address": "10.1.0.5", "subnet_cidr": "10.1.0.0/24", "gateway": "10.1.0.1",
         "host_routes": [{"destination": "10.9.0.0/16", "nexthop": "10.1.0.9"}]},
        fixed("10.2.0.5", "10.2.0.0/24"),
    ]);
    let network = json!({"kind": "port", "name": "eth2", "mtu": 1400, "fixed_ips": fixed_ips, "is_sriov": false});
    octavia_writes(&site, &environment, DIRECTORY, false, &json!([class, network]));
    let mac = site.amphora().frontend_mac();
    node.write_file("/var/lib/octavia/plugged_interfaces", format!("{mac} eth1\n{MEMBER} eth2\n"), 0o644).unwrap();
    node.run(["ip", "netns", "add", lab::amphora::HAPROXY_NETNS]).unwrap();
    let inside = site.inside();
    for (nic, name) in [(lab::amphora::FRONTEND_NIC, "eth1"), ("ens8", "eth2")] {
        node.run(["ip", "link", "set", nic, "netns", lab::amphora::HAPROXY_NETNS, "name", name]).unwrap();
        let mut up = command([environment.join("bin/python")]);
        let program = "import sys; from octavia.cmd.interface import main; main()";
        up.args(["-W", "ignore", "-c", program, "up", name]);
        let up = inside.spawn("amphora-interface", &mut up).unwrap();
        let status = up.wait(PATIENCE).unwrap();
        assert!(status.success(), "{}", std::fs::read_to_string(up.log()).unwrap());
    }
    inside.ip("link set lo up").unwrap();
    let before = picture::look(&inside).unwrap();
    assert!(before.contains("address eth1 192.0.2.77/32") && before.contains("address eth2 10.1.0.5/24"), "{before:?}");

    let news = lab::Capture::start(site.fabric.frontend.switch(), "br0", "arp or icmp6").unwrap();
    let mut api = site.start();
    let again = api.plug_vip("192.0.2.77".parse().unwrap(), &call).unwrap();
    assert_eq!((again.status, again.json()), (409, json!({"message": "Interface already exists"})));
    let mut same = port(&fixed_ips);
    same["mtu"] = 1400.into();
    plugged(&plug(&mut api, &same), "Updated existing interface eth2");
    assert_eq!(picture::difference(&before, &picture::look(&inside).unwrap()), [] as [String; 0]);
    let heard = news.stop().unwrap();
    assert_eq!(heard.matching("").unwrap(), [] as [String; 0]);
    // It is the agent's own state from now on: after a reboot all of it is back, without the files.
    site.amphora().stop_agent().unwrap();
    node.run(["rm", "-r", DIRECTORY, "/var/lib/octavia/plugged_interfaces"]).unwrap();
    let mut api = site.start();
    assert_eq!(api.get("/1.0/interface/10.2.0.5").unwrap().json()["interface"], "eth2");
    assert!(json_of(&site, &format!("{DIRECTORY}/eth2.json"))["routes"].as_array().unwrap().len() == 1);
}
