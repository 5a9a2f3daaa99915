//! Two machines with `role = distributor`, and two amphorae that are namespaces: one VIP with two next hops, which takes two
//! distributors, and one distributor with two VIPs.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use lab::addresses::FRONTEND;
use lab::heartbeats::{KEY, Receiver};
use lab::vm::Machine;
use lab::vm::drive::Birth;
use lab::vm::drive::HEALTH_MANAGER_PORT;
use lab::{Controller, Dual, Family, Result, Vm, addresses};
use serde_json::{Value, json};

use crate::evidence::{COMMAND_TIME, booted};
use crate::ports::{self, Expected};
use crate::reboots::SILENT;
use crate::report::{Report, check};
use crate::site::{BIRTH, FAMILIES, Kind, PATIENCE, PROMPT, Site, controller_address, does};

/// Beside those of the two amphorae.
const FIRST: usize = 4;

const fn kind(number: usize) -> Kind<'static> {
    Kind {
        machine: if number == 0 { Machine::Q35 } else { Machine::Pc },
        distributor: "role = distributor\n",
        birth: Birth { index: FIRST + number, dhcp: number == 0, ..BIRTH },
    }
}

pub(crate) fn run(report: &mut Report, image: &Path) -> Result<()> {
    let site = Site::new("image-distributors", 2)?;
    let mut controller = site.controller()?;
    let on = Instant::now();
    let mut vms = site.boot_all(image, &[kind(0), kind(1)])?;
    let outcome = announce(report, &site, &mut vms, on).and_then(|()| told(report, &site, &mut controller, &mut vms));
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
    let hop = |n: usize, family| amphorae[n].frontend(family);
    let register = |n: usize, amphora: usize, vip: Dual| {
        FAMILIES.into_iter().try_for_each(|family| {
            let (vip, hop) = (vip.of(family), hop(amphora, family));
            vms[n].api(&site.fabric)?.register(amphorae[amphora].id(), vip, hop, None)?.success().map(drop)
        })
    };
    let routed = |report: &Report, vip: Dual, by: &[usize], within| {
        FAMILIES.into_iter().try_for_each(|family| {
            let hops: Vec<IpAddr> = by.iter().map(|n| hop(*n, family)).collect();
            site.wait_routes(report, vip.of(family), &hops, within)
        })
    };
    let served = |report: &mut Report, vip: Dual, count, by| {
        FAMILIES.into_iter().try_for_each(|family| {
            let to = SocketAddr::new(vip.of(family), 80);
            let split = site.wait_served(report, to, count, by)?;
            report.figure(&format!("{count} requests to {}", to.ip()), split);
            Ok(())
        })
    };
    let call = Instant::now();
    register(0, 0, shared)?;
    register(1, 1, shared)?;
    routed(report, shared, &[0, 1], PROMPT)?;
    report.took("two distributors, one VIP: two next hops in the ToR", call);
    served(report, shared, 200, 2)?;

    // What one speaker has for a VIP is one next hop: the second is refused.
    let mut api = vms[0].api(&site.fabric)?;
    let refused = api.register(amphorae[1].id(), shared.v4.into(), hop(1, Family::V4), None)?;
    check(refused.status == 409, "a second next hop at one distributor is refused", refused.text())?;
    let call = Instant::now();
    register(0, 1, other)?;
    routed(report, other, &[1], PROMPT)?;
    routed(report, shared, &[0, 1], PROMPT)?;
    report.took("one distributor, another VIP: in the ToR", call);
    served(report, other, 50, 1)?;
    behaves(report, site, vms, &heartbeats)?;

    api.unregister(amphorae[0].id(), "")?.success()?;
    routed(report, shared, &[1], PROMPT)?;
    report.figure("one is unregistered", "one next hop is left");
    let reset = Instant::now();
    vms[1].reset()?;
    routed(report, shared, &[], SILENT)?;
    report.took("a distributor is reset: its routes are gone", reset);
    site.wait_api(report, &vms[1])?;
    site.wait_session(report, &vms[1])?;
    routed(report, shared, &[1], PATIENCE)?;
    report.took("announces again, without a call", reset);
    Ok(())
}

/// What a controller tells a distributor, by its own driver: another certificate, another configuration. Then its ports.
fn told(report: &mut Report, site: &Site, controller: &mut Controller, vms: &mut [Vm; 2]) -> Result<()> {
    for (number, vm) in vms.iter_mut().enumerate() {
        let amphora = json!({ "id": vm.id(), "lb_network_ip": vm.management(Family::V4) });
        let call = |controller: &mut Controller, method: &str, arguments: Value| {
            let asked = json!({ "who": "driver", "amphora": amphora, "method": method, "arguments": arguments });
            does(report, controller, "call", asked)
        };
        call(controller, "get_info", json!({}))?;
        let file = |vm: &mut Vm, path: &str| vm.shell().run(&format!("cat {path}"), COMMAND_TIME);
        let (certificate, config) = ("/etc/octavia/certs/server.pem", "/etc/octavia/amphora-agent.conf");
        let text = file(vm, config)?.replace("heartbeat_interval = 10", "heartbeat_interval = 7") + "\n";
        check(text.contains("heartbeat_interval = 7"), "a configuration that differs", &text)?;
        call(controller, "update_amphora_agent_config", json!({ "agent_config": text }))?;
        check(file(vm, config)? == text.trim_end(), "the configuration that was sent", number)?;
        let pem = does(report, controller, "issue", json!({ "name": vm.id() }))?;
        let pem = pem.as_str().unwrap_or_default();
        call(controller, "upload_cert_amp", json!({ "pem": { "bytes": pem } }))?;
        call(controller, "get_info", json!({}))?;
        check(file(vm, certificate)? == pem.trim_end(), "the certificate that was sent", number)?;
        vm.api(&site.fabric)?.get("/1.0/info")?.success()?;
        let root = if kind(number).birth.dhcp { ports::ROOT_WITH_DHCP } else { ports::ROOT };
        let expected = Expected { index: FIRST + number, root, ..Expected::NOTHING };
        ports::scan(report, site, vm, &expected)?;
    }
    report.figure("certificate and configuration by the controller's driver", "taken and in use");
    Ok(())
}

/// The amphorae: each has both VIPs on `lo` and answers on them with its name.
fn serve(site: &Site, shared: Dual, other: Dual) -> Result<()> {
    for amphora in &site.fabric.amphorae {
        amphora.write_config("[distributor]\nvip_mode = anycast\nannounce = api\n")?;
        amphora.start_agent(&[])?;
        let (mut api, _) = amphora.wait_api(Duration::from_mins(1))?;
        let mut body = amphora.plug_body(shared);
        for family in FAMILIES {
            let more = json!({
                "ip_address": other.of(family), "subnet_cidr": FRONTEND.of(family),
                "gateway": FRONTEND.host(addresses::tor_host(0)).of(family), "host_routes": [],
            });
            body["additional_vips"].as_array_mut().expect("it is a list").push(more);
        }
        api.plug_vip(shared.v4.into(), &body)?.success()?;
        amphora.start_haproxy(&FAMILIES.map(|family| [shared.of(family), other.of(family)]).concat(), 80)?;
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
