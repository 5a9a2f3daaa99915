//! `POST` and `DELETE /1.0/plug/vip/{vip}`, and `POST /1.0/plug/network`.

pub mod decide;
pub mod network;
pub mod port;
pub mod request;

use std::{collections::BTreeSet, net::IpAddr};

use axum::{
    Extension, Json,
    extract::{Path, State},
    http::StatusCode,
};
use netns::Mac;
use serde::Serialize;
use utoipa::ToSchema;

pub use request::PlugVip;

use crate::{
    api::{
        App,
        body::Whole,
        error::{ApiError, Fault, HttpFault, Status, with_causes},
    },
    crash, dhcp, interfaces,
    kernel::Place,
    resolve,
    server::Peer,
    services::ServiceError,
    state::{Change, Desired, Plug, VipMode},
};

/// The answer to a call that did its work.
#[derive(Debug, Serialize, ToSchema)]
pub struct Done {
    /// `OK`.
    pub message: &'static str,
    /// What was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
}

/// Plug a VIP.
///
/// Moves the NIC into the namespace and binds the VIPs; answers when that is done.
#[utoipa::path(
    post, path = "/1.0/plug/vip/{vip}", operation_id = "plug_vip", tag = "Amphora API 1.0",
    params(("vip" = String, Path, description = "The VIP's address")),
    request_body = PlugVip,
    responses(
        (status = 202, description = "Plugged", body = Done),
        (status = 400, description = "A field is unusable; nothing was changed. `{message}` for an address, else `{error, http_code, details}`", body = HttpFault),
        (status = 404, description = "The NIC is not there yet; try again", body = Fault),
        (status = 409, description = "This NIC is plugged already", body = Fault),
        (status = 500, description = "The kernel refused; a retry goes on where this stopped", body = Fault),
    )
)]
#[tracing::instrument(skip_all, fields(%vip))]
pub async fn plug_vip(
    State(app): State<App>,
    Path(vip): Path<String>,
    Extension(peer): Extension<Peer>,
    Whole(body): Whole,
) -> Result<(StatusCode, Json<Done>), ApiError> {
    let (mac, body) = request::parse(&body)?;
    let taken = app.owner.shared().read(|d| decide::is_taken(mac, d));
    if taken {
        return Err(decide::exists());
    }
    let wanted = body.check(&vip, mac, app.default_mode, &app.policy)?;
    let Found { inside, missing, .. } = find(&app, mac, peer, request::bad_body).await?;
    crash::point("plug: checked");

    let policy = app.policy.clone();
    let committed = app.owner.commit(move |d: &Desired| decide::plug(&wanted, d, &inside, &missing, &policy)).await?;
    let plug = |c: &Change| if let Change::Plug(plug) = c { Some((**plug).clone()) } else { None };
    let plug = committed.changes.iter().find_map(plug).expect("a plug that is taken is a change");
    app.converged(committed.generation, Some(plug.mac), |ip| ip == plug.primary())
        .await
        .map_err(|why| ApiError::new(Status::Internal, "Error plugging VIP", why))?;
    crash::point("plug: done, not acknowledged");
    let asked = follow(&app, plug.mac, &plug.interface, plug.mode == VipMode::Interface).await;
    match asked {
        Err(error) if plug.mode != VipMode::Interface => {
            // A routed VIP is bound without, and says why it is not announced.
            tracing::warn!(error = &error as &dyn std::error::Error, "no front-end address by DHCP");
        }
        other => other.map_err(|e| failed("ask for an address by DHCP", &e))?,
    }
    if plug.mode == VipMode::Interface {
        // keepalived is started next: one that finds its own address tentative enters its FAULT state ("src address not
        // configured") and stays there for good.
        app.kernel.settle(plug.mac, &plug.frontends.iter().map(|f| f.ip).collect::<Vec<_>>(), network::SETTLE).await;
    }
    if plug.mode == VipMode::Interface && !resolve::by_keepalived(&plug, &app.policy) {
        app.kernel.advertise(plug.vips.iter().map(|v| v.ip).collect());
    }
    let details = details(&plug);
    app.owner.commit(move |d: &Desired| decide::acknowledge(&plug, d)).await?;
    crash::point("plug: acknowledged, not answered");
    Ok((StatusCode::ACCEPTED, Json(Done { message: "OK", details: Some(details) })))
}

/// Where the NIC of a call is, and the names and NICs there are besides.
struct Found {
    /// Its name inside, if it is there already.
    here: Option<String>,
    /// The names of the others inside.
    inside: BTreeSet<String>,
    /// The plugged NICs that exist no more.
    missing: Vec<Mac>,
}

