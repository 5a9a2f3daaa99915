//! `GET /1.0/interface/{ip}`.

use std::net::IpAddr;

use axum::{
    Json,
    extract::{Path, State},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::{
    App,
    error::{ApiError, Fault, Status, with_causes},
};

/// The interface that has an address.
#[derive(Debug, Serialize, ToSchema)]
pub struct Interface {
    /// `OK`.
    message: &'static str,
    /// Its name inside the namespace.
    interface: String,
}

/// Find the interface of an address.
///
/// For a VIP on `lo` it is the front-end NIC: what the controller does with the answer (VRRP, rules)
/// belongs there.
#[utoipa::path(
    get, path = "/1.0/interface/{ip}", operation_id = "interface", tag = "Amphora API 1.0",
    params(("ip" = String, Path, description = "An address inside the namespace")),
    responses(
        (status = 200, body = Interface),
        (status = 400, description = "Not an address", body = Fault),
        (status = 404, description = "No interface has it", body = Fault),
        (status = 500, description = "The kernel could not be read", body = Fault),
    )
)]
pub async fn interface(State(app): State<App>, Path(ip): Path<String>) -> Result<Json<Interface>, ApiError> {
    let ip: IpAddr = ip.parse().map_err(|_| ApiError::message(Status::BadRequest, "Invalid IP address"))?;
    Ok(Json(Interface { message: "OK", interface: name_of(&app, ip).await? }))
}

/// The name of the interface of an address; of the front-end NIC for a VIP on `lo`.
pub(super) async fn name_of(app: &App, ip: IpAddr) -> Result<String, ApiError> {
    let found = app.kernel.interface_of(ip).await;
    let found =
        found.map_err(|e| ApiError::new(Status::Internal, "Cannot look into the namespace", with_causes(&e)))?;
    let nic = || app.owner.shared().read(|d| d.plug_of(ip).map(|p| p.interface.to_string()));
    match found {
        Some(name) => Ok(nic().unwrap_or(name)),
        None => Err(ApiError::message(Status::NotFound, "Error interface not found for IP address")),
    }
}
