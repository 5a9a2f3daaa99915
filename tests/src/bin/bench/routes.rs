//! From a call to the route in the ToR's kernel: the agent's registration, and a bare client's AddPath.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use bgp::{Change, Prefix, Speaker};
use lab::{Family, addresses};
use serde_json::json;

use crate::{
    Result,
    client::{Connection, get, post},
    floors,
    http::own_vip,
    kernel::Routes,
    plug,
    report::{Report, Target},
    site::{Site, announcement},
    stats::{Samples, ratio, show},
};

/// Registers and unregisters the VIP that is plugged, and does the same with AddPath, in turn.
pub(crate) fn register(
    site: &Site,
    report: &mut Report,
    bare: &Speaker,
    (name, disk): (&str, bool),
    rounds: usize,
) -> Result<()> {
    let amphora = site.amphora();
    let (api, id) = (site.api(amphora)?, amphora.id());
    let (vip, hop) = (own_vip(), amphora.frontend(Family::V4));
    let plugged = post(&format!("/1.0/plug/vip/{vip}"), &plug::body(amphora));
    let body = json!({ "amphora_id": id, "vip_ip": vip, "nexthop_ip": hop });
    let register = post("/1.0/distributor/amphorae", &body);
    let unregister = get("DELETE", &format!("/1.0/distributor/amphorae/{id}"));
    let mut connection = site.as_controller(|| {
        let mut connection = Connection::open(&api)?;
        connection.exchange(&plugged)?;
        Ok(connection)
    })?;

    let their_vip = addresses::vip(8).v4.into();
    let announce = [Change::Announce(announcement(their_vip, site.bare().frontend(Family::V4))?)];
    let withdraw = [Change::Withdraw(Prefix::try_from(their_vip)?)];
    let routes = Routes::follow(site.tor().node())?;
    let (mut ours, mut answers, mut theirs, mut synced) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let disk = disk.then(|| floors::Disk::new(&site.state_directory(amphora), rounds + 1, 256));
    let mut disk = disk.transpose()?;
    for round in 0..=rounds {
        let start = Instant::now();
        connection.exchange(&register)?;
        let answered = start.elapsed();
        let our_route = routes.wait(vip, true)?.saturating_duration_since(start);
        connection.exchange(&unregister)?;
        routes.wait(vip, false)?;

        let start = Instant::now();
        site.runtime.block_on(bare.apply(&announce))?;
        let their_route = routes.wait(their_vip, true)?.saturating_duration_since(start);
        site.runtime.block_on(bare.apply(&withdraw))?;
        routes.wait(their_vip, false)?;
        synced.push(disk.as_mut().map_or(Ok(Duration::ZERO), floors::Disk::append)?);
        if round > 0 {
            ours.push(our_route);
            answers.push(answered);
            theirs.push(their_route);
        }
    }
    let (ours, theirs, answers) = (Samples::from(ours), Samples::from(theirs), Samples::from(answers));
    let synced = Samples::from(synced).p50();
    let with_disk = theirs.p50() + synced;
    let mut how = format!(
        "a plugged VIP of the amphora's own, heard from the kernel's netlink, in turn; the POST was answered after {}",
        show(answers.p50())
    );
    if disk.is_some() {
        let _ = write!(
            how,
            ". The agent makes it durable first: AddPath and one fdatasync ({} in turn with them) are {}, and the ratio to \
             that is {:.2}",
            show(synced),
            show(with_disk),
            ratio(ours.p50(), with_disk)
        );
    }
    let row = format!("register to route in the ToR's kernel, {name}, p50");
    let target = if disk.is_some() { Target::Ratio(1.2) } else { Target::None };
    report.times(&row, target, Samples::p50, (&ours, &theirs), &how);
    Ok(())
}

/// 10,000 by one AddPathStream of a bare client until the ToR's kernel has the last: what no agent can beat.
pub(crate) fn many(site: &Site, bare: &Speaker, changes: &[Change], back: &[Change]) -> Result<Duration> {
    let routes = Routes::follow(site.tor().node())?;
    routes.clear();
    let start = Instant::now();
    site.runtime.block_on(bare.apply(changes))?;
    let end = routes.wait_for_many(changes.len())?;
    site.runtime.block_on(bare.apply(back))?;
    Ok(end - start)
}