/// Looks for the NIC of a call; `bad` words the refusal of one that cannot be plugged.
async fn find(
    app: &App,
    mac: Mac,
    peer: Peer,
    bad: impl Fn(&'static str, String) -> ApiError,
) -> Result<Found, ApiError> {
    let mut inside = app.kernel.names_inside().await.map_err(|e| failed("look into the namespace", &e))?;
    let place = app.kernel.locate(mac).await.map_err(|error| match error.kind {
        netns::Kind::Ambiguous(_) => bad("mac_address", format!("{error}; give each its own")),
        _ => failed("look for the NIC", &error),
    })?;
    let here = match place {
        Place::Nowhere => {
            app.kernel.rescan();
            return Err(ApiError::no_such_nic());
        }
        Place::Outside(link) => {
            if app.is_management(&link, peer.local).await.map_err(|e| failed("look for the NIC", &e))? {
                return Err(bad("mac_address", format!("{mac} is the management interface {}", link.name)));
            }
            None
        }
        // Its own name is free for it.
        Place::Inside(link) => {
            inside.remove(&link.name);
            Some(link.name)
        }
    };
    let nics = app.owner.shared().read(|d| d.nics().map(|(mac, _)| mac).collect::<Vec<_>>());
    let missing = app.kernel.missing(&nics).await.map_err(|e| failed("look for the NICs", &e))?;
    Ok(Found { here, inside, missing })
}

/// `VIPs plugged on interface eth1: a, b`, with IPv6 addresses written out in full as upstream does.
fn details(plug: &Plug) -> String {
    let vips: Vec<_> = plug.vips.iter().map(|v| interfaces::exploded(v.ip)).collect();
    format!("VIPs plugged on interface {}: {}", plug.interface, vips.join(", "))
}

/// Has a DHCP client for a NIC of which no IPv4 address was named, and has its lease waited for; or has none.
async fn follow(app: &App, mac: Mac, interface: &netns::IfName, wait: bool) -> Result<(), ServiceError> {
    let wanted = app.owner.shared().read(|d| dhcp::wanted(mac, d));
    dhcp::set(&app.services, interface, wanted).await?;
    if wanted && wait {
        dhcp::wait(&app.kernel, mac).await;
    }
    sweep(app).await
}

/// Ends the DHCP clients nobody wants any more, but not while a VIP lingers: it may be reached through such an address.
async fn sweep(app: &App) -> Result<(), ServiceError> {
    if !app.progress.read(|r| r.lingering.is_empty()) {
        return Ok(());
    }
    dhcp::sweep(&app.services, app.owner.shared()).await
}

fn failed(doing: &str, error: &dyn std::error::Error) -> ApiError {
    ApiError::new(Status::Internal, format!("Cannot {doing}"), with_causes(error))
}

/// Unplug a VIP.
///
/// Withdraws it where it is announced, then unbinds it. The NIC stays in the namespace without our
/// addresses. This amphora's registration of the VIP stays too and is announced again after the next plug; those under
/// another name that lead to an address of this NIC go, for nothing is behind it any more.
#[utoipa::path(
    delete, path = "/1.0/plug/vip/{vip}", operation_id = "unplug_vip", tag = "Distributor API",
    params(("vip" = String, Path, description = "The VIP's address")),
    responses(
        (status = 200, description = "Unplugged, or it was not plugged", body = Done),
        (status = 400, description = "Not an address", body = Fault),
        (status = 409, description = "An additional VIP of another plug", body = Fault),
        (status = 500, description = "It could not be withdrawn or unbound yet; the agent goes on trying", body = Fault),
    )
)]
#[tracing::instrument(skip_all, fields(%vip))]
pub async fn unplug_vip(State(app): State<App>, Path(vip): Path<String>) -> Result<Json<Done>, ApiError> {
    let ip = vip.parse::<IpAddr>().map_err(|_| {
        ApiError::message(
            Status::BadRequest,
            format!("Invalid VIP: VIP: '{vip}' does not appear to be an IPv4 or IPv6 address"),
        )
    })?;
    let with_it =
        app.owner.shared().read(|d| d.plugs.get(&ip).map(|p| p.vips.iter().map(|v| v.ip).collect::<Vec<_>>()));
    let nic = app.owner.shared().read(|d| d.plugs.get(&ip).map(|p| p.mac));
    let held = match nic {
        Some(mac) => app.kernel.addresses_of(mac).await.map_err(|e| failed("look at the NIC", &e))?,
        None => Vec::new(),
    };
    let policy = app.policy.clone();
    let committed = app.owner.commit(move |d: &Desired| decide::unplug(ip, &held, d, &policy)).await?;
    // Also when it was forgotten before: an earlier call may have failed here, or the agent died in it. Then whatever
    // lingers may be one of its additional VIPs.
    app.converged(committed.generation, None, |left| with_it.as_ref().is_none_or(|vips| vips.contains(&left)))
        .await
        .map_err(|why| ApiError::new(Status::Internal, "Error unplugging VIP", why))?;
    sweep(&app).await.map_err(|e| failed("end DHCP", &e))?;
    crash::point("unplug: done, not answered");
    Ok(Json(Done { message: "OK", details: None }))
}
