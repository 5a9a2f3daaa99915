//! UDP listeners, as far as they go without IPVS.

use crate::case::{Case, ask, upload};

const UDP: &str = "net_namespace amphora-haproxy

virtual_server_group ipv4-group {
    {vip4} 53
}

virtual_server group ipv4-group {
    lb_algo rr
    lb_kind NAT
    protocol UDP
    real_server {member4} 53 {
        weight 1
        MISC_CHECK {
            misc_path \"/var/lib/octavia/lvs/check/udp_check.sh {member4} 53\"
            misc_timeout 5
        }
    }
}
";

const LISTENER: &str = "/1.0/listeners/{amphora}/listener-9/udp_listener";

pub(crate) fn cases() -> Vec<Case> {
    let of = |name: &str, method: &str, id: &str| ask(name, method, &format!("/1.0/listeners/{id}/udp_listener"));
    vec![
        of("UDP listener, unknown", "GET", "listener-9"),
        of("UDP listener, name `..`", "GET", "%2e%2e"),
        upload("UDP listener", LISTENER, UDP),
        of("UDP listener's configuration", "GET", "listener-9"),
        ask("listeners, one of UDP", "GET", "/1.0/listeners"),
        ask("UDP listener: no such action", "PUT", "/1.0/loadbalancer/listener-9/dance"),
        ask("UDP listener: haproxy configuration of it", "GET", "/1.0/loadbalancer/listener-9/haproxy"),
        ask("UDP listener: delete", "DELETE", "/1.0/listeners/listener-9"),
        of("UDP listener, deleted", "GET", "listener-9"),
        ask("UDP listener: start of what was deleted", "PUT", "/1.0/loadbalancer/listener-9/start"),
    ]
}
