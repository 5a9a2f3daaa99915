use std::path::Path;

use ipnet::IpNet;
use netns::Mac;
use serde_json::{Value, json};

use super::*;
use crate::state::{
    Change, Firewall, FirewallRule, FixedIp, Frontend, HostRoute, NetworkPlug, Plug, Protocol, Vip, VipMode,
};

const A: &str = "fa:16:3e:00:00:0a";
const B: &str = "fa:16:3e:00:00:0b";

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn route(destination: &str, nexthop: &str) -> HostRoute {
    HostRoute { destination: net(destination), nexthop: nexthop.parse().unwrap() }
}

fn vip(ip: &str, subnet: &str, gateway: &str, host_routes: Vec<HostRoute>) -> Vip {
    Vip { ip: ip.parse().unwrap(), subnet: net(subnet), gateway: gateway.parse().ok(), host_routes }
}

fn fixed(ip: &str, subnet: &str, gateway: &str, host_routes: Vec<HostRoute>) -> FixedIp {
    FixedIp { ip: ip.parse().unwrap(), subnet: net(subnet), gateway: gateway.parse().ok(), host_routes }
}

/// A dual-stack VIP with members on its own NIC, a member network with a route, and one that takes what it is given.
fn desired(is_sriov: bool) -> Desired {
    let subnet = net("192.0.2.0/24");
    let plug = Plug {
        mac: A.parse().unwrap(),
        interface: "eth1".parse().unwrap(),
        mode: VipMode::Interface,
        vips: vec![
            vip("192.0.2.7", "192.0.2.0/24", "192.0.2.1", vec![route("198.18.0.0/16", "192.0.2.9")]),
            vip("2001:db8::7", "2001:db8::/64", "2001:db8::1", vec![]),
            vip("192.0.2.8", "192.0.2.0/24", "192.0.2.1", vec![route("198.18.0.0/16", "192.0.2.9")]),
        ],
        frontends: vec![Frontend {
            ip: "192.0.2.10".parse().unwrap(),
            subnet,
            gateway: Some("192.0.2.1".parse().unwrap()),
        }],
        mtu: Some(1450),
        is_sriov,
        keepalived: Some(false),
        acknowledged: true,
    };
    let port = |mac: &str, name: &str, mtu, fixed_ips| NetworkPlug {
        mac: mac.parse().unwrap(),
        interface: name.parse().unwrap(),
        fixed_ips,
        mtu,
        is_sriov: is_sriov && name == "eth1",
        acknowledged: true,
    };
    let members = vec![
        fixed("10.1.0.5", "10.1.0.0/24", "10.1.0.1", vec![]),
        fixed("10.2.0.5", "10.2.0.0/24", "", vec![route("10.9.0.0/16", "10.2.0.9")]),
    ];
    let networks = [
        port(A, "eth1", Some(1450), members),
        port(B, "eth2", None, vec![fixed("2001:db8:a::5", "2001:db8:a::/64", "", vec![])]),
        port("fa:16:3e:00:00:0c", "eth3", Some(1400), vec![]),
    ];
    let rules = vec![
        FirewallRule { protocol: Protocol::Tcp, cidr: None, port: 80 },
        FirewallRule { protocol: Protocol::Udp, cidr: Some(net("2001:db8::/32")), port: 53 },
        FirewallRule { protocol: Protocol::Sctp, cidr: Some(net("192.0.2.0/24")), port: 9 },
        FirewallRule { protocol: Protocol::Vrrp, cidr: Some(net("192.0.2.11/32")), port: 112 },
    ];
    Desired {
        plugs: [(plug.primary(), plug)].into(),
        networks: networks.into_iter().map(|n| (n.mac, n)).collect(),
        firewall: is_sriov.then(|| Firewall { interface: "eth1".parse().unwrap(), rules }),
        ..Desired::default()
    }
}

fn paths(base: &Path) -> Paths {
    Paths {
        base: base.to_owned(),
        certs: base.join("certs"),
        haproxy: "/usr/sbin/haproxy".into(),
        network: Some(base.join("interfaces")),
    }
}

fn imported(changes: Vec<Change>) -> Desired {
    let mut desired = Desired::default();
    for change in changes {
        desired.apply(change);
    }
    desired
}

