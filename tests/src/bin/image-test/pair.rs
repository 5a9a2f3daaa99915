//! Two machines, one of each kind, as the two amphorae of a stock `ACTIVE_STANDBY` load balancer: with `vip_mode = anycast`
//! both serve. A third takes the place of one that is powered off.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use lab::vm::drive::Birth;
use lab::vm::{Machine, Medium};
use lab::{Controller, Dual, Family, Result, Vm, addresses};
use serde_json::{Value, json};

use crate::evidence::{COMMAND_TIME, booted, pids};
use crate::ports::{self, Expected};
use crate::reboots::SILENT;
use crate::report::{Report, check};
use crate::site::{BIRTH, FAMILIES, Kind, PATIENCE, PROMPT, Site, does, slaac};

/// The third takes the first one's place.
const KINDS: [Kind; 3] = {
    let first = Kind {
        machine: Machine::Pc,
        distributor: "vip_mode = anycast\n",
        birth: Birth { topology: "ACTIVE_STANDBY", dhcp: true, ..BIRTH },
    };
    let in_user_data = Birth { index: 1, medium: Medium::Vfat, dhcp: false, user_data: true, ..first.birth };
    let second = Kind { machine: Machine::Q35, birth: in_user_data, ..first };
    [
        first,
        second,
        Kind { birth: Birth { index: 2, medium: Medium::Iso9660, user_data: false, ..in_user_data }, ..second },
    ]
};
const PORT: u16 = 80;
/// Where the amphorae of a pair tell each other of their clients (haproxy's peers).
const PEERS: u16 = 1025;
const INSIDE: &[&str] = &[
    "tcp 127.0.0.1:9102 amphora-agent",
    "tcp 203.0.113.7:80 haproxy",
    "tcp FRONTEND:1025 haproxy",
    "tcp [2001:db8:100::7]:80 haproxy",
];

struct Pair<'a> {
    site: &'a Site,
    controller: Controller,
    vip: Dual,
}

pub(crate) fn run(report: &mut Report, image: &Path) -> Result<()> {
    let site = Site::new("image-pair", 0)?;
    site.advertise()?;
    let mut pair = Pair { controller: site.controller()?, site: &site, vip: addresses::vip(7) };
    let on = Instant::now();
    let [first, second] = KINDS.split_first_chunk::<2>().expect("there are three").0;
    let mut vms = site.boot_all(image, &[*first, *second])?;
    let outcome = pair.both(report, &mut vms, on);
    site.explain(&mut vms, outcome)?;
    let on = Instant::now();
    let [third] = site.boot_all(image, &KINDS[2..].try_into().expect("one is left"))?;
    let [_, second] = vms;
    let mut vms = [third, second];
    let outcome = pair.fail_over(report, &mut vms, on);
    site.explain(&mut vms, outcome)
}

