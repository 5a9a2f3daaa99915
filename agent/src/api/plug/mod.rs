//! `POST` and `DELETE /1.0/plug/vip/{vip}`.

pub mod decide;
pub mod request;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde::Serialize;
use utoipa::ToSchema;

pub use request::PlugVip;
use request::Wanted;

use crate::{
    api::{
        App,
        body::Whole,
        error::{ApiError, Fault, Status, with_causes},
    },
    crash,
    kernel::Place,
    state::Desired,
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
        (status = 400, description = "A field is unusable; nothing was changed", body = Fault),
        (status = 404, description = "The NIC is not there yet; try again", body = Fault),
        (status = 409, description = "This NIC is plugged already", body = Fault),
        (status = 500, description = "The kernel refused; a retry goes on where this stopped", body = Fault),
    )
)]
#[tracing::instrument(skip_all, fields(%vip))]
pub async fn plug_vip(
    State(app): State<App>,
    Path(vip): Path<String>,
    Whole(body): Whole,
) -> Result<(StatusCode, Json<Done>), ApiError> {
    let (mac, body) = request::parse(&body)?;
    let taken = app.owner.shared().read(|d| d.plug_on(mac).is_some_and(|p| p.acknowledged));
    if taken {
        return Err(decide::exists());
    }
    let wanted = body.check(&vip, mac, app.default_mode, &app.policy)?;
    let mut inside = app.kernel.names_inside().await.map_err(|e| failed("look into the namespace", &e))?;
    let place = app.kernel.locate(mac).await.map_err(|error| match error.kind {
        netns::Kind::Ambiguous(_) => request::bad_body("mac_address", format!("{error}; give each its own")),
        _ => failed("look for the NIC", &error),
    })?;
    match place {
        Place::Nowhere => {
            app.kernel.rescan();
            return Err(ApiError::no_such_nic());
        }
        Place::Outside(link) if app.is_management(&link) => {
            let why =
                format!("Invalid subnet information: mac_address: {mac} is the management interface {}", link.name);
            return Err(ApiError::message(Status::BadRequest, why));
        }
        Place::Outside(_) => {}
        // Left there by an unplug: its own name is free for it.
        Place::Inside(link) => drop(inside.remove(&link.name)),
    }
    let missing =
        app.kernel.missing(&app.owner.shared().read(|d| d.plugs.values().map(|p| p.mac).collect::<Vec<_>>())).await;
    let missing = missing.map_err(|e| failed("look for the NICs", &e))?;
    crash::point("plug: checked");

    let details = plugged_details(&wanted);
    let decide = {
        let wanted = wanted.clone();
        move |d: &Desired| decide::plug(&wanted, d, &inside, &missing)
    };
    let committed = app.owner.commit(decide).await?;
    let primary = wanted.vips[0].ip;
    app.converged(committed.generation, primary)
        .await
        .map_err(|why| ApiError::new(Status::Internal, "Error plugging VIP", why))?;
    crash::point("plug: done, not acknowledged");
    app.owner.commit(move |d: &Desired| Ok(decide::acknowledge(primary, d))).await?;
    crash::point("plug: acknowledged, not answered");
    Ok((StatusCode::ACCEPTED, Json(Done { message: "OK", details: Some(details(&app, primary)) })))
}

/// `VIPs plugged on interface eth1: a, b`, with IPv6 addresses written out in full as upstream does.
fn plugged_details(wanted: &Wanted) -> impl Fn(&App, std::net::IpAddr) -> String {
    let vips: Vec<_> = wanted.vips.iter().map(|v| exploded(v.ip)).collect();
    let vips = vips.join(", ");
    move |app, primary| {
        let interface = app.owner.shared().read(|d| d.plugs.get(&primary).map(|p| p.interface.to_string()));
        format!("VIPs plugged on interface {}: {vips}", interface.unwrap_or_default())
    }
}

/// Python's `ipaddress.exploded`.
fn exploded(ip: std::net::IpAddr) -> String {
    match ip {
        std::net::IpAddr::V4(v4) => v4.to_string(),
        std::net::IpAddr::V6(v6) => v6.segments().map(|s| format!("{s:04x}")).join(":"),
    }
}

fn failed(doing: &str, error: &dyn std::error::Error) -> ApiError {
    ApiError::new(Status::Internal, format!("Cannot {doing}"), with_causes(error))
}

/// Unplug a VIP.
///
/// Withdraws it where it is announced, then unbinds it. The NIC stays in the namespace without our
/// addresses. A registration of the VIP stays too and is announced again after the next plug.
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
    let ip = vip.parse::<std::net::IpAddr>().map_err(|_| {
        ApiError::message(
            Status::BadRequest,
            format!("Invalid VIP: VIP: '{vip}' does not appear to be an IPv4 or IPv6 address"),
        )
    })?;
    let committed = app.owner.commit(move |d: &Desired| decide::unplug(ip, d)).await?;
    // Also when it was forgotten before: an earlier call may have failed here, or the agent died in it.
    app.converged(committed.generation, ip)
        .await
        .map_err(|why| ApiError::new(Status::Internal, "Error unplugging VIP", why))?;
    crash::point("unplug: done, not answered");
    Ok(Json(Done { message: "OK", details: None }))
}
