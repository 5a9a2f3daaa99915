//! `POST /1.0/plug/network`: a member network, plugged or brought up to date.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use axum::{Extension, Json, extract::State, http::StatusCode};

use super::{
    Done, Found,
    decide::{free_name, without_nic},
    find, follow,
    port::{self, VipSubnet, WantedNetwork},
};
use crate::{
    api::{
        App,
        body::Whole,
        error::{ApiError, Fault, HttpFault, Status, with_causes},
    },
    crash,
    owner::{Decision, Refusal},
    server::Peer,
    state::{Change, Desired, NetworkPlug, Plug, VipMode},
};

/// How long an IPv6 address may take to be known for unique (`TENTATIVE_WAIT_TIMEOUT` in upstream's `interface.py`).
pub(super) const SETTLE: Duration = Duration::from_secs(30);

/// Plug a member network.
///
/// Moves the NIC into the namespace, or brings one that is there up to date without taking its link down; answers when
/// that is done and its addresses are usable.
#[utoipa::path(
    post, path = "/1.0/plug/network", operation_id = "plug_network", tag = "Amphora API 1.0",
    request_body = port::PlugNetwork,
    responses(
        (status = 202, description = "Plugged, or brought up to date", body = Done),
        (status = 400, description = "A field is unusable; nothing was changed. `{message, details}` for an address, else `{error, http_code, details}`", body = HttpFault),
        (status = 404, description = "The NIC is not there yet; try again", body = Fault),
        (status = 500, description = "The kernel refused; a retry goes on where this stopped", body = Fault),
    )
)]
#[tracing::instrument(skip_all)]
pub async fn plug_network(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Whole(body): Whole,
) -> Result<(StatusCode, Json<Done>), ApiError> {
    let wanted = port::parse(&body)?;
    let Found { here, inside, missing } = find(&app, wanted.mac, peer, port::bad_body).await?;
    crash::point("network: checked");
    let mac = wanted.mac;
    let known = app.owner.shared().read(|d| {
        let half = d.networks.get(&mac).is_some_and(|n| !n.acknowledged);
        here.is_some() && !(half && d.plug_on(mac).is_none())
    });
    let committed = app.owner.commit(move |d| Ok(decide(&wanted, d, here.as_deref(), &inside, &missing))).await?;
    let plug = |c: &Change| if let Change::PlugNetwork(plug) = c { Some((**plug).clone()) } else { None };
    let plug = committed.changes.iter().find_map(plug).expect("a network that is taken is a change");
    let failed = |why| ApiError::new(Status::Internal, "Error plugging network", why);
    app.converged(committed.generation, Some(mac), |_| false).await.map_err(failed)?;
    follow(&app, mac, &plug.interface, true).await.map_err(|e| failed(with_causes(&e)))?;
    let ips: Vec<IpAddr> = plug.fixed_ips.iter().map(|f| f.ip).collect();
    app.kernel.settle(mac, &ips, SETTLE).await;
    app.kernel.advertise(ips);
    crash::point("network: done, not acknowledged");
    let done = if known { "Updated existing interface" } else { "Plugged on interface" };
    let details = Some(format!("{done} {}", plug.interface));
    app.owner.commit(move |d| acknowledge(&plug, d)).await?;
    crash::point("network: acknowledged, not answered");
    Ok((StatusCode::ACCEPTED, Json(Done { message: "OK", details })))
}

/// Takes a member network, in place of what was asked for this NIC before. `here` is its name if it is inside already.
fn decide(
    wanted: &WantedNetwork,
    desired: &Desired,
    here: Option<&str>,
    inside: &BTreeSet<String>,
    missing: &[netns::Mac],
) -> Vec<Change> {
    let mut changes = Vec::new();
    let vip = desired.plug_on(wanted.mac);
    let before = desired.networks.get(&wanted.mac);
    let own_name = || {
        let free = here.filter(|name| !desired.nics().any(|(_, n)| n.as_str() == *name))?;
        free.parse().ok()
    };
    let interface = vip
        .map(|p| p.interface.clone())
        .or_else(|| before.map(|n| n.interface.clone()))
        .or_else(own_name)
        .unwrap_or_else(|| free_name(2, desired, inside, missing));
    changes.extend(without_nic(&interface, desired, wanted.mac));
    if let (Some(vip), Some(now)) = (vip, &wanted.vip)
        && let Some(renewed) = renewed(vip, now)
    {
        changes.push(Change::Plug(Box::new(renewed)));
    }
    let network = NetworkPlug {
        mac: wanted.mac,
        interface,
        fixed_ips: wanted.fixed_ips.clone(),
        mtu: wanted.mtu,
        is_sriov: wanted.is_sriov,
        // Once told to the controller, a NIC stays known: an update that is cut off is one all the same.
        acknowledged: before.is_some_and(|n| n.acknowledged),
    };
    // Also when it is held already: a commit is what has everything tried again now, and what a retry waits for.
    changes.push(Change::PlugNetwork(Box::new(network)));
    changes
}

/// The plug with the VIP's subnet as it is now, if that has changed. The other VIPs stay: the controller names none here.
fn renewed(plug: &Plug, now: &VipSubnet) -> Option<Plug> {
    let mut new = plug.clone();
    let vip = new.vips.iter_mut().find(|v| v.ip == now.ip)?;
    let subnet = vip.subnet;
    // The front-end address is in that subnet; of another network, the VIP's own or a stranger, nothing is known here.
    if plug.mode != VipMode::Interface && subnet != now.subnet {
        return None;
    }
    (vip.subnet, vip.gateway, vip.host_routes) = (now.subnet, now.gateway, now.host_routes.clone());
    for frontend in new.frontends.iter_mut().filter(|f| f.subnet == subnet && now.subnet.contains(&f.ip)) {
        (frontend.subnet, frontend.gateway) = (now.subnet, now.gateway);
    }
    (new != *plug).then_some(new)
}

/// Marks a network as answered, if it still is the one that was done.
fn acknowledge(done: &NetworkPlug, desired: &Desired) -> Decision<Refusal> {
    let answered = NetworkPlug { acknowledged: true, ..done.clone() };
    match desired.networks.get(&done.mac) {
        Some(held) if *held == answered => Ok(vec![]),
        Some(held) if held == done => Ok(vec![Change::PlugNetwork(Box::new(answered))]),
        _ => {
            let message = format!("{} was plugged otherwise while it was being plugged", done.mac);
            Err(Refusal { status: Status::Internal, message, details: "try again".to_owned() })
        }
    }
}

#[cfg(test)]
mod tests;