impl Pair<'_> {
    fn does(&mut self, report: &Report, what: &str, arguments: Value) -> Result<Value> {
        does(report, &mut self.controller, what, arguments)
    }

    /// The ToR has exactly these next hops for the VIP, in both families: the controller gives each machine an IPv4
    /// address, and it gives itself the other.
    fn wait_announced(&self, report: &Report, by: &[&Vm], within: Duration) -> Result<()> {
        for family in FAMILIES {
            let hop = |vm: &&Vm| match family {
                Family::V4 => vm.frontend(family),
                Family::V6 => slaac(&vm.frontend_mac()),
            };
            let hops: Vec<IpAddr> = by.iter().map(hop).collect();
            self.site.wait_routes(report, self.vip.of(family), &hops, within)?;
        }
        Ok(())
    }

    /// Two members, each asked by every amphora that announces the VIP.
    fn wait_served(&self, report: &mut Report, what: &str, amphorae: usize) -> Result<()> {
        for family in FAMILIES {
            let to = SocketAddr::new(self.vip.of(family), PORT);
            let split = self.site.wait_served(report, to, 200, 2 * amphorae)?;
            report.figure(&format!("{what}: 200 requests to {}", to.ip()), split);
        }
        Ok(())
    }

    fn both(&mut self, report: &mut Report, vms: &mut [Vm; 2], on: Instant) -> Result<()> {
        for (vm, kind) in vms.iter_mut().zip(&KINDS) {
            booted(report, self.site, vm, kind, on)?;
        }
        for (vm, kind) in vms.iter_mut().zip(&KINDS) {
            self.site.wait_session(report, vm)?;
            self.site.attach(vm, kind.birth.index)?;
        }
        let amphorae: Vec<_> =
            vms.iter().zip([100, 90]).enumerate().map(|(n, (vm, priority))| Site::asked(vm, n, priority)).collect();
        let call = Instant::now();
        let asked = Site::load_balancer(self.vip, "ACTIVE_STANDBY", &amphorae);
        self.does(report, "create_load_balancer", json!({ "load_balancer": asked }))?;
        let http = json!({ "name": "http", "protocol": "HTTP", "port": PORT });
        self.does(report, "create_listeners", json!({ "listeners": [http] }))?;
        report.took("the controller's calls for a pair and its listener", call);
        self.wait_announced(report, &[&vms[0], &vms[1]], PATIENCE)?;
        self.wait_served(report, "both announce", 2)?;
        for vm in vms.iter_mut() {
            let running = vm.shell().run(&pids("keepalived"), COMMAND_TIME)?;
            check(running.is_empty(), "no keepalived", running)?;
        }
        self.vrrp(report, vms)?;
        // The other differs in nothing that listens but DHCP.
        let (listeners, frontend, root) = (&[PORT], &[PEERS], ports::ROOT_WITH_DHCP);
        let expected = Expected { vip: self.vip, listeners, frontend, root, inside: INSIDE, ..Expected::NOTHING };
        ports::scan(report, self.site, &mut vms[0], &expected)?;
        let off = Instant::now();
        vms[0].cut_power()?;
        self.wait_announced(report, &[&vms[1]], SILENT)?;
        report.took_at_most("one is powered off: the ToR has the other alone", off, SILENT)?;
        self.wait_served(report, "one is left", 1)
    }

    /// The calls that are about keepalived in a stock pair are about the announcements in this one.
    fn vrrp(&mut self, report: &mut Report, vms: &[Vm; 2]) -> Result<()> {
        self.does(report, "reload_vrrp", json!({}))?;
        self.wait_announced(report, &[&vms[0], &vms[1]], PROMPT)?;
        let call = Instant::now();
        self.does(report, "silence", json!({ "amphora": 0 }))?;
        self.wait_announced(report, &[&vms[1]], PROMPT)?;
        report.took("one is silenced: the ToR has the other alone", call);
        self.wait_served(report, "one is silenced", 1)?;
        self.does(report, "stop_vrrp", json!({}))?;
        self.wait_announced(report, &[], PROMPT)?;
        let call = Instant::now();
        self.does(report, "set_up_vrrp", json!({}))?;
        self.wait_announced(report, &[&vms[0], &vms[1]], PROMPT)?;
        report.took("VRRP stopped, set up again: both announce", call);
        self.does(report, "reload", json!({}))?;
        self.wait_served(report, "VRRP stopped, set up again, reloaded", 2)
    }

    /// A new machine in the place of the one that is gone.
    fn fail_over(&mut self, report: &mut Report, vms: &mut [Vm; 2], on: Instant) -> Result<()> {
        let [new, old] = vms;
        let index = KINDS[2].birth.index;
        booted(report, self.site, new, &KINDS[2], on)?;
        self.site.wait_session(report, new)?;
        self.site.attach(new, index)?;
        let call = Instant::now();
        let replacement = Site::asked(new, index, 100);
        self.does(report, "fail_over", json!({ "amphora": 0, "replacement": replacement }))?;
        self.wait_announced(report, &[new, old], PATIENCE)?;
        report.took("failed over: both announce", call);
        self.wait_served(report, "failed over", 2)
    }
}
