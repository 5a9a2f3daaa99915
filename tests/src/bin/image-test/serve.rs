//! One machine, topology `SINGLE`, driven through a load balancer's whole life by the real driver of Octavia.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use lab::vm::{Machine, Medium};
use lab::{Controller, Dual, Family, Place, Result, Vm, addresses};
use serde_json::json;

use crate::evidence::{COMMAND_TIME, booted};
use crate::report::{Report, check, wrong};
use crate::site::{FAMILIES, Kind, LB, PATIENCE, Site, now, slaac};
use crate::{gone, ports, reboots, secrets};

/// The CA of the listener's certificates, in the client's node.
const CA: &str = "/run/ca.pem";

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
    let kind = Kind {
        index: 0,
        machine: Machine::Q35,
        medium: Medium::Iso9660,
        dhcp: false,
        user_data: false,
        topology: "SINGLE",
        distributor: "vip_mode = anycast\nhaproxy_policy = enforce\nrequire_ramfs = true\n",
    };
    let on = now();
    let vm = site.boot(image, &kind)?;
    let controller = Controller::start(&site.fabric)?;
    let mut single = Single { site, vm, controller, vip: addresses::vip(7) };
    let outcome = booted(report, &single.site, &mut single.vm, &kind, on).and_then(|()| single.live(report));
    single.site.explain(std::slice::from_mut(&mut single.vm), outcome)
}

impl Single {
    fn live(&mut self, report: &mut Report) -> Result<()> {
        self.create(report)?;
        self.serves_everything(report)?;
        ports::scan(report, self)?;
        reboots::with_keys_gone(report, self)?;
        self.stop_and_start(report)?;
        reboots::by_its_system(report, self)?;
        gone::run(report, self)?;
        secrets::in_no_log(report, self)?;
        reboots::power_cut(report, self)?;
        secrets::not_on_the_disk(report, self)
    }

    /// Has the controller do something.
    pub(crate) fn does(&mut self, what: &str, arguments: serde_json::Value) -> Result<serde_json::Value> {
        match self.controller.ask(what, arguments)? {
            lab::controller::Outcome::Returned(value) => Ok(value),
            lab::controller::Outcome::Raised(class, text) => Err(wrong(what, format!("{class}: {text}"))),
        }
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
        let on = now();
        self.site.wait_session(report, &self.vm)?;
        report.took("BGP with MD5 and GTSM: waited after the API", on);
        self.does("be_patient", json!({}))?;
        self.site.attach(&mut self.vm, 0)?;
        let call = now();
        let asked = Site::load_balancer(self.vip, "SINGLE", &[Site::asked(&self.vm, 0, 100)]);
        self.does("create_load_balancer", json!({ "load_balancer": asked }))?;
        report.took("create_load_balancer", call);
        let members = json!([crate::site::member_address(0), crate::site::member_address(1)]);
        let call = now();
        self.does(
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
        let seen = self.does("look", json!({ "amphora": 0 }))?;
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

    /// A listener that is stopped is withdrawn, and announced again when it is started. Nothing of a UDP listener stays in
    /// the kernel, even where its keepalived could not clear up.
    fn stop_and_start(&mut self, report: &mut Report) -> Result<()> {
        let killed = "unit=$(systemctl list-units --plain --no-legend 'octavia-keepalivedlvs-*' | cut -d' ' -f1); \
                      drop_in=/run/systemd/system/$unit.d; mkdir $drop_in; \
                      printf '[Service]\\nRestart=no\\n' >$drop_in/once.conf; systemctl daemon-reload; \
                      systemctl kill -s KILL $unit; sleep 1; systemctl is-failed --quiet $unit || exit 1; \
                      rm -r $drop_in; systemctl daemon-reload; ip netns exec amphora-haproxy ipvsadm -Ln | grep -c ^UDP";
        let left = self.vm.shell().run(killed, COMMAND_TIME)?;
        check(left.trim() != "0", "a keepalived that was killed leaves its service", &left)?;
        for name in ["udp", "tls", "tcp"] {
            self.does("delete_listener", json!({ "name": name }))?;
        }
        let left = "ip netns exec amphora-haproxy ipvsadm -Ln | grep -c ^UDP || true";
        let left = self.vm.shell().run(left, COMMAND_TIME)?;
        check(left.trim() == "0", "no service of LVS without its listener", &left)?;
        self.wait_served(report)?;
        let mut api = self.vm.api(&self.site.fabric)?;
        let call = now();
        api.act(LB, "stop")?.success()?;
        self.wait_withdrawn(report, PATIENCE)?;
        report.took("listener stopped: withdrawn in the ToR", call);
        let call = now();
        self.does("start", json!({}))?;
        self.wait_announced(report)?;
        report.took("started: announced again", call);
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
