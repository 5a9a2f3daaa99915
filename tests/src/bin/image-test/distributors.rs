//! Two machines with `role = distributor`, and two amphorae that are namespaces: one VIP with two next hops, which takes two
//! distributors, and one distributor with two VIPs.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use lab::heartbeats::{KEY, Receiver};
use lab::vm::drive::HEALTH_MANAGER_PORT;
use lab::vm::{Machine, Medium};
use lab::{Dual, Family, Result, Vm, addresses};
use serde_json::json;

use crate::evidence::booted;
use crate::report::{Report, check};
use crate::site::{Kind, PATIENCE, Site, controller_address, now};

/// Beside those of the two amphorae.
const FIRST: usize = 4;

const fn kind(number: usize) -> Kind<'static> {
    Kind {
        index: FIRST + number,
        machine: if number == 0 { Machine::Q35 } else { Machine::Pc },
        medium: Medium::Iso9660,
        dhcp: number == 0,
        user_data: false,
        topology: "SINGLE",
        distributor: "role = distributor\n",
    }
}

pub(crate) fn run(report: &mut Report, image: &Path) -> Result<()> {
    let site = Site::new("image-distributors", 2)?;
    let on = now();
    let mut vms = [site.boot(image, &kind(0))?, site.boot(image, &kind(1))?];
    let outcome = announce(report, &site, &mut vms, on);
    site.explain(&mut vms, outcome)
}

fn announce(report: &mut Report, site: &Site, vms: &mut [Vm; 2], on: Instant) -> Result<()> {
    let (shared, other) = (addresses::vip(7), addresses::vip(8));
    let heartbeats =
        Receiver::new(&site.fabric.controller, SocketAddr::new(controller_address(), HEALTH_MANAGER_PORT))?;
    serve(site, shared, other)?;
    for (number, vm) in vms.iter_mut().enumerate() {
        booted(report, site, vm, &kind(number), on)?;
        site.wait_session(report, vm)?;
    }
    let amphorae = &site.fabric.amphorae;
    let hop = |n: usize| amphorae[n].frontend(Family::V4);
    let register = |n: usize, amphora: usize, vip: IpAddr| {
        vms[n].api(&site.fabric)?.register(amphorae[amphora].id(), vip, hop(amphora), None)?.success()
    };
    let call = now();
    register(0, 0, shared.v4.into())?;
    register(1, 1, shared.v4.into())?;
    site.wait_routes(report, shared.v4.into(), &[hop(0), hop(1)], PATIENCE)?;
    report.took("two distributors, one VIP: two next hops in the ToR", call);
    let split = site.wait_served(report, SocketAddr::new(shared.v4.into(), 80), 200, 2)?;
    report.figure("200 requests to it", split);

    // What one speaker has for a VIP is one next hop: the second is refused.
    let refused = vms[0].api(&site.fabric)?.register(amphorae[1].id(), shared.v4.into(), hop(1), None)?;
    check(refused.status == 409, "a second next hop at one distributor is refused", refused.text())?;
    let call = now();
    register(0, 1, other.v4.into())?;
    site.wait_routes(report, other.v4.into(), &[hop(1)], PATIENCE)?;
    site.wait_routes(report, shared.v4.into(), &[hop(0), hop(1)], PATIENCE)?;
    report.took("one distributor, another VIP: in the ToR", call);
    let split = site.wait_served(report, SocketAddr::new(other.v4.into(), 80), 50, 1)?;
    report.figure("50 requests to it", split);
    behaves(report, site, vms, &heartbeats)?;

    vms[0].api(&site.fabric)?.unregister(amphorae[0].id(), "")?.success()?;
    site.wait_routes(report, shared.v4.into(), &[hop(1)], PATIENCE)?;
    report.figure("one is unregistered", "one next hop is left");
    let reset = now();
    vms[1].reset()?;
    site.wait_api(report, &vms[1])?;
    site.wait_session(report, &vms[1])?;
    site.wait_routes(report, shared.v4.into(), &[hop(1)], PATIENCE)?;
    report.took("a distributor is reset: announces again, without a call", reset);
    Ok(())
}

/// The amphorae: each has both VIPs on `lo` and answers on them with its name.
fn serve(site: &Site, shared: Dual, other: Dual) -> Result<()> {
    for amphora in &site.fabric.amphorae {
        amphora.write_config("[distributor]\nvip_mode = anycast\nannounce = api\n")?;
        amphora.start_agent(&[])?;
        let (mut api, _) = amphora.wait_api(Duration::from_mins(1))?;
        let mut body = amphora.plug_body(shared);
        let more = json!({
            "ip_address": other.v4, "subnet_cidr": body["subnet_cidr"], "gateway": body["gateway"], "host_routes": [],
        });
        body["additional_vips"].as_array_mut().expect("it is a list").push(more);
        api.plug_vip(shared.v4.into(), &body)?.success()?;
        amphora.start_haproxy(&[shared.v4.into(), other.v4.into()], 80)?;
    }
    Ok(())
}

/// A distributor is no amphora: what it serves and what not.
fn behaves(report: &mut Report, site: &Site, vms: &[Vm; 2], heartbeats: &Receiver) -> Result<()> {
    let mut api = vms[0].api(&site.fabric)?;
    for path in ["/1.0/info", "/1.0/details", "/1.0/listeners", "/1.0/distributor/peers", "/1.0/metrics"] {
        let reply = api.get(path)?;
        check(reply.status == 200, path, format!("{} {}", reply.status, reply.text()))?;
    }
    let lb = crate::site::LB;
    for (method, path) in [
        (hyper::Method::PUT, format!("/1.0/loadbalancer/{}/{lb}/haproxy", vms[0].id())),
        (hyper::Method::PUT, format!("/1.0/loadbalancer/{lb}/start")),
        (hyper::Method::PUT, "/1.0/vrrp/upload".to_owned()),
        (hyper::Method::PUT, "/1.0/vrrp/start".to_owned()),
    ] {
        let reply = api.send(method, &path, &[], b"x".to_vec())?;
        let json = reply.headers.get("content-type").is_some_and(|kind| kind == "application/json");
        check(
            reply.status == 404 && json,
            &format!("JSON 404 to {path}"),
            format!("{} {}", reply.status, reply.text()),
        )?;
    }
    report.figure("a distributor", "info, details, listeners, peers, metrics 200; haproxy and vrrp calls 404");
    let beat = report.wait("a distributor's heartbeat", PATIENCE, || {
        let beat = heartbeats.next(KEY, Duration::from_secs(5)).map_err(|error| error.to_string())?;
        let ours = vms.iter().any(|vm| beat.message["id"] == vm.id());
        if ours { Ok(beat.message) } else { Err(format!("one of {}", beat.message["id"])) }
    })?;
    report.figure("its heartbeat", &beat);
    check(beat["ver"] == 3 && beat["listeners"] == json!({}), "version 3 without listeners", beat)
}
