//! The options the stock controller renders, as Octavia's agent reads them.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::{Api, Controller, Heartbeat, Logging, Paths, Secret, TlsVersion, Topology, reader::Reader};

const HAPROXY: &str = "haproxy_amphora";
const AGENT: &str = "amphora_agent";
const HEALTH: &str = "health_manager";

pub(super) fn api(reader: &mut Reader<'_>) -> Option<Api> {
    let host = reader.read(HAPROXY, "bind_host", |text| {
        text.parse::<IpAddr>().map_err(|_| format!("`{text}` is not an IP address; write `::` for all"))
    });
    let port = reader.number(HAPROXY, "bind_port", 0, u16::MAX);
    let server_cert = reader.path(AGENT, "agent_server_cert");
    let client_ca = reader.path(AGENT, "agent_server_ca");
    let seconds = reader.number(AGENT, "agent_request_read_timeout", 1_u32, u32::MAX);
    let old = Some(TlsVersion::Tls12).map(|least| (least, true));
    let versions = [
        ("SSLv3", old),
        ("TLSv1", old),
        ("TLSv1.1", old),
        ("TLSv1.2", Some((TlsVersion::Tls12, false))),
        ("TLSv1.3", Some((TlsVersion::Tls13, false))),
    ];
    let version = reader.choice(AGENT, "agent_tls_protocol", &versions).flatten();
    if let Some((_, true)) = version {
        let text = "is older than what this agent speaks; TLS 1.2 is the minimum in effect".to_owned();
        reader.warn(AGENT, "agent_tls_protocol", text);
    }
    Some(Api {
        bind: SocketAddr::new(host?, port?),
        server_cert: server_cert?,
        client_ca: client_ca?,
        minimum_tls: version?.0,
        request_read_timeout: Duration::from_secs(seconds?.into()),
    })
}

pub(super) fn paths(reader: &mut Reader<'_>) -> Option<Paths> {
    let base = reader.path(HAPROXY, "base_path");
    let certs = reader.path(HAPROXY, "base_cert_dir");
    let haproxy = reader.path(HAPROXY, "haproxy_cmd");
    let network = reader.text(AGENT, "agent_server_network_dir").filter(|text| !text.is_empty());
    Some(Paths { base: base?, certs: certs?, haproxy: haproxy?, network: network.map(Into::into) })
}

pub(super) fn heartbeat(reader: &mut Reader<'_>) -> Option<Heartbeat> {
    let controllers = reader.list(HEALTH, "controller_ip_port_list", controller);
    let seconds = reader.number(HEALTH, "heartbeat_interval", 1_u32, u32::MAX);
    let key = reader.text(HEALTH, "heartbeat_key").filter(|key| !key.is_empty());
    if key.is_none() && controllers.as_ref().is_some_and(|all| !all.is_empty()) {
        let text = "is not set: no heartbeat is sent, and the health managers take this amphora for dead";
        reader.warn(HEALTH, "heartbeat_key", text.to_owned());
    }
    Some(Heartbeat {
        controllers: controllers?,
        interval: Duration::from_secs(seconds?.into()),
        key: key.map(Secret::new),
    })
}

/// `host:port`, `[ipv6]:port`, or `ipv6:port`, for upstream cuts at the last colon.
fn controller(text: &str) -> Result<Controller, String> {
    let wrong = || format!("`{text}` is not ADDRESS:PORT; write 192.0.2.1:5555 or [2001:db8::1]:5555");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let bare = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
    let host = bare.unwrap_or(host);
    let address = host.parse::<IpAddr>();
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_');
    let name = bare.is_none() && !host.is_empty() && host.bytes().all(plain);
    let port = port.parse().ok().filter(|&port| port != 0).ok_or_else(wrong)?;
    let host = address.map(|ip| ip.to_string()).or_else(|_| name.then(|| host.to_owned()).ok_or_else(wrong))?;
    Ok(Controller { host, port })
}

pub(super) fn topology(reader: &mut Reader<'_>) -> Option<Topology> {
    let words = [("SINGLE", Topology::Single), ("ACTIVE_STANDBY", Topology::ActiveStandby)];
    reader.choice("controller_worker", "loadbalancer_topology", &words)
}

pub(super) fn logging(reader: &mut Reader<'_>) -> Option<Logging> {
    let debug = reader.boolean("DEFAULT", "debug");
    let use_syslog = reader.boolean("DEFAULT", "use_syslog");
    let syslog_facility = reader.text("DEFAULT", "syslog_log_facility");
    let user_facility = facility(reader, "user_log_facility");
    let administrative_facility = facility(reader, "administrative_log_facility");
    Some(Logging {
        debug: debug?,
        use_syslog: use_syslog?,
        syslog_facility: syslog_facility?,
        user_facility: user_facility?,
        administrative_facility: administrative_facility?,
    })
}

/// Rendered under `[haproxy_amphora]`, read by upstream from `[amphora_agent]`: the latter wins, as there.
fn facility(reader: &mut Reader<'_>, key: &str) -> Option<u8> {
    let elsewhere = !reader.written(AGENT, key) && reader.written(HAPROXY, key);
    let rendered = if elsewhere { reader.number(HAPROXY, key, 0, 7) } else { None };
    rendered.or_else(|| reader.number(AGENT, key, 0, 7))
}
