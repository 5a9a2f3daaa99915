//! VRRP with the real keepalived, and UDP listeners as far as they go without IPVS.

use crate::case::{Case, ask, upload};

const VRRP: &str = "global_defs {
    router_id amphora
}
vrrp_instance one {
    state BACKUP
    interface eth1
    virtual_router_id 1
    priority 100
    nopreempt
    advert_int 1
    virtual_ipaddress {
        {vrrp4}
    }
}
";

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

pub(crate) fn vrrp() -> Vec<Case> {
    let act = |name: &str, action: &str| ask(name, "PUT", &format!("/1.0/vrrp/{action}"));
    vec![
        act("VRRP: no such action", "dance"),
        act("VRRP: no such action, upper case", "DANCE"),
        act("VRRP: start before an upload", "start"),
        act("VRRP: reload before an upload", "reload"),
        upload("VRRP: what keepalived refuses", "/1.0/vrrp/upload", "vrrp_instance {{{"),
        upload("VRRP: upload", "/1.0/vrrp/upload", VRRP),
        upload("VRRP: upload again", "/1.0/vrrp/upload", VRRP),
        act("VRRP: start", "start"),
        act("VRRP: start again", "START"),
        act("VRRP: reload", "reload"),
        act("VRRP: stop", "stop"),
        act("VRRP: stop again", "Stop"),
    ]
}

pub(crate) fn udp() -> Vec<Case> {
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
