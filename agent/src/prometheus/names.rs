//! Which of haproxy's metrics a tenant sees, and by which names. Octavia's names are an interface (dashboards use them), so
//! the table is that of its `octavia/cmd/prometheus_proxy.py`.

/// A kind of thing haproxy counts for.
#[derive(Debug)]
pub(super) struct Class {
    /// What haproxy's names begin with.
    pub(super) prefix: &'static str,
    /// What Octavia's begin with instead.
    octavia: &'static str,
    /// What the labels are called, and what by Octavia.
    pub(super) labels: &'static [(&'static str, &'static str)],
    /// The rest of the names that are shown, sorted.
    names: &'static [&'static str],
}

/// By what haproxy's name of a metric is replaced, if it is shown at all.
pub(super) fn of(name: &str) -> Option<(String, &'static Class)> {
    let class = CLASSES.iter().find(|class| name.starts_with(class.prefix))?;
    let rest = &name[class.prefix.len()..];
    class.names.binary_search(&rest).ok()?;
    let renamed = RENAMED.iter().find(|(haproxy, _)| *haproxy == name).map(|(_, octavia)| (*octavia).to_owned());
    Some((renamed.unwrap_or_else(|| format!("{}{rest}", class.octavia)), class))
}

/// Octavia's words about a metric, where haproxy's are not fit.
pub(super) fn help(octavia: &str) -> Option<&'static str> {
    HELP.iter().find(|(name, _)| *name == octavia).map(|(_, help)| *help)
}

const CLASSES: [Class; 4] = [
    Class { prefix: "haproxy_process_", octavia: "octavia_loadbalancer_", labels: &[], names: PROCESS },
    Class {
        prefix: "haproxy_frontend_",
        octavia: "octavia_listener_",
        labels: &[("proxy=", "listener=")],
        names: FRONTEND,
    },
    Class { prefix: "haproxy_backend_", octavia: "octavia_pool_", labels: &[("proxy=", "pool=")], names: BACKEND },
    Class {
        prefix: "haproxy_server_",
        octavia: "octavia_member_",
        labels: &[("proxy=", "pool="), ("server=", "member=")],
        names: SERVER,
    },
];

/// Whole names that do not follow from the class.
const RENAMED: &[(&str, &str)] = &[
    ("haproxy_process_pool_allocated_bytes", "octavia_memory_pool_allocated_bytes"),
    ("haproxy_process_pool_used_bytes", "octavia_memory_pool_used_bytes"),
    ("haproxy_process_pool_failures_total", "octavia_memory_pool_failures_total"),
    ("haproxy_backend_server_aborts_total", "octavia_pool_member_aborts_total"),
    ("haproxy_backend_active_servers", "octavia_pool_active_members"),
    ("haproxy_backend_backup_servers", "octavia_pool_backup_members"),
];

const HELP: &[(&str, &str)] = &[
    ("octavia_memory_pool_allocated_bytes", "Total amount of memory allocated in the memory pools (in bytes)."),
    ("octavia_memory_pool_used_bytes", "Total amount of memory used in the memory pools (in bytes)."),
    ("octavia_memory_pool_failures_total", "Total number of failed memory pool allocations."),
    ("octavia_loadbalancer_current_ssl_connections", "Number of active SSL connections."),
    ("octavia_listener_status", "Current status of the listener."),
    ("octavia_listener_denied_connections_total", "Total number of requests denied by connection rules."),
    ("octavia_listener_denied_sessions_total", "Total number of requests denied by session rules."),
    ("octavia_listener_failed_header_rewriting_total", "Total number of failed header rewriting rules."),
    ("octavia_pool_status", "Current status of the pool."),
    ("octavia_pool_last_session_seconds", "Number of seconds since last session assigned to a member."),
    ("octavia_pool_max_response_time_seconds", "Maximum observed time spent waiting for a member response."),
    ("octavia_pool_member_aborts_total", "Total number of data transfers aborted by the server."),
    ("octavia_pool_active_members", "Current number of active members."),
    ("octavia_pool_backup_members", "Current number of backup members."),
    ("octavia_pool_downtime_seconds_total", "Total downtime (in seconds) for the pool."),
    (
        "octavia_pool_loadbalanced_total",
        "Total number of times a pool was selected, either for new sessions, or when redispatching.",
    ),
    ("octavia_member_status", "Current status of the member."),
    ("octavia_member_last_session_seconds", "Number of seconds since last session assigned to the member."),
    ("octavia_member_queue_limit", "Configured maxqueue for the member (0 meaning no limit)."),
    ("octavia_member_max_response_time_seconds", "Maximum observed time spent waiting for a member response."),
    ("octavia_member_weight", "Member weight."),
    (
        "octavia_member_check_failures_total",
        "Total number of failed check (Only counts checks failed when the member is up).",
    ),
    ("octavia_member_downtime_seconds_total", "Total downtime (in seconds) for the member."),
    (
        "octavia_member_current_throttle",
        "Current throttle percentage for the member, when slowstart is active, or no value if not in slowstart.",
    ),
    (
        "octavia_member_loadbalanced_total",
        "Total number of times a member was selected, either for new sessions, or when redispatching.",
    ),
];