#[test]
fn what_is_written_is_read_back_as_what_was_asked_for() {
    for (is_sriov, active_standby) in [(false, false), (true, false), (false, true)] {
        let base = tempfile::tempdir().unwrap();
        // The files tell who holds the VIPs; the configuration may have come to say something else.
        let (paths, policy) = (paths(base.path()), Policy { active_standby: !active_standby, ..Policy::default() });
        let mut want = desired(is_sriov);
        want.plugs.values_mut().for_each(|p| p.keepalived = Some(active_standby));
        files(&want, &policy).write(&paths).unwrap();
        assert_eq!(imported(import::read(&paths, &[]).unwrap()), want);
        // And back to nothing.
        files(&Desired::default(), &policy).write(&paths).unwrap();
        assert_eq!(import::read(&paths, &[]).unwrap(), []);
        let left: Vec<_> = base.path().join("interfaces").read_dir().unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["lo.json"]);
        assert!(!base.path().join(RULES).exists());
    }
}

#[test]
fn a_routed_vip_is_never_the_files_to_put_on_the_nic() {
    let mut want = desired(false);
    want.plugs.values_mut().for_each(|p| p.mode = VipMode::Anycast);
    let files = files(&want, &Policy::default());
    let json = |file: &str| serde_json::from_slice::<Value>(&files.interfaces[&name(file)]).unwrap();
    let eth1 = json("eth1.json");
    for address in eth1["addresses"].as_array().unwrap().iter().filter(|a| !a["octavia_owned"].is_null()) {
        assert_eq!(address["octavia_owned"], false, "{address}");
    }
    let base = tempfile::tempdir().unwrap();
    files.write(&paths(base.path())).unwrap();
    let again = imported(import::read(&paths(base.path()), &[]).unwrap());
    assert!(again.plugs.is_empty(), "nor is it taken over as one");
    let lo = json("lo.json");
    assert_eq!(lo["addresses"][0], json!({"address": "127.0.0.1", "prefixlen": 8}));
    assert_eq!(lo["addresses"][2], json!({"address": "2001:db8::7", "prefixlen": 128, "octavia_owned": false}));
}

#[test]
fn of_several_macs_for_a_name_the_one_that_is_there_counts_and_nonsense_is_left_alone() {
    let base = tempfile::tempdir().unwrap();
    let paths = paths(base.path());
    files(&desired(false), &Policy::default()).write(&paths).unwrap();
    let gone = "fa:16:3e:00:00:dd";
    std::fs::write(
        base.path().join(PLUGGED),
        format!("\nnonsense\n{gone} eth2\n{B} eth2\n{gone} eth2\n{A} eth1\n{A}\n"),
    )
    .unwrap();
    let there: Vec<Mac> = [A, B].map(|m| m.parse().unwrap()).into();
    let desired = imported(import::read(&paths, &there).unwrap());
    assert_eq!(desired.networks.keys().map(ToString::to_string).collect::<Vec<_>>(), [A, B]);
}

/// What could not be taken over is all that is known of its NIC: neither its file nor its line is touched.
#[test]
fn what_could_not_be_taken_over_stays_as_it_is() {
    let base = tempfile::tempdir().unwrap();
    let paths = paths(base.path());
    let (interfaces, plugged) = (base.path().join("interfaces"), base.path().join(PLUGGED));
    std::fs::create_dir(&interfaces).unwrap();
    let no_vip = json!({"name": "eth1", "if_type": "vip", "addresses": [{"address": "192.0.2.10", "prefixlen": 24}]});
    let backend =
        json!({"name": "eth2", "if_type": "backend", "addresses": [{"address": "10.1.0.5", "prefixlen": 24}]});
    let unlisted = json!({"name": "eth9", "if_type": "backend", "addresses": []});
    let left = [
        ("eth1", no_vip.to_string()),
        ("eth2", backend.to_string()),
        ("eth3", "{".into()),
        ("eth9", unlisted.to_string()),
    ];
    for (name, text) in &left {
        std::fs::write(interfaces.join(format!("{name}.json")), text).unwrap();
    }
    let foreign = format!("{A} eth1\nfa:16:3e:00:00:0c eth3\nno-mac eth4\n");
    std::fs::write(&plugged, format!("{foreign}{B} eth2\n")).unwrap();
    let mut desired = imported(import::read(&paths, &[]).unwrap());
    assert_eq!((desired.plugs.len(), desired.networks.len()), (0, 1));
    let stays = |lines: &str| {
        for (name, text) in left.iter().filter(|(name, _)| *name != "eth2") {
            assert_eq!(std::fs::read_to_string(interfaces.join(format!("{name}.json"))).unwrap(), *text);
        }
        assert_eq!(std::fs::read_to_string(&plugged).unwrap(), lines);
    };
    files(&desired, &Policy::default()).write(&paths).unwrap();
    stays(&format!("{foreign}{B} eth2\n"));
    // What was taken over goes with its plug, also by an agent that was started since.
    desired.apply(Change::UnplugNetwork(B.parse().unwrap()));
    files(&desired, &Policy::default()).write(&paths).unwrap();
    stays(&foreign);
    assert!(!interfaces.join("eth2.json").exists());
}
