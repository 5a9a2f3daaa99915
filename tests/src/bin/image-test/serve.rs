//! One machine, topology `SINGLE`, driven through a load balancer's whole life by the real driver of Octavia.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use lab::vm::Machine;
use lab::vm::drive::Birth;
use lab::{Controller, Dual, Family, Place, Result, Vm, addresses};
use serde_json::json;

use crate::evidence::{COMMAND_TIME, booted};
use crate::report::{Report, check};
use crate::site::{BIRTH, FAMILIES, Kind, LB, PATIENCE, PROMPT, Site, slaac};
use crate::{gone, ports, reboots, remembers, secrets};

/// The CA of the listener's certificates, in the client's node.
const CA: &str = "/run/ca.pem";

/// How long the controller's start may take, with haproxy's and the health checks it waits for.
const STARTED: Duration = Duration::from_secs(30);
/// What the machine has open while every kind of listener is there.
const SERVED: ports::Expected = ports::Expected {
    listeners: &[80, 443, 8080],
    datagrams: &[53],
    inside: &[
        "tcp 127.0.0.1:9102 amphora-agent",
        "tcp 203.0.113.7:443 haproxy",
        "tcp 203.0.113.7:80 haproxy",
        "tcp 203.0.113.7:8080 haproxy",
        "tcp [2001:db8:100::7]:443 haproxy",
        "tcp [2001:db8:100::7]:80 haproxy",
        "tcp [2001:db8:100::7]:8080 haproxy",
    ],
    ..ports::Expected::NOTHING
};

/// A load balancer of one machine.
pub(crate) struct Single {
    pub(crate) site: Site,
    pub(crate) vm: Vm,
    pub(crate) controller: Controller,
    pub(crate) vip: Dual,
}

pub(crate) fn run(report: &mut Report, image: &Path) -> Result<()> {
    let site = Site::new("image-single", 0)?;
    site.advertise()?;
    let controller = site.controller()?;
    let kind = Kind {
        machine: Machine::Q35,
        distributor: "vip_mode = anycast\nhaproxy_policy = enforce\nrequire_ramfs = true\n",
        // What is said at that level must be without secrets too.
        birth: Birth { debug: true, ..BIRTH },
    };
    let on = Instant::now();
    let [vm] = site.boot_all(image, &[kind])?;
    let mut single = Single { site, vm, controller, vip: addresses::vip(7) };
    let outcome = booted(report, &single.site, &mut single.vm, &kind, on).and_then(|()| single.live(report));
    single.site.explain(std::slice::from_mut(&mut single.vm), outcome)
}

impl Single {
    fn live(&mut self, report: &mut Report) -> Result<()> {
        self.create(report)?;
        self.serves_everything(report)?;
        secrets::modes(report, self)?;
        self.every_flow(report)?;
        ports::scan(report, &self.site, &mut self.vm, &ports::Expected { vip: self.vip, ..SERVED })?;
        secrets::in_no_log(report, self, "the first boot")?;
        reboots::with_keys_gone(report, self)?;
        self.stop_and_start(report)?;
        secrets::in_no_log(report, self, "the second boot")?;
        let before = remembers::look(report, &mut self.vm, self.vip, 0)?;
        reboots::by_its_system(report, self)?;
        let after = remembers::look(report, &mut self.vm, self.vip, 0)?;
        check(before == after, &format!("the same after a reboot: {before}"), after)?;
        report.figure("rebooted: host name, NICs, addresses, rules, routes, sysctls", "as before");
        self.killed_keepalived(report)?;
        gone::run(report, self)?;
        secrets::in_no_log(report, self, "the third boot")?;
        let on_the_disk = secrets::on_the_disk(self)?;
        reboots::power_cut(report, self)?;
        secrets::not_on_the_disk(report, self, &on_the_disk)
    }

    /// Has the controller do something.
    pub(crate) fn does(
        &mut self,
        report: &Report,
        what: &str,
        arguments: serde_json::Value,
    ) -> Result<serde_json::Value> {
        crate::site::does(report, &mut self.controller, what, arguments)
    }