const PROCESS: &[&str] = &[
    "connections_total",
    "current_backend_ssl_key_rate",
    "current_connection_rate",
    "current_connections",
    "current_frontend_ssl_key_rate",
    "current_session_rate",
    "current_ssl_connections",
    "current_ssl_rate",
    "dropped_logs_total",
    "frontend_ssl_reuse",
    "http_comp_bytes_in_total",
    "http_comp_bytes_out_total",
    "limit_connection_rate",
    "limit_http_comp",
    "limit_session_rate",
    "limit_ssl_rate",
    "listeners",
    "max_backend_ssl_key_rate",
    "max_connection_rate",
    "max_connections",
    "max_frontend_ssl_key_rate",
    "max_session_rate",
    "max_ssl_connections",
    "max_ssl_rate",
    "pool_allocated_bytes",
    "pool_failures_total",
    "pool_used_bytes",
    "requests_total",
    "ssl_cache_lookups_total",
    "ssl_cache_misses_total",
    "ssl_connections_total",
];

const FRONTEND: &[&str] = &[
    "bytes_in_total",
    "bytes_out_total",
    "connections_rate_max",
    "connections_total",
    "current_sessions",
    "denied_connections_total",
    "denied_sessions_total",
    "failed_header_rewriting_total",
    "http_cache_hits_total",
    "http_cache_lookups_total",
    "http_comp_bytes_bypassed_total",
    "http_comp_bytes_in_total",
    "http_comp_bytes_out_total",
    "http_comp_responses_total",
    "http_requests_rate_max",
    "http_requests_total",
    "http_responses_total",
    "intercepted_requests_total",
    "limit_session_rate",
    "limit_sessions",
    "max_session_rate",
    "max_sessions",
    "request_errors_total",
    "requests_denied_total",
    "responses_denied_total",
    "sessions_total",
    "status",
];

const BACKEND: &[&str] = &[
    "active_servers",
    "backup_servers",
    "bytes_in_total",
    "bytes_out_total",
    "check_last_change_seconds",
    "check_up_down_total",
    "client_aborts_total",
    "connect_time_average_seconds",
    "connection_attempts_total",
    "connection_errors_total",
    "connection_reuses_total",
    "current_queue",
    "current_sessions",
    "downtime_seconds_total",
    "failed_header_rewriting_total",
    "http_cache_hits_total",
    "http_cache_lookups_total",
    "http_comp_bytes_bypassed_total",
    "http_comp_bytes_in_total",
    "http_comp_bytes_out_total",
    "http_comp_responses_total",
    "http_requests_total",
    "http_responses_total",
    "last_session_seconds",
    "limit_sessions",
    "loadbalanced_total",
    "max_connect_time_seconds",
    "max_queue",
    "max_queue_time_seconds",
    "max_response_time_seconds",
    "max_session_rate",
    "max_sessions",
    "max_total_time_seconds",
    "queue_time_average_seconds",
    "redispatch_warnings_total",
    "requests_denied_total",
    "response_errors_total",
    "response_time_average_seconds",
    "responses_denied_total",
    "retry_warnings_total",
    "server_aborts_total",
    "sessions_total",
    "status",
    "total_time_average_seconds",
];

const SERVER: &[&str] = &[
    "bytes_in_total",
    "bytes_out_total",
    "check_failures_total",
    "check_last_change_seconds",
    "check_up_down_total",
    "client_aborts_total",
    "connect_time_average_seconds",
    "connection_attempts_total",
    "connection_errors_total",
    "connection_reuses_total",
    "current_queue",
    "current_sessions",
    "current_throttle",
    "downtime_seconds_total",
    "failed_header_rewriting_total",
    "http_responses_total",
    "idle_connections_current",
    "idle_connections_limit",
    "last_session_seconds",
    "limit_sessions",
    "loadbalanced_total",
    "max_connect_time_seconds",
    "max_queue",
    "max_queue_time_seconds",
    "max_response_time_seconds",
    "max_session_rate",
    "max_sessions",
    "max_total_time_seconds",
    "queue_limit",
    "queue_time_average_seconds",
    "redispatch_warnings_total",
    "response_errors_total",
    "response_time_average_seconds",
    "responses_denied_total",
    "retry_warnings_total",
    "server_aborts_total",
    "sessions_total",
    "status",
    "total_time_average_seconds",
    "weight",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_their_words_belong_to_them() {
        for class in &CLASSES {
            assert!(class.names.is_sorted() && !class.names.is_empty());
        }
        let shown = |name: &str| of(name).map(|(name, _)| name);
        assert_eq!(shown("haproxy_frontend_status").unwrap(), "octavia_listener_status");
        assert_eq!(shown("haproxy_process_pool_used_bytes").unwrap(), "octavia_memory_pool_used_bytes");
        assert_eq!(shown("haproxy_process_nbthread"), None);
        assert_eq!(shown("haproxy_server_"), None);
        let all = || CLASSES.iter().flat_map(|c| c.names.iter().map(|n| shown(&format!("{}{n}", c.prefix)).unwrap()));
        assert!(HELP.iter().all(|(name, _)| all().any(|octavia| octavia == *name)));
        assert_eq!(RENAMED.iter().filter(|(haproxy, _)| of(haproxy).is_none()).count(), 0);
    }
}
