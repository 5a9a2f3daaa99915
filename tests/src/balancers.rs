//! Load balancers through the API: haproxy's configuration as Octavia words it, and the calls of its life.

use std::net::SocketAddr;

use hyper::Method;

use crate::amphora::Amphora;
use crate::api::{Api, Reply};
use crate::error::Result;

/// A configuration as Octavia has it, whose one listener answers on `binds` with `answer`; `more` is put at its end.
#[must_use]
pub fn configuration(lb: &str, binds: &[SocketAddr], answer: &str, more: &str) -> String {
    let base = "/var/lib/octavia";
    let binds: String = binds.iter().map(|bind| format!("    bind {bind}\n")).collect();
    format!(
        "global
    daemon
    user nobody
    stats socket {base}/{lb}.sock mode 0666 level user
    server-state-file {base}/{lb}/servers-state
    maxconn 2000
defaults
    retries 3
    timeout client 10s
    timeout connect 5s
    timeout server 10s
frontend listener
{binds}    mode http
    http-request return status 200 content-type text/plain string {answer}
{more}"
    )
}

impl Api {
    /// `PUT /1.0/loadbalancer/{amphora_id}/{lb_id}/haproxy`.
    pub fn upload(&mut self, amphora: &Amphora, lb: &str, configuration: String) -> Result<Reply> {
        let path = format!("/1.0/loadbalancer/{}/{lb}/haproxy", amphora.id());
        self.send(Method::PUT, &path, &[], configuration.into_bytes())
    }

    /// `PUT /1.0/loadbalancer/{lb_id}/{action}`: `start`, `stop` or `reload`.
    pub fn act(&mut self, lb: &str, action: &str) -> Result<Reply> {
        self.send(Method::PUT, &format!("/1.0/loadbalancer/{lb}/{action}"), &[], Vec::new())
    }

    /// `DELETE /1.0/listeners/{lb_id}`.
    pub fn delete_balancer(&mut self, lb: &str) -> Result<Reply> {
        self.delete(&format!("/1.0/listeners/{lb}"))
    }
}
