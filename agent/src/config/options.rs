//! Every option we read, with its default: Octavia's (octavia/common/config.py) and our own.

use Kind::{Boolean, Integer, List, Text};

/// How oslo.config types an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Integer,
    Boolean,
    List,
}

/// One option.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) section: &'static str,
    pub(super) key: &'static str,
    pub(super) kind: Kind,
    pub(super) default: Option<&'static str>,
}

const fn known(section: &'static str, key: &'static str, kind: Kind, default: Option<&'static str>) -> Known {
    Known { section, key, kind, default }
}

/// What stands for every `[bgp_peer:NAME]` in [`KNOWN`].
pub(super) const PEER: &str = "bgp_peer";
/// The same for every `[bgp_vip:PREFIX]`.
pub(super) const VIP: &str = "bgp_vip";

pub(super) static KNOWN: &[Known] = &[
    known("DEFAULT", "debug", Boolean, Some("False")),
    known("DEFAULT", "use_syslog", Boolean, Some("False")),
    known("DEFAULT", "syslog_log_facility", Text, Some("LOG_USER")),
    known("haproxy_amphora", "base_cert_dir", Text, Some("/var/lib/octavia/certs")),
    known("haproxy_amphora", "base_path", Text, Some("/var/lib/octavia")),
    known("haproxy_amphora", "bind_host", Text, Some("::")),
    known("haproxy_amphora", "bind_port", Integer, Some("9443")),
    known("haproxy_amphora", "haproxy_cmd", Text, Some("/usr/sbin/haproxy")),
    // Rendered here, read by upstream from [amphora_agent]: either will do, so the defaults stand there.
    known("haproxy_amphora", "user_log_facility", Integer, None),
    known("haproxy_amphora", "administrative_log_facility", Integer, None),
    known("health_manager", "controller_ip_port_list", List, Some("")),
    known("health_manager", "heartbeat_interval", Integer, Some("10")),
    known("health_manager", "heartbeat_key", Text, None),
    known("amphora_agent", "agent_server_ca", Text, Some("/etc/octavia/certs/client_ca.pem")),
    known("amphora_agent", "agent_server_cert", Text, Some("/etc/octavia/certs/server.pem")),
    known("amphora_agent", "agent_server_network_dir", Text, None),
    known("amphora_agent", "agent_request_read_timeout", Integer, Some("180")),
    known("amphora_agent", "agent_tls_protocol", Text, Some("TLSv1.2")),
    known("amphora_agent", "amphora_id", Text, None),
    known("amphora_agent", "amphora_udp_driver", Text, Some("keepalived_lvs")),
    known("amphora_agent", "user_log_facility", Integer, Some("0")),
    known("amphora_agent", "administrative_log_facility", Integer, Some("1")),
    known("controller_worker", "loadbalancer_topology", Text, Some("SINGLE")),
    known("distributor", "role", Text, Some("amphora")),
    known("distributor", "vip_mode", Text, Some("interface")),
    known("distributor", "announce", Text, Some("listener")),
    known("distributor", "rise", Integer, Some("2")),
    known("distributor", "fall", Integer, Some("3")),
    known("distributor", "check_interval", Integer, Some("500")),
    known("distributor", "hold_down", Integer, Some("2")),
    known("distributor", "members_low", Integer, Some("0")),
    known("distributor", "members_high", Integer, None), // members_low
    known("distributor", "last_resort", Text, Some("withdraw")),
    known("distributor", "haproxy_policy", Text, Some("warn")),
    known("distributor", "services", Text, Some("auto")),
    known("distributor", "allowed_prefixes", List, None),
    known("distributor", "allowed_nexthops", List, None),
    known("distributor", "require_ramfs", Boolean, Some("false")),
    known("bgp", "local_as", Text, None),
    known("bgp", "router_id", Text, None),
    known("bgp", "speaker", Text, Some("unix:///run/gobgpd/gobgpd.sock")),
    known("bgp", "graceful_restart_time", Integer, Some("30")),
    known(PEER, "peer_ip", Text, None),
    known(PEER, "remote_as", Text, None),
    known(PEER, "auth_type", Text, None),
    known(PEER, "auth_password", Text, None),
    known(PEER, "auth_password_file", Text, None),
    known(PEER, "ttl_hops", Integer, None),
    known(PEER, "ebgp_multihop", Integer, None),
    known(PEER, "hold_time", Integer, Some("9")),
    known(PEER, "keepalive_interval", Integer, None), // a third of the hold time
    known(PEER, "passive", Boolean, Some("no")),
    known(PEER, "local_ip", Text, None),
    known(PEER, "families", List, Some("ipv4, ipv6")),
    known(PEER, "connect_retry", Integer, Some("5")),
    known(PEER, "bfd", Boolean, Some("no")),
    known(PEER, "bfd_interval", Integer, Some("300")),
    known(PEER, "bfd_multiplier", Integer, Some("3")),
    known(PEER, "communities", List, Some("")),
    known(PEER, "med", Integer, None),
    known(PEER, "local_pref", Integer, None),
    known(PEER, "prepend", Integer, Some("0")),
    known(VIP, "communities", List, Some("")),
    known(VIP, "med", Integer, None),
    known(VIP, "local_pref", Integer, None),
    known(VIP, "prepend", Integer, Some("0")),
];

/// The section as it stands in the tables.
pub(super) fn table_section(section: &str) -> &str {
    match section.split_once(':') {
        Some((PEER, _)) => PEER,
        Some((VIP, _)) => VIP,
        _ => section,
    }
}

pub(super) fn find(section: &str, key: &str) -> Option<&'static Known> {
    let section = table_section(section);
    KNOWN.iter().find(|option| option.section == section && option.key == key)
}

/// Python's `int()`: a sign, and single underscores between digits. Empty is `None`, as oslo.config has it.
pub(super) fn integer(text: &str) -> Result<Option<i64>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let plain = !text.starts_with('_') && !text.ends_with('_') && !text.contains("__");
    let joined = !["+_", "-_"].iter().any(|start| text.starts_with(start));
    let number = text.replace('_', "").parse().ok().filter(|_| plain && joined);
    number.map(Some).ok_or_else(|| "not a whole number".to_owned())
}

/// oslo.config's words for yes and no, in any case.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text.to_lowercase().as_str() {
        "true" | "1" | "on" | "yes" => Ok(true),
        "false" | "0" | "off" | "no" => Ok(false),
        _ => Err("neither true nor false; write `true` or `false`".to_owned()),
    }
}

/// Elements between commas, trimmed; trailing commas do not count. As oslo.config's default `ListOpt`, which knows
/// no quotes.
pub(super) fn list(text: &str) -> Vec<&str> {
    let text = text.trim().trim_end_matches(',');
    if text.is_empty() { Vec::new() } else { text.split(',').map(str::trim).collect() }
}
