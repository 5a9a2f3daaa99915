//! What Octavia's templates write, directive by directive.
//!
//! Read from every version of `octavia/common/jinja/haproxy/` up to 19.0.0, so that an older controller passes as well.
//! A line of these tables is words: `a|b` is either, `<class>` is one of a class ([`super::pattern`]), with what is
//! around it, `[...]` may be left out, and `...` is one or more to the end of the line.

/// A directive, and the options that may follow it in any order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Directive {
    pub(super) pattern: &'static str,
    pub(super) options: &'static [&'static str],
}

const fn plain(pattern: &'static str) -> Directive {
    Directive { pattern, options: &[] }
}

/// What begins a section, and what it may hold.
pub(super) static SECTIONS: &[(&str, &[Directive])] = &[
    ("global", GLOBAL),
    ("defaults", DEFAULTS),
    ("peers <id>", PEERS),
    ("frontend <id>", FRONTEND),
    ("backend <id>", BACKEND),
];

/// What begins a section in haproxy and none of Octavia's.
pub(super) static OTHER_SECTIONS: &[&str] = &[
    "listen",
    "program",
    "userlist",
    "resolvers",
    "mailers",
    "namespace_list",
    "cache",
    "ring",
    "log-forward",
    "log-profile",
    "http-errors",
    "fcgi-app",
    "crt-store",
    "traces",
    "acme",
];

static GLOBAL: &[Directive] = &[
    plain("daemon"),
    plain("user nobody"),
    plain("log /run/rsyslog/octavia/log|/dev/log local<digit> [notice]"),
    plain("stats socket <socket> mode 0666 level user"),
    plain("server-state-file <state>"),
    plain("maxconn <number>"),
    plain("tune.ssl.cachesize <number>"),
    plain("nbthread <number>"),
    plain("cpu-map auto:1/1-<number> 1-<number>"),
    plain("external-check"),
    plain("insecure-fork-wanted"),
];

static DEFAULTS: &[Directive] = &[
    plain("log global"),
    plain("no log"),
    plain("retries 3"),
    plain("option redispatch|splice-request|splice-response|http-keep-alive|http-use-htx|httplog|tcplog"),
    plain("timeout connect|client|server <time>"),
];

static PEERS: &[Directive] = &[plain("peer <id> <peer>")];

static FRONTEND: &[Directive] = &[
    plain("maxconn <number>"),
    plain("redirect scheme https if !{ ssl_fc }"),
    plain("http-response set-header Strict-Transport-Security <hsts>"),
    Directive { pattern: "bind <vip>", options: BIND },
    plain("bind 127.0.0.1:9101"),
    plain("mode tcp|http"),
    plain("option httplog|tcplog|forwardfor"),
    plain("no log"),
    // A value that begins with `#` is a comment for haproxy, which then has nothing to match.
    plain(
        "acl <id> path|path_end|req.hdr(<token>)|req.cook(<token>)|ssl_c_s_dn(<token>) [-i] [-m reg|beg|end|sub|str] [<word>]",
    ),
    plain("acl <id> ssl_c_used"),
    plain("acl <id> ssl_c_verify eq <number>"),
    plain("http-request deny if <rule>..."),
    plain("http-request use-service prometheus-exporter if { path /metrics }"),
    plain("http-request reject"),
    // What Octavia escapes in a URL can begin a comment for haproxy, which then sees no condition.
    plain("redirect [code <number>] location|prefix <format> [if <rule>...]"),
    plain("use_backend <id> if <rule>..."),
    plain("default_backend <id>"),
    plain("timeout client|http-request <time>"),
    plain("tcp-request inspect-delay <time>"),
    plain("log-format <format>"),
];

static BIND: &[&str] = &[
    "ssl",
    "crt-list|crt|ca-file|crl-file <certificate>",
    "verify none|optional|required",
    "ciphers|ciphersuites <ciphers>",
    "no-sslv3|no-tlsv10|no-tlsv11|no-tlsv12|no-tlsv13",
    "alpn <alpn>",
];

static BACKEND: &[Directive] = &[
    plain("mode tcp|http"),
    plain("no log"),
    plain("http-reuse safe"),
    plain("balance roundrobin|leastconn|source|first"),
    plain("stick-table type ip|ipv6 size <size> [peers <id>]"),
    plain("stick-table type string len 64 size <size> [peers <id>]"),
    plain("stick on src"),
    plain("stick store-response res.cook(<token>)"),
    plain("stick match req.cook(<token>)"),
    plain("cookie SRV insert indirect nocache"),
    plain("load-server-state-from-file global"),
    plain("timeout check|connect|server <time>"),
    plain("option httpchk <word> <word> [<word>]"),
    plain("option ssl-hello-chk|external-check|forwardfor|allbackups"),
    plain("http-check send hdr Host <domain>"),
    plain("http-check expect rstatus <word>"),
    plain("external-check command /var/lib/octavia/ping-wrapper.sh"),
    plain("http-request set-header X-Forwarded-Port %[dst_port]"),
    plain("http-request set-header X-Forwarded-Proto http|https"),
    plain("http-request set-header X-SSL-Client-Verify %[ssl_c_verify]"),
    plain("http-request set-header X-SSL-Client-Has-Cert %[ssl_c_used]"),
    plain("http-request set-header X-SSL-Client-DN %{+Q}[ssl_c_s_dn]"),
    plain("http-request set-header X-SSL-Client-CN %{+Q}[ssl_c_s_dn(cn)]"),
    plain("http-request set-header X-SSL-Issuer %{+Q}[ssl_c_i_dn]"),
    plain("http-request set-header X-SSL-Client-SHA1 %{+Q}[ssl_c_sha1,hex]"),
    plain("http-request set-header X-SSL-Client-Not-Before %{+Q}[ssl_c_notbefore]"),
    plain("http-request set-header X-SSL-Client-Not-After %{+Q}[ssl_c_notafter]"),
    plain("fullconn <number>"),
    Directive { pattern: "server <id> <endpoint>", options: SERVER },
];

static SERVER: &[&str] = &[
    "weight <number>",
    "check",
    "check-ssl",
    "check-alpn <alpn>",
    "inter <number>s",
    "fall|rise <number>",
    "addr <address>",
    "port <number>",
    "cookie <id>",
    "send-proxy|send-proxy-v2|send-proxy-v2-ssl-cn",
    "backup",
    "disabled",
    "ssl",
    "crt|ca-file|crl-file <certificate>",
    "verify none|required",
    "sni ssl_fc_sni",
    "ciphers|ciphersuites <ciphers>",
    "no-sslv3|no-tlsv10|no-tlsv11|no-tlsv12|no-tlsv13",
    "alpn <alpn>",
];
