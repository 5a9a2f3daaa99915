//! VRRP, with the real keepalived.

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

pub(crate) fn cases() -> Vec<Case> {
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
