//! All metrics there are: names, labels, and what they say. `docs/metrics.md` has the table, made from this.

use super::text::{Kind, Metric};

macro_rules! metrics {
    ($($constant:ident: $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: Metric<{ <[&str]>::len(&[$($label),*]) }> =
                Metric { name: $name, kind: Kind::$kind, labels: [$($label),*], help: $help };
        )*

        /// Name, kind, labels and help of each, in the order of an exposition.
        pub const ALL: &[(&str, Kind, &[&str], &str)] = &[$(($name, Kind::$kind, &[$($label),*], $help)),*];
    };
}

metrics! {
    BUILD: Gauge "amphora_build_info" ["version", "commit", "rustc"]
        "Always 1; the labels say what was built, from which commit and with which compiler.";
    CONFIG_STALE: Gauge "amphora_config_stale" []
        "1 while something in the configuration files is not in effect: they are not usable, or wait for a restart.";
    CONFIG_RELOADED: Gauge "amphora_config_last_reload_success_timestamp_seconds" []
        "When a configuration was last taken, at the start or by a reload, in seconds since 1970.";

    SPEAKER_UP: Gauge "amphora_bgp_speaker_up" []
        "1 if gobgpd answered this scrape; absent without [bgp].";
    SPEAKER_INFO: Gauge "amphora_bgp_speaker_info" ["version"]
        "Always 1; the label has gobgpd's major and minor version; absent where it runs another program than the installed one.";
    SESSION_UP: Gauge "amphora_bgp_session_up" ["peer"]
        "1 while the session with this peer (its address) is Established; 0 also while gobgpd does not answer.";
    PEER_UPTIME: Gauge "amphora_bgp_peer_uptime_seconds" ["peer"]
        "For how long the session has been Established, in seconds; absent while it is not.";
    PREFIXES: Gauge "amphora_bgp_announced_prefixes" ["peer", "family"]
        "Prefixes the peer is sent, counted by gobgpd after its policies; absent while the session is down, and with more than 20,000 VIPs times peers, which take it long to count.";
    SESSION_TRANSITIONS: Counter "amphora_bgp_session_transitions_total" ["peer", "to"]
        "How often the session came up or went down since the agent's start; `to` is `up` or `down`.";

    VIP_DESIRED: Gauge "amphora_vip_desired" ["vip"]
        "1 if the VIP is meant to be announced: it is registered, or a load balancer that nobody stopped serves it, and it is not drained.";
    VIP_ANNOUNCED: Gauge "amphora_vip_announced" ["vip"]
        "1 if gobgpd was last read to announce the VIP. Which peers hear of it is up to their sessions.";
    LAST_RESORT: Gauge "amphora_vip_last_resort" ["vip"]
        "1 while the VIP is announced as the last choice of every router, for want of members, now or too often lately (`last_resort = worse`).";
    GATE_OK: Gauge "amphora_vip_gate_ok" ["vip", "gate"]
        "1 while this condition of the announcement holds (`announce = listener`); absent while it is not known.";
    GATE_TRANSITIONS: Counter "amphora_vip_gate_transitions_total" ["vip", "gate"]
        "How often the gate opened or closed since it was first known.";
    VIP_DRAINING: Gauge "amphora_vip_draining" ["vip"]
        "1 from the call that drains the VIP here to the one that ends it, whatever stage it is in.";
    DRAIN_STAGE: Gauge "amphora_vip_drain_stage" ["vip", "stage"]
        "1 for the stage a drain is in: `deprefer`, `withdrawn` or, once the VIP is unbound, `drained`; absent while there is none.";
    DRAIN_DEADLINE: Gauge "amphora_vip_drain_deadline_timestamp_seconds" ["vip"]
        "When a drain waits for connections no longer, in seconds since 1970; absent while there is none.";
    VIP_CONNECTIONS: Gauge "amphora_vip_connections" ["vip"]
        "Connections of clients that are left; counted while the VIP is being drained here, and absent otherwise.";

    HEARTBEATS_SENT: Counter "amphora_heartbeat_sent_total" ["target"]
        "Heartbeats that left for this health manager. Whether they arrive nobody tells.";
    HEARTBEAT_ERRORS: Counter "amphora_heartbeat_errors_total" ["target", "reason"]
        "Heartbeats that could not be sent: `refused`, `unreachable`, `forbidden`, `unresolved` or `other`.";
    HEARTBEAT_PAYLOAD: Gauge "amphora_heartbeat_payload_bytes" []
        "Size of the last heartbeat in bytes. Above 1400 they travel in fragments, 65507 is the end.";
    HEARTBEAT_LEFT_OUT: Gauge "amphora_heartbeat_members_left_out" []
        "Members the last heartbeat had no room for: the controller shows them as OFFLINE.";
    HEARTBEAT_SILENT: Gauge "amphora_heartbeat_silent" []
        "1 while none are sent on purpose: not configured, or keepalived is configured and dead.";

    REQUESTS: Counter "amphora_http_requests_total" ["method", "route", "code"]
        "Requests answered by the API; `route` is the template, `none` where there is none; `code` is `aborted` where the client left.";
    REQUEST_DURATION: Histogram "amphora_http_request_duration_seconds" ["route"]
        "From a request's head to its answer's, in seconds.";

    RELOADS: Counter "amphora_haproxy_reload_total" ["result"]
        "Calls for a reload of haproxy: `reloaded`, `started` (it did not run) or `failed`.";
    WORKERS: Gauge "amphora_haproxy_workers" ["lb_id"]
        "haproxy's worker processes. More than one for long: old ones wait for long connections after reloads.";

    CERT_NOT_AFTER: Gauge "amphora_cert_not_after_timestamp_seconds" ["which"]
        "When the certificate in use ends, in seconds since 1970: the API's (`server`), and of the CAs of its clients the one that ends first (`client_ca`).";

    CPU: Counter "process_cpu_seconds_total" []
        "User and system time of the agent, in seconds.";
    RESIDENT: Gauge "process_resident_memory_bytes" []
        "Resident memory of the agent, in bytes.";
    OPEN_DESCRIPTORS: Gauge "process_open_fds" []
        "File descriptors the agent has open.";
    MOST_DESCRIPTORS: Gauge "process_max_fds" []
        "File descriptors it may have open.";
    STARTED: Gauge "process_start_time_seconds" []
        "When the agent started, in seconds since 1970.";
}
