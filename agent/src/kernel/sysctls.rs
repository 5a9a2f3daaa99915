//! What a new namespace lacks: the sysctls of Octavia's image (`elements/haproxy-octavia`, `20-haproxy-tune-kernel`) as
//! far as each namespace has its own, and those its unit sets (`templates/amphora-netns.systemd.j2`).
//!
//! Said in one place for both who make the namespace: the unit `amphora-netns`, and an agent without systemd.

use netns::{Kind, Namespace};

use crate::api::error::with_causes;

/// What haproxy is tuned by. An operator's `sysctl.d` comes after it and wins: it is set in a new namespace only.
const TUNING: [(&str, &str); 14] = [
    ("net.core.somaxconn", "65534"),
    ("net.ipv4.ip_local_port_range", "1025 65534"),
    ("net.ipv4.tcp_fin_timeout", "5"),
    ("net.ipv4.tcp_keepalive_time", "300"),
    ("net.ipv4.tcp_max_syn_backlog", "100000"),
    ("net.ipv4.tcp_max_tw_buckets", "5800000"),
    // RFC 4821: routers that drop large packets without a word.
    ("net.ipv4.tcp_mtu_probing", "1"),
    ("net.ipv4.tcp_rmem", "4096 87380 33554432"),
    ("net.ipv4.tcp_synack_retries", "3"),
    ("net.ipv4.tcp_tw_reuse", "1"),
    ("net.ipv4.tcp_wmem", "4096 87380 33554432"),
    ("net.netfilter.nf_conntrack_tcp_timeout_fin_wait", "5"),
    ("net.netfilter.nf_conntrack_tcp_timeout_time_wait", "5"),
    // haproxy's health monitors of type PING run as nobody.
    ("net.ipv4.ping_group_range", "0 2147483647"),
];

/// What load balancers do not work without.
const NEEDED: [(&str, &str); 7] = [
    // LVS forwards between the networks of its load balancer.
    ("net.ipv4.ip_forward", "1"),
    ("net.ipv6.conf.all.forwarding", "1"),
    // And masquerades what it forwards. There is none of these before the module ip_vs.
    ("net.ipv4.vs.conntrack", "1"),
    // A member that is taken away keeps no connections, and no persistence.
    ("net.ipv4.vs.expire_nodest_conn", "1"),
    ("net.ipv4.vs.expire_quiescent_template", "1"),
    // haproxy listens on VIPs that are not bound yet, or that the other amphora has.
    ("net.ipv6.ip_nonlocal_bind", "1"),
    PREPARED,
];

/// The last to be set: a namespace that has it has been here, or under Octavia's own unit.
const PREPARED: (&str, &str) = ("net.ipv4.ip_nonlocal_bind", "1");

/// Gives the namespace what it lacks. What cannot be set is told and passed over: without, some listeners fail; without a
/// namespace all do.
pub fn prepare(namespace: &Namespace) {
    let (key, value) = PREPARED;
    let tuned = namespace.sysctl(key).is_ok_and(|is| is == value);
    for (key, value) in TUNING.iter().filter(|_| !tuned).chain(&NEEDED) {
        match namespace.set_sysctl(key, value) {
            Ok(_) => {}
            Err(error) if error.kind == Kind::Missing => tracing::debug!(key, "the kernel has no such sysctl (yet)"),
            Err(error) => tracing::warn!(error = with_causes(&error), "a sysctl of the namespace stays as it is"),
        }
    }
}
