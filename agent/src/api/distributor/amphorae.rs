//! `/1.0/distributor/amphorae`.

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
    check,
    decide::Filter,
    route::{self, Route, Unregistered},
};
use crate::{
    api::{
        App, body,
        distributor::query::Query,
        error::{ApiError, Fault},
    },
    resolve::Policy,
    state::{Registration, Server},
};

/// One VIP of one amphora.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// The amphora that serves the VIP.
    amphora_id: String,
    /// The VIP.
    #[schema(value_type = String, example = "203.0.113.7")]
    vip_ip: String,
    /// The amphora's front-end IP, of the VIP's family.
    #[schema(value_type = String, example = "192.0.2.10")]
    nexthop_ip: String,
    /// The only peer to announce it to; all of them when absent.
    peer_id: Option<String>,
}

impl Register {
    /// The registration, each of its fields usable by itself.
    pub fn check(self, policy: &Policy) -> Result<Registration, ApiError> {
        check::server(&self.amphora_id)?;
        let server = Server::Amphora(self.amphora_id);
        check::registration(server, &self.vip_ip, &self.nexthop_ip, self.peer_id.as_deref(), policy)
    }
}

/// Which VIPs to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    /// This one only.
    #[param(value_type = Option<String>)]
    vip_ip: Option<IpAddr>,
}

impl ListQuery {
    pub(super) fn vip(&self) -> Option<IpAddr> {
        self.vip_ip
    }
}

/// Which routes of the amphora to unregister.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct UnregisterQuery {
    /// Of this VIP only.
    #[param(value_type = Option<String>)]
    vip_ip: Option<IpAddr>,
    /// With this next hop only.
    #[param(value_type = Option<String>)]
    nexthop_ip: Option<IpAddr>,
    /// Registered for this peer only.
    #[param(value_type = Option<String>)]
    peer_id: Option<bgp::PeerId>,
}

/// List the amphorae with their routes, as they are advertised right now.
#[utoipa::path(
    get, path = "/1.0/distributor/amphorae", operation_id = "list_amphorae", tag = "Distributor API",
    params(ListQuery), responses((status = 200, body = Vec<Route>), (status = 400, body = Fault)))]
pub async fn list(State(app): State<App>, Query(query): Query<ListQuery>) -> Json<Vec<Route>> {
    Json(route::list(&app, query.vip(), |r| matches!(r.server, Server::Amphora(_))).await)
}

/// Register an amphora: announce its VIP with its front-end IP as next hop.
///
/// 202 when the registration is durable; the GET shows when it is announced. The same body again gets the
/// same answer; another `peer_id` moves it.
#[utoipa::path(
    post, path = "/1.0/distributor/amphorae", operation_id = "register_amphora", tag = "Distributor API",
    request_body = Register,
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
    body::Json(body): body::Json<Register>,
) -> Result<(StatusCode, Json<Route>), ApiError> {
    super::needs_bgp(&app)?;
    let registration = body.check(&app.policy)?;
    Ok((StatusCode::ACCEPTED, Json(super::register(&app, registration).await?)))
}

/// Unregister an amphora: withdraw its routes. The VIP stays bound.
#[utoipa::path(
    delete, path = "/1.0/distributor/amphorae/{amphora_id}", operation_id = "unregister_amphora",
    tag = "Distributor API",
    params(("amphora_id" = String, Path, description = "The amphora"), UnregisterQuery),
    responses(
        (status = 200, description = "Withdrawn, or there was none", body = Unregistered),
        (status = 202, description = "Not withdrawn yet: the speaker cannot be reached", body = Unregistered),
        (status = 400, body = Fault),
        (status = 409, description = "Registered for all peers, not for the one named", body = Fault),
        (status = 500, description = "It could not be made durable; nothing was changed", body = Fault),
    )
)]
#[tracing::instrument(skip_all, fields(%amphora_id))]
pub async fn unregister(
    State(app): State<App>,
    Path(amphora_id): Path<String>,
    Query(query): Query<UnregisterQuery>,
) -> Result<Response, ApiError> {
    let server = Server::Amphora(amphora_id);
    super::unregister(&app, Filter { server, vip: query.vip_ip, nexthop: query.nexthop_ip, peer: query.peer_id }).await
}
