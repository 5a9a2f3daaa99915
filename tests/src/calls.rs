//! The calls of the agent's API by name: thin, for what a test cares about is the answer.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::api::{Api, Reply};
use crate::error::{Error, Result};

impl Api {
    /// `GET /1.0/info`.
    pub fn info(&mut self) -> Result<Reply> {
        self.get("/1.0/info")
    }

    /// `POST /1.0/plug/vip/{vip}`; see [`crate::amphora::Amphora::plug_body`].
    pub fn plug_vip(&mut self, vip: IpAddr, body: &Value) -> Result<Reply> {
        self.post(&format!("/1.0/plug/vip/{vip}"), body)
    }

    /// `DELETE /1.0/plug/vip/{vip}`.
    pub fn unplug_vip(&mut self, vip: IpAddr) -> Result<Reply> {
        self.delete(&format!("/1.0/plug/vip/{vip}"))
    }

    /// `POST /1.0/distributor/amphorae`, to one peer or (`None`) to all.
    pub fn register(&mut self, amphora: &str, vip: IpAddr, next_hop: IpAddr, peer: Option<&str>) -> Result<Reply> {
        let mut body = json!({ "amphora_id": amphora, "vip_ip": vip, "nexthop_ip": next_hop });
        if let Some(peer) = peer {
            body["peer_id"] = peer.into();
        }
        self.post("/1.0/distributor/amphorae", &body)
    }

    /// `DELETE /1.0/distributor/amphorae/{amphora}`, with a query such as `vip_ip=203.0.113.7`, or empty for all.
    pub fn unregister(&mut self, amphora: &str, query: &str) -> Result<Reply> {
        let query = if query.is_empty() { String::new() } else { format!("?{query}") };
        self.delete(&format!("/1.0/distributor/amphorae/{amphora}{query}"))
    }

    /// `GET /1.0/distributor/amphorae`.
    pub fn amphorae(&mut self) -> Result<Reply> {
        self.get("/1.0/distributor/amphorae")
    }

    /// `GET /1.0/distributor/peers`.
    pub fn peers(&mut self) -> Result<Reply> {
        self.get("/1.0/distributor/peers")
    }
}

impl Reply {
    /// This reply, if it is one of the two successes the controller knows, 200 and 202.
    ///
    /// # Errors
    /// [`Error::Http`] with the status and the body there was.
    pub fn success(self) -> Result<Self> {
        if matches!(self.status, 200 | 202) {
            return Ok(self);
        }
        let reason = format!("status {}: {}", self.status, self.text());
        Err(Error::Http { what: "the agent's answer".into(), reason })
    }
}
