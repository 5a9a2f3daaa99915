//! Amphorae that announce one VIP because a listener is there, and a ToR.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use lab::amphora::HAPROXY_NETNS;
use lab::fabric::TOR_FRONTEND_NIC;
use lab::speaker::gobgp;
use lab::{
    Amphora, Api, Dual, Fabric, Family, Neighbours, Options, Reply, Tor, TorKind, Wreck, addresses, bare, wait_for,
};
use serde_json::{Value, json};

/// A ceiling, for a machine that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
pub(crate) const PORT: u16 = 80;
pub(crate) const BOTH: [Family; 2] = [Family::V4, Family::V6];
/// The table in a ToR of the next hop of amphora 0.
const FIRST_TABLE: usize = 101;

pub(crate) struct Site {
    pub(crate) fabric: Fabric,
    pub(crate) vip: Dual,
}

impl Site {
    /// So many amphorae, all of which serve and announce.
    pub(crate) fn new(test: &str, kind: TorKind, internal: bool, amphorae: usize) -> Self {
        let mut options = Options::new(kind);
        options.amphorae = amphorae;
        options.tors[0].neighbours = Neighbours::Each(Family::V4);
        if internal {
            options.tors[0].asn = options.amphora_as;
        }
        let fabric = Fabric::new(test, &options).unwrap();
        let site = Self { fabric, vip: addresses::vip(7) };
        for amphora in &site.fabric.amphorae {
            let sections = amphora.distributor_sections() + &site.tor().peer_section(Family::V4);
            amphora.write_config(&sections.replace("announce = api\n", "announce = listener\n")).unwrap();
            amphora.start_agent(&[]).unwrap();
        }
        for amphora in &site.fabric.amphorae {
            let (mut api, _) = amphora.wait_api(PATIENCE).unwrap();
            api.plug_vip(site.vip.v4.into(), &amphora.plug_body(site.vip)).unwrap().success().unwrap();
            amphora.start_haproxy(&site.vips(), PORT).unwrap();
        }
        site.wait_used(&(0..amphorae).collect::<Vec<_>>());
        for amphora in &site.fabric.amphorae {
            bare::meet(amphora, site.tor()).unwrap();
        }
        site
    }

    pub(crate) fn vips(&self) -> [IpAddr; 2] {
        BOTH.map(|family| self.vip.of(family))
    }

    pub(crate) fn amphora(&self, index: usize) -> &Amphora {
        &self.fabric.amphorae[index]
    }

    pub(crate) fn api(&self, index: usize) -> Api {
        self.amphora(index).api().unwrap()
    }

    pub(crate) fn tor(&self) -> &Tor {
        &self.fabric.tors[0]
    }

    /// Waits until the ToR uses these amphorae and no others.
    #[track_caller]
    pub(crate) fn wait_used(&self, amphorae: &[usize]) -> Duration {
        let wait = |family| {
            let hops: Vec<_> = amphorae.iter().map(|index| self.amphora(*index).frontend(family)).collect();
            self.tor().wait_next_hops(IpNet::from(self.vip.of(family)), &hops, PATIENCE).unwrap()
        };
        BOTH.into_iter().map(wait).sum()
    }

    /// Makes the ToR one that keeps what it has sent an amphora's way there for as long as the connection lasts, as a router
    /// with sessions does. Routes decide where new ones go.
    pub(crate) fn keep_sessions(&self) {
        let tor = self.tor().node();
        let mut rules = Vec::new();
        for (index, amphora) in self.fabric.amphorae.iter().enumerate() {
            let (mark, mac) = (FIRST_TABLE + index, amphora.frontend_mac());
            rules.push(format!("iifname \"{TOR_FRONTEND_NIC}\" ether saddr {mac} ct mark 0 ct mark set {mark}"));
            for (option, family) in [("-4", Family::V4), ("-6", Family::V6)] {
                let (hop, mark) = (amphora.frontend(family).to_string(), mark.to_string());
                tor.run(["ip", option, "rule", "add", "fwmark", &mark, "lookup", &mark]).unwrap();
                tor.run(["ip", option, "route", "add", "default", "via", &hop, "table", &mark]).unwrap();
            }
        }
        let chain = "type filter hook prerouting priority mangle; policy accept;";
        let table = format!(
            "table inet sessions {{\nchain keep {{\n{chain}\n{}\niifname != \"{TOR_FRONTEND_NIC}\" ct mark != 0 meta mark \
             set ct mark\n}}\n}}\n",
            rules.join("\n")
        );
        tor.write_file("/run/sessions.nft", table, 0o600).unwrap();
        tor.run(["nft", "-f", "/run/sessions.nft"]).unwrap();
    }

