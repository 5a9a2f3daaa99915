//! `/1.0/distributor/vips`: the same for end points that are no amphorae.

use std::net::IpAddr;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::Response,
};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{
    amphorae::ListQuery,
    check,
    decide::Filter,
    route::{self, Route, Unregistered},
};
use crate::{
    api::{
        App, body,
        distributor::query::Query,
        error::{ApiError, Fault, Status},
    },
    state::Server,
};

/// One VIP of an end point.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RegisterVip {
    /// The VIP.
    #[schema(example = "203.0.113.7")]
    vip_ip: String,
    /// The end point, of the VIP's family.
    #[schema(example = "192.0.2.10")]
    nexthop_ip: String,
    /// The only peer to announce it to; all of them when absent.
    peer_id: Option<String>,
}

/// Which routes of the VIP to unregister.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct UnregisterVipQuery {
    /// With this next hop only.
    #[param(value_type = Option<String>)]
    nexthop_ip: Option<IpAddr>,
    /// Registered for this peer only.
    #[param(value_type = Option<String>)]
    peer_id: Option<bgp::PeerId>,
}

/// List the VIPs of end points, as they are advertised right now.
#[utoipa::path(
    get, path = "/1.0/distributor/vips", operation_id = "list_vips", tag = "Distributor API",
    params(ListQuery), responses((status = 200, body = Vec<Route>), (status = 400, body = Fault)))]
pub async fn list(State(app): State<App>, Query(query): Query<ListQuery>) -> Json<Vec<Route>> {
    Json(route::list(&app, query.vip(), |r| r.server == Server::EndPoint).await)
}

/// Register a VIP of an end point.
#[utoipa::path(
    post, path = "/1.0/distributor/vips", operation_id = "register_vip", tag = "Distributor API",
    request_body = RegisterVip,
    responses(
        (status = 202, body = Route),
        (status = 400, description = "A field is unusable; nothing was changed", body = Fault),
        (status = 409, description = "It contradicts what is held; nothing was changed", body = Fault),
        (status = 500, description = "It could not be made durable; nothing was changed", body = Fault),
    )
)]
#[tracing::instrument(skip_all)]
pub async fn register(
    State(app): State<App>,
    body::Json(body): body::Json<RegisterVip>,
) -> Result<(StatusCode, Json<Route>), ApiError> {
    super::needs_bgp(&app)?;
    let (vip, nexthop, peer) = (&body.vip_ip, &body.nexthop_ip, body.peer_id.as_deref());
    let registration = check::registration(Server::EndPoint, vip, nexthop, peer, &app.policy)?;
    Ok((StatusCode::ACCEPTED, Json(super::register(&app, registration).await?)))
}

/// Unregister a VIP of an end point.
#[utoipa::path(
    delete, path = "/1.0/distributor/vips/{vip}", operation_id = "unregister_vip", tag = "Distributor API",
    params(("vip" = String, Path, description = "The VIP's address"), UnregisterVipQuery),
    responses(
        (status = 200, description = "Withdrawn, or there was none", body = Unregistered),
        (status = 202, description = "Not withdrawn yet: the speaker cannot be reached", body = Unregistered),
        (status = 400, body = Fault),
        (status = 409, description = "Registered for all peers, not for the one named", body = Fault),
        (status = 500, description = "It could not be made durable; nothing was changed", body = Fault),
    )
)]
#[tracing::instrument(skip_all, fields(%vip))]
pub async fn unregister(
    State(app): State<App>,
    Path(vip): Path<String>,
    Query(query): Query<UnregisterVipQuery>,
) -> Result<Response, ApiError> {
    let ip = vip.parse().map_err(|_| {
        ApiError::new(
            Status::BadRequest,
            "Invalid vip",
            format!("'{vip}' does not appear to be an IPv4 or IPv6 address"),
        )
    })?;
    let filter = Filter { server: Server::EndPoint, vip: Some(ip), nexthop: query.nexthop_ip, peer: query.peer_id };
    super::unregister(&app, filter).await
}