    /// The next hop the VIP of a family is announced with: the controller gives the machine an IPv4 address, and it gives
    /// itself the other.
    pub(crate) fn hop(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.vm.frontend(family),
            Family::V6 => slaac(&self.vm.frontend_mac()),
        }
    }

    pub(crate) fn wait_announced(&self, report: &Report) -> Result<()> {
        FAMILIES
            .into_iter()
            .try_for_each(|family| self.site.wait_routes(report, self.vip.of(family), &[self.hop(family)], PATIENCE))
    }

    pub(crate) fn wait_withdrawn(&self, report: &Report, within: Duration) -> Result<()> {
        FAMILIES.into_iter().try_for_each(|family| self.site.wait_routes(report, self.vip.of(family), &[], within))
    }

    /// Clients of the HTTP and TCP listeners, by both families, reach both members.
    pub(crate) fn wait_served_by_all(&self, report: &Report) -> Result<()> {
        for (family, port) in FAMILIES.into_iter().flat_map(|family| [80, 8080].map(|port| (family, port))) {
            self.site.wait_served(report, SocketAddr::new(self.vip.of(family), port), 20, 2)?;
        }
        Ok(())
    }

    /// Clients of the HTTP listener, by both families, reach both members.
    pub(crate) fn wait_served(&self, report: &Report) -> Result<()> {
        for family in FAMILIES {
            self.site.wait_served(report, SocketAddr::new(self.vip.of(family), 80), 20, 2)?;
        }
        Ok(())
    }

    /// LVS sends clients' datagrams to both members.
    pub(crate) fn wait_served_by_udp(&self, report: &mut Report) -> Result<()> {
        let to = SocketAddr::new(self.vip.v4.into(), 53);
        let split = report.wait("both members by UDP", PATIENCE, || {
            let split = ask_by_udp(&self.site.fabric.client, to, 40).map_err(|error| error.to_string())?;
            if split.keys().all(|who| who.starts_with("member-")) && split.len() == 2 {
                Ok(split)
            } else {
                Err(format!("{split:?}"))
            }
        })?;
        report.figure("40 datagrams to the VIP, port 53", format!("{split:?}"));
        Ok(())
    }

    fn create(&mut self, report: &mut Report) -> Result<()> {
        let on = Instant::now();
        self.site.wait_session(report, &self.vm)?;
        report.took("BGP with MD5 and GTSM: waited after the API", on);
        self.does(report, "be_patient", json!({}))?;
        self.site.attach(&mut self.vm, 0)?;
        let call = Instant::now();
        let asked = Site::load_balancer(self.vip, "SINGLE", &[Site::asked(&self.vm, 0, 100)]);
        self.does(report, "create_load_balancer", json!({ "load_balancer": asked }))?;
        report.took("create_load_balancer", call);
        let members = json!([crate::site::member_address(0), crate::site::member_address(1)]);
        let call = Instant::now();
        self.does(
            report,
            "create_listeners",
            json!({ "listeners": [
                { "name": "http", "protocol": "HTTP", "port": 80 },
                { "name": "tcp", "protocol": "TCP", "port": 8080 },
                { "name": "tls", "protocol": "TERMINATED_HTTPS", "port": 443 },
                { "name": "udp", "protocol": "UDP", "port": 53, "lvs_members": members },
            ]}),
        )?;
        report.took("create_listeners (HTTP, TCP, TLS, UDP)", call);
        self.wait_announced(report)?;
        report.took("VIP v4 and v6 in the ToR, after create_listeners began", call);
        for family in ["-4", "-6"] {
            let table = self.site.tor().node().run(["ip", family, "route", "show", "proto", "bgp"])?;
            report.figure(&format!("the ToR's routes ({family})"), table.trim());
        }
        Ok(())
    }

    /// What every kind of listener does for clients several hops away.
    fn serves_everything(&mut self, report: &mut Report) -> Result<()> {
        for (family, port) in FAMILIES.into_iter().flat_map(|family| [80, 8080].map(|port| (family, port))) {
            let split = self.site.wait_served(report, SocketAddr::new(self.vip.of(family), port), 100, 2)?;
            report.figure(&format!("100 requests to {} port {port}", self.vip.of(family)), split);
        }
        self.site.fabric.client.write_file(CA, self.site.fabric.pki.ca(), 0o644)?;
        for name in ["www.example.com", "shop.example.com"] {
            let resolve = format!("{name}:443:{}", self.vip.v4);
            let url = format!("https://{name}/");
            let curl = ["curl", "-sSf", "--max-time", "15", "--cacert", CA, "--resolve", &resolve, &url];
            let answer = self.site.fabric.client.run(curl)?;
            check(answer.starts_with("member-"), "an answer by TLS", &answer)?;
        }
        report.figure("TLS, by both of its certificates", "answered");
        self.wait_served_by_udp(report)?;
        let seen = self.does(report, "look", json!({ "amphora": 0 }))?;
        check(seen["listeners"].as_array().is_some_and(|all| all.len() == 4), "four listeners", &seen["listeners"])?;
        let table =
            self.vm.shell().run("ip netns exec amphora-haproxy ipvsadm -Ln --exact | tail -n 3", COMMAND_TIME)?;
        report.say(&table);
        report.figure("listeners, as the agent lists them", &seen["listeners"]);
        report.figure(
            "haproxy, keepalived",
            format!("{}, {}", seen["details"]["haproxy_version"], seen["details"]["keepalived_version"]),
        );
        Ok(())
    }

    /// What else the controller does with a load balancer of one amphora, its clients served all the while.
    fn every_flow(&mut self, report: &mut Report) -> Result<()> {
        for flow in ["update", "start", "reload"] {
            self.does(report, flow, json!({}))?;
            self.wait_served(report)?;
        }
        self.does(report, "update_agent_config", json!({ "debug": true }))?;
        let shown = self.does(report, "rotate", json!({ "amphora": 0 }))?;
        check(shown == true, "the agent shows the certificate it was just given", shown)?;
        self.wait_served(report)?;
        self.wait_served_by_udp(report)?;
        report.figure("update, start, reload, configuration, certificate", "done, and served after each");
        Ok(())
    }

    /// A listener that is stopped is withdrawn, and announced again when it is started. TLS goes: nothing without a call
    /// comes back after a reboot where its keys are gone.
    fn stop_and_start(&mut self, report: &mut Report) -> Result<()> {
        self.does(report, "delete_listener", json!({ "name": "tls" }))?;
        self.wait_served(report)?;
        let mut api = self.vm.api(&self.site.fabric)?;
        let call = Instant::now();
        api.act(LB, "stop")?.success()?;
        self.wait_withdrawn(report, PROMPT)?;
        report.took_at_most("listener stopped: withdrawn in the ToR", call, PROMPT)?;
        let call = Instant::now();
        self.does(report, "start", json!({}))?;
        self.wait_announced(report)?;
        report.took_at_most("started: announced again", call, STARTED)?;
        self.wait_served(report)
    }

    /// Nothing of a UDP listener stays in the kernel, even where its keepalived could not clear up.
    fn killed_keepalived(&mut self, report: &mut Report) -> Result<()> {
        let killed = "unit=$(systemctl list-units --plain --no-legend 'octavia-keepalivedlvs-*' | cut -d' ' -f1); \
                      drop_in=/run/systemd/system/$unit.d; mkdir $drop_in; \
                      printf '[Service]\\nRestart=no\\n' >$drop_in/once.conf; systemctl daemon-reload; \
                      systemctl kill -s KILL $unit; sleep 1; systemctl is-failed --quiet $unit || exit 1; \
                      rm -r $drop_in; systemctl daemon-reload; ip netns exec amphora-haproxy ipvsadm -Ln | grep -c ^UDP";
        let left = self.vm.shell().run(killed, COMMAND_TIME)?;
        check(left.trim() != "0", "a keepalived that was killed leaves its service", &left)?;
        for name in ["udp", "tcp"] {
            self.does(report, "delete_listener", json!({ "name": name }))?;
        }
        let left = self.vm.shell().run("ip netns exec amphora-haproxy ipvsadm -Ln", COMMAND_TIME)?;
        check(
            left.contains("IP Virtual Server") && !left.contains("UDP"),
            "no service of LVS without its listener",
            &left,
        )?;
        report.figure("a killed keepalived's services", "gone with the listener");
        self.wait_served(report)
    }
}

/// Datagrams, each from a port of its own; who answered how many.
fn ask_by_udp(from: &Place, to: SocketAddr, count: usize) -> Result<BTreeMap<String, usize>> {
    let ask = || {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        socket.send_to(b"who?", to)?;
        let mut answer = [0; 100];
        let (length, _) = socket.recv_from(&mut answer)?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer[..length]).into_owned())
    };
    from.within(|| {
        let mut split = BTreeMap::new();
        for _ in 0..count {
            let who = ask().unwrap_or_else(|error| error.to_string());
            *split.entry(who).or_default() += 1;
        }
        split
    })
}
