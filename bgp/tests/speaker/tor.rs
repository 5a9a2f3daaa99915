//! Routers: FRR and BIRD, as they come in Debian.

use std::{
    collections::BTreeSet,
    fs,
    process::{Child, Stdio},
};

use crate::{node::Node, until};

/// How a router holds a route.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) next_hop: String,
    pub(crate) origin: String,
    pub(crate) communities: Vec<String>,
    pub(crate) large_communities: Vec<String>,
}

/// What a router chooses by.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Preference {
    pub(crate) as_path: Vec<u32>,
    pub(crate) med: Option<u32>,
    /// BIRD gives a route of an external peer the default, 100.
    pub(crate) local_pref: Option<u32>,
}

fn ases(text: &str) -> Vec<u32> {
    text.split_whitespace().map(|number| number.parse().unwrap()).collect()
}

/// FRR: zebra and bgpd in a node.
pub(crate) struct Frr<'a> {
    node: &'a Node,
    _daemons: [Child; 2],
}

impl<'a> Frr<'a> {
    /// `config` is what goes inside `router bgp`.
    pub(crate) fn start(node: &'a Node, asn: u32, config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("frr.conf");
        let text = format!("router bgp {asn}\n no bgp ebgp-requires-policy\n no bgp default ipv4-unicast\n{config}\n");
        fs::write(&file, text).unwrap();
        node.run(&format!("mkdir -p /run/frr && cp {} /etc/frr/bgpd.conf && touch /etc/frr/zebra.conf /etc/frr/vtysh.conf && chown -R frr:frr /run/frr /etc/frr", file.display()));
        let daemon = |name: &str| {
            let mut command = node.command(&format!("/usr/lib/frr/{name}"));
            command.args(["-f", &format!("/etc/frr/{name}.conf")]);
            let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            until("FRR answers", || {
                node.try_run(&format!("HOME=/run vtysh -d {name} -c 'show version'")).status.success()
            });
            child
        };
        Self { node, _daemons: [daemon("zebra"), daemon("bgpd")] }
    }

    pub(crate) fn show(&self, command: &str) -> serde_json::Value {
        serde_json::from_str(&self.node.run(&format!("HOME=/run vtysh -d bgpd -c 'show bgp {command} json'"))).unwrap()
    }

    /// The route to one prefix, by its only path.
    pub(crate) fn route(&self, prefix: &str) -> Option<Route> {
        let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
        let said = self.show(&format!("{family} unicast {prefix}"));
        let paths = said["paths"].as_array()?;
        assert_eq!(paths.len(), 1, "{said}");
        let list = |key: &str| {
            let words = paths[0][key]["string"].as_str().unwrap_or_default();
            words.split_whitespace().map(str::to_owned).collect()
        };
        let hops = paths[0]["nexthops"].as_array().unwrap();
        let global = hops.iter().find(|h| h["scope"] != "link-local").unwrap();
        Some(Route {
            next_hop: global["ip"].as_str().unwrap().to_owned(),
            origin: paths[0]["origin"].as_str().unwrap().to_owned(),
            communities: list("community"),
            large_communities: list("largeCommunity"),
        })
    }

    /// What its only path to one prefix is chosen by.
    pub(crate) fn preference(&self, prefix: &str) -> Option<Preference> {
        let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
        let path = &self.show(&format!("{family} unicast {prefix}"))["paths"][0];
        let number = |key: &str| path[key].as_u64().map(|n| n.try_into().unwrap());
        let as_path = path["aspath"]["string"].as_str()?.replace("Local", "");
        Some(Preference { as_path: ases(&as_path), med: number("metric"), local_pref: number("locPrf") })
    }

    /// All prefixes of a family.
    pub(crate) fn prefixes(&self, family: &str) -> BTreeSet<String> {
        let said = self.show(&format!("{family} unicast"));
        said["routes"].as_object().map(|r| r.keys().cloned().collect()).unwrap_or_default()
    }

    pub(crate) fn established(&self, neighbor: &str) -> bool {
        let said = self.show(&format!("neighbors {neighbor}"));
        said[neighbor]["bgpState"] == "Established"
    }

    /// UPDATE messages received from a neighbor.
    pub(crate) fn updates_received(&self, neighbor: &str) -> u64 {
        self.show(&format!("neighbors {neighbor}"))[neighbor]["messageStats"]["updatesRecv"].as_u64().unwrap()
    }
}

/// BIRD in a node.
pub(crate) struct Bird<'a> {
    node: &'a Node,
    _daemon: Child,
}

impl<'a> Bird<'a> {
    /// `config` is protocols and templates; device and kernel-less tables are here.
    pub(crate) fn start(node: &'a Node, config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("bird.conf");
        fs::write(&file, format!("router id 198.51.100.1;\nprotocol device {{ scan time 1; }}\n{config}")).unwrap();
        node.run(&format!("cp {} /run/bird.conf", file.display()));
        let mut command = node.command("bird");
        command.args(["-f", "-c", "/run/bird.conf", "-s", "/run/bird.ctl"]);
        let daemon = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        until("BIRD answers", || node.try_run("birdc -s /run/bird.ctl show status").status.success());
        Self { node, _daemon: daemon }
    }

    pub(crate) fn birdc(&self, command: &str) -> String {
        let output = self.node.try_run(&format!("birdc -s /run/bird.ctl {command}"));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What its only path to one prefix is chosen by.
    pub(crate) fn preference(&self, prefix: &str) -> Option<Preference> {
        let said = self.birdc(&format!("show route {prefix} all"));
        let value = |key: &str| said.lines().find_map(|l| l.trim().strip_prefix(key)).map(str::trim);
        let number = |key: &str| value(key).map(|text| text.parse().unwrap());
        value("BGP.next_hop:")?;
        let as_path = ases(value("BGP.as_path:").unwrap_or_default());
        Some(Preference { as_path, med: number("BGP.med:"), local_pref: number("BGP.local_pref:") })
    }

    /// The route to one prefix, from `show route all`.
    pub(crate) fn route(&self, prefix: &str) -> Option<Route> {
        let said = self.birdc(&format!("show route {prefix} all"));
        let value = |key: &str| {
            let line = said.lines().find_map(|l| l.trim().strip_prefix(key))?;
            Some(line.trim_start_matches(':').trim().to_owned())
        };
        let list = |key: &str| -> Vec<String> {
            let words = value(key).unwrap_or_default();
            words.split_inclusive(')').map(|w| w.trim().to_owned()).filter(|w| !w.is_empty()).collect()
        };
        Some(Route {
            next_hop: value("BGP.next_hop")?,
            origin: value("BGP.origin")?,
            communities: list("BGP.community"),
            large_communities: list("BGP.large_community"),
        })
    }
}