    pub(crate) fn drain(&self, index: usize, timeout_s: u32, max_connections: u32) -> Reply {
        let numbers = json!({ "timeout_s": timeout_s, "max_connections": max_connections });
        call(&mut self.api(index), self.amphora(index).id(), "drain", &numbers).success().unwrap()
    }

    pub(crate) fn undrain(&self, index: usize) -> Reply {
        call(&mut self.api(index), self.amphora(index).id(), "undrain", &json!({})).success().unwrap()
    }

    /// What the agent says of its routes' drains, one for each VIP.
    pub(crate) fn drains(&self, index: usize) -> Vec<Value> {
        let listed = self.api(index).amphorae().unwrap().success().unwrap().json();
        listed.as_array().unwrap().iter().map(|route| route["drain"].clone()).collect()
    }

    /// Waits until both VIPs' drains have come to this stage, and returns how long that took.
    #[track_caller]
    pub(crate) fn wait_stage(&self, index: usize, stage: &str) -> Duration {
        let look = || match self.drains(index) {
            all if all.len() == 2 && all.iter().all(|drain| drain["stage"] == stage) => Ok(()),
            all => Err(json!(all)),
        };
        wait_for(&format!("the drain has come to {stage}"), PATIENCE, look).unwrap().1
    }

    /// Connections that were accepted behind the front-end NIC since the amphora was plugged, as its kernel counts them.
    pub(crate) fn accepted(&self, index: usize) -> u64 {
        let inside = self.amphora(index).haproxy_netns().unwrap();
        let text = inside.run(["cat", "/proc/net/snmp"]).unwrap();
        let mut tcp = text.lines().filter(|line| line.starts_with("Tcp:")).map(str::split_whitespace);
        let (mut names, mut values) = (tcp.next().unwrap(), tcp.next().unwrap());
        values.nth(names.position(|name| name == "PassiveOpens").unwrap()).unwrap().parse().unwrap()
    }

    /// The attributes of every route of the amphora's speaker.
    pub(crate) fn attributes(&self, index: usize) -> Vec<Value> {
        let of = |family| {
            let rib = gobgp(self.amphora(index).node(), &["global", "rib", "-a", family, "-j"]).unwrap();
            let rib: Value = serde_json::from_str(&rib).unwrap();
            let paths = rib.as_object().unwrap().values().flat_map(|paths| paths.as_array().unwrap().clone());
            paths.map(|path| path["attrs"].clone()).collect::<Vec<_>>()
        };
        [of("ipv4"), of("ipv6")].concat()
    }

    /// Waits until the amphora neither announces nor binds a VIP, with its NIC in place.
    #[track_caller]
    pub(crate) fn wait_nowhere(&self, index: usize) {
        let look = || match self.look(index) {
            wreck if wreck.bound.is_empty() && wreck.announced.is_empty() && wreck.rules.is_empty() => Ok(()),
            wreck => Err(format!("{wreck:?}")),
        };
        let ((), took) = wait_for("it is neither announced nor bound", PATIENCE, look).unwrap();
        println!("amphora-{index}: unbound {took:?} after the end of the drain was durable");
    }

    /// What the amphora holds. Whatever is announced is bound.
    #[track_caller]
    pub(crate) fn look(&self, index: usize) -> Wreck {
        let wreck = Wreck::of(self.amphora(index)).unwrap();
        assert_eq!(wreck.unbacked(), [] as [IpAddr; 0], "{wreck:?}");
        wreck
    }

    /// The machine is started anew: what is left is the disk, and a NIC. Returns when its agent answers.
    pub(crate) fn reboot(&self, index: usize) {
        let (amphora, node) = (self.amphora(index), self.amphora(index).node());
        amphora.kill_agent().unwrap();
        for program in ["haproxy", "gobgpd"] {
            amphora.kill_program(program, nix::sys::signal::Signal::SIGKILL).unwrap();
        }
        let inside = amphora.haproxy_netns().unwrap();
        inside.run(["ip", "link", "set", "eth1", "down", "netns", "1", "name", lab::amphora::FRONTEND_NIC]).unwrap();
        node.run(["ip", "netns", "delete", HAPROXY_NETNS]).unwrap();
        amphora.start_agent(&[]).unwrap();
        amphora.wait_api(PATIENCE).unwrap();
    }
}

/// Drains or undrains.
pub(crate) fn call(api: &mut Api, amphora_id: &str, action: &str, body: &Value) -> Reply {
    api.put(&format!("/1.0/distributor/amphorae/{amphora_id}/{action}"), body).unwrap()
}
