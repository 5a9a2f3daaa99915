//! Two machines, one of each kind, as the two amphorae of a stock `ACTIVE_STANDBY` load balancer: with `vip_mode = anycast`
//! both serve.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use lab::vm::{Machine, Medium};
use lab::{Controller, Family, Result, Vm, addresses};
use serde_json::json;

use crate::evidence::{COMMAND_TIME, booted, pids};
use crate::report::{Report, check, wrong};
use crate::site::{HOLD_TIME, Kind, PATIENCE, Site, now};

const KINDS: [Kind; 2] = {
    let first = Kind {
        index: 0,
        machine: Machine::Pc,
        medium: Medium::Iso9660,
        dhcp: true,
        user_data: false,
        topology: "ACTIVE_STANDBY",
        distributor: "vip_mode = anycast\n",
    };
    [first, Kind { index: 1, machine: Machine::Q35, medium: Medium::Vfat, dhcp: false, user_data: true, ..first }]
};

pub(crate) fn run(report: &mut Report, image: &Path) -> Result<()> {
    let site = Site::new("image-pair", 0)?;
    let on = now();
    let mut vms = [site.boot(image, &KINDS[0])?, site.boot(image, &KINDS[1])?];
    let outcome = both(report, &site, &mut vms, on);
    site.explain(&mut vms, outcome)
}

fn both(report: &mut Report, site: &Site, vms: &mut [Vm; 2], on: std::time::Instant) -> Result<()> {
    let mut controller = Controller::start(&site.fabric)?;
    let mut does = |what: &str, arguments| match controller.ask(what, arguments)? {
        lab::controller::Outcome::Returned(value) => Ok(value),
        lab::controller::Outcome::Raised(class, text) => Err(wrong(what, format!("{class}: {text}"))),
    };
    for (vm, kind) in vms.iter_mut().zip(&KINDS) {
        booted(report, site, vm, kind, on)?;
    }
    for (vm, kind) in vms.iter_mut().zip(&KINDS) {
        site.wait_session(report, vm)?;
        site.attach(vm, kind.index)?;
    }
    does("be_patient", json!({}))?;
    let vip = addresses::vip(7);
    let amphorae: Vec<_> =
        vms.iter().zip([100, 90]).enumerate().map(|(index, (vm, priority))| Site::asked(vm, index, priority)).collect();
    let call = now();
    does("create_load_balancer", json!({ "load_balancer": Site::load_balancer(vip, "ACTIVE_STANDBY", &amphorae) }))?;
    does("create_listeners", json!({ "listeners": [{ "name": "http", "protocol": "HTTP", "port": 80 }] }))?;
    report.took("the controller's calls for a pair and its listener", call);

    let hops = [vms[0].frontend(Family::V4), vms[1].frontend(Family::V4)];
    site.wait_routes(report, vip.v4.into(), &hops, PATIENCE)?;
    let to = SocketAddr::new(vip.v4.into(), 80);
    // Two members, each asked by either amphora.
    report.figure("both announce; 200 requests", site.wait_served(report, to, 200, 4)?);
    for vm in vms.iter_mut() {
        let running = vm.shell().run(&pids("keepalived"), COMMAND_TIME)?;
        check(running.is_empty(), "no keepalived", running)?;
    }
    let off = now();
    vms[0].cut_power()?;
    site.wait_routes(report, vip.v4.into(), &hops[1..], Duration::from_secs(HOLD_TIME + 60))?;
    report.took("one is powered off: the ToR has the other alone", off);
    report.figure("200 requests then", site.wait_served(report, to, 200, 2)?);
    Ok(())
}
