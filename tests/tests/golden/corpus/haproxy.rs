//! A load balancer's life, with the real haproxy: the VIP it binds was plugged before.

use crate::case::{Case, ask, request, upload};

/// As the controller renders it, but for peers and timeouts.
pub(crate) const CONFIGURATION: &str = "# Configuration for loadbalancer lb-1
global
    daemon
    user nobody
    log /run/rsyslog/octavia/log local0
    stats socket /var/lib/octavia/lb-1.sock mode 0666 level user
    server-state-file /var/lib/octavia/lb-1/servers-state
    maxconn 2000

defaults
    log global
    retries 3
    option redispatch
    timeout connect 5000
    timeout client 50000
    timeout server 50000

frontend listener-1
    maxconn 1000
    bind {vip4}:80
    mode http
    default_backend pool-1:listener-1

backend pool-1:listener-1
    mode http
    balance roundrobin
    load-server-state-from-file global
    fullconn 1000
    server member-1 {member4}:80 weight 1 check inter 5s fall 3 rise 3
";

const OF: &str = "/1.0/loadbalancer/{amphora}/lb-1/haproxy";

pub(crate) fn cases() -> Vec<Case> {
    let details: &[&str] = &["cpu", "memory", "disk", "load", "networks"];
    let act = |name: &str, action: &str| ask(name, "PUT", &format!("/1.0/loadbalancer/lb-1/{action}"));
    let with_group = CONFIGURATION.replace("    user nobody\n", "    user nobody\n    group nogroup\n");
    vec![
        act("start of an unknown load balancer", "start"),
        act("stop of an unknown load balancer", "stop"),
        act("reload of an unknown load balancer", "reload"),
        act("no such action on an unknown load balancer", "dance"),
        act("no such action, upper case", "DANCE"),
        act("no such action, any bytes", "%ff%00"),
        upload("haproxy: without the amphora's id", "/1.0/loadbalancer/lb-1/haproxy", CONFIGURATION),
        ask("delete of an unknown load balancer", "DELETE", "/1.0/listeners/lb-1"),
        ask("delete, name `..`", "DELETE", "/1.0/listeners/%2e%2e"),
        upload("haproxy: empty", OF, ""),
        upload("haproxy: a word it does not know", OF, CONFIGURATION.replace("balance", "unbalance")),
        ask("haproxy configuration after a refused one", "GET", "/1.0/loadbalancer/lb-1/haproxy"),
        upload("haproxy: no UTF-8", OF, [0xff, 0xfe, 0x00]),
        upload("haproxy: a letter cut by a hundred bytes", OF, format!("#{}\n{CONFIGURATION}", "ü".repeat(99))),
        ask("haproxy configuration with letters", "GET", "/1.0/loadbalancer/lb-1/haproxy"),
        upload("haproxy: for load balancer `..`", "/1.0/loadbalancer/{amphora}/%2e%2e/haproxy", CONFIGURATION),
        upload("haproxy: with a group", OF, &with_group),
        ask("haproxy configuration without its group", "GET", "/1.0/loadbalancer/lb-1/haproxy"),
        upload("haproxy", OF, CONFIGURATION),
        request("haproxy: as JSON", "PUT", OF, "Content-Type: application/json\r\n", CONFIGURATION),
        ask("haproxy configuration", "GET", "/1.0/loadbalancer/lb-1/haproxy"),
        ask("haproxy configuration, HEAD", "HEAD", "/1.0/loadbalancer/lb-1/haproxy"),
        ask("listeners, not started", "GET", "/1.0/listeners"),
        ask("details, not started", "GET", "/1.0/details").shapes(details),
        act("stop of what does not run", "stop"),
        act("reload of what does not run", "reload"),
        ask("listeners, started", "GET", "/1.0/listeners"),
        ask("details, started", "GET", "/1.0/details").shapes(details),
        act("start", "start"),
        act("start in odd case", "StArT"),
        act("reload", "reload"),
        act("reload in upper case", "RELOAD"),
        act("no such action on what runs", "restart"),
        act("stop", "stop"),
        act("stop again", "Stop"),
        act("start after a stop", "start"),
        ask("delete", "DELETE", "/1.0/listeners/lb-1"),
        ask("delete again", "DELETE", "/1.0/listeners/lb-1"),
        ask("haproxy configuration, deleted", "GET", "/1.0/loadbalancer/lb-1/haproxy"),
        ask("listeners, deleted", "GET", "/1.0/listeners"),
        act("start of what was deleted", "start"),
    ]
}
