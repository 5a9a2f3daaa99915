//! Whether a log format looks at the connection, and at nothing else.
//!
//! haproxy opens files and runs Lua for expressions while it reads them, as root, and a `]` ends an expression only
//! outside parentheses. So there is a list of what an expression may be made of, and what is between parentheses is plain.

/// What may be looked at.
const FETCHES: &[&str] = &[
    "base",
    "be_name",
    "capture.req.hdr",
    "capture.req.method",
    "capture.req.uri",
    "capture.req.ver",
    "capture.res.hdr",
    "capture.res.ver",
    "date",
    "date_us",
    "dst",
    "dst_is_local",
    "dst_port",
    "fc_http_major",
    "fc_rcvd_proxy",
    "fc_rtt",
    "fc_rttvar",
    "fe_name",
    "hdr",
    "method",
    "path",
    "pathq",
    "query",
    "rand",
    "req.cook",
    "req.fhdr",
    "req.hdr",
    "req.ver",
    "res.cook",
    "res.fhdr",
    "res.hdr",
    "res.ver",
    "src",
    "src_is_local",
    "src_port",
    "ssl_bc",
    "ssl_bc_alpn",
    "ssl_bc_cipher",
    "ssl_bc_protocol",
    "ssl_c_ca_err",
    "ssl_c_ca_err_depth",
    "ssl_c_err",
    "ssl_c_i_dn",
    "ssl_c_key_alg",
    "ssl_c_notafter",
    "ssl_c_notbefore",
    "ssl_c_s_dn",
    "ssl_c_serial",
    "ssl_c_sha1",
    "ssl_c_sig_alg",
    "ssl_c_used",
    "ssl_c_verify",
    "ssl_c_version",
    "ssl_f_i_dn",
    "ssl_f_notafter",
    "ssl_f_notbefore",
    "ssl_f_s_dn",
    "ssl_f_serial",
    "ssl_f_sha1",
    "ssl_fc",
    "ssl_fc_alg_keysize",
    "ssl_fc_alpn",
    "ssl_fc_cipher",
    "ssl_fc_has_crt",
    "ssl_fc_has_sni",
    "ssl_fc_is_resumed",
    "ssl_fc_protocol",
    "ssl_fc_sni",
    "ssl_fc_use_keysize",
    "status",
    "unique-id",
    "url",
    "url_param",
    "uuid",
];

/// What may become of it.
const CONVERTERS: &[&str] = &[
    "add",
    "base64",
    "bool",
    "bytes",
    "crc32",
    "crc32c",
    "digest",
    "div",
    "even",
    "field",
    "hex",
    "http_date",
    "ipmask",
    "json",
    "length",
    "lower",
    "ltime",
    "mod",
    "mul",
    "neg",
    "not",
    "odd",
    "sha1",
    "sha2",
    "sub",
    "upper",
    "url_dec",
    "utime",
    "word",
    "xxh32",
    "xxh64",
];

/// Whether all expressions in a log format are of what the lists have, and end where they seem to.
pub(super) fn is_format(word: &str) -> bool {
    let mut rest = word;
    while let Some((_, after)) = rest.split_once('%') {
        let beyond = match after.as_bytes().first() {
            // A percent sign.
            Some(b'%') => after.strip_prefix('%'),
            Some(b'[') => expression(&after[1..]),
            // Flags, then a name or an expression.
            Some(b'{') => flagged(&after[1..]),
            // haproxy 3.0 takes that for a name, with an expression to follow.
            Some(b'(') => None,
            _ => Some(after),
        };
        let Some(beyond) = beyond else { return false };
        rest = beyond;
    }
    true
}

/// What follows flags and what they are for.
fn flagged(text: &str) -> Option<&str> {
    let (flags, body) = text.split_once('}')?;
    if !flags.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | ',')) {
        return None;
    }
    match body.strip_prefix('[') {
        Some(inside) => expression(inside),
        None => body.starts_with(|c: char| c.is_ascii_alphanumeric()).then_some(body),
    }
}

/// What follows an expression and its `]`.
fn expression(text: &str) -> Option<&str> {
    let mut rest = known(FETCHES, text)?;
    while let Some(converter) = rest.strip_prefix(',') {
        rest = known(CONVERTERS, converter)?;
    }
    rest.strip_prefix(']')
}

/// What follows one of the names, and its arguments if it has any.
fn known<'t>(names: &[&str], text: &'t str) -> Option<&'t str> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')))?;
    let (name, rest) = text.split_at(end);
    if !names.contains(&name) {
        return None;
    }
    let Some(arguments) = rest.strip_prefix('(') else { return Some(rest) };
    let (arguments, rest) = arguments.split_once(')')?;
    // Without quotes, escapes and parentheses, so that no two readers disagree about where they end.
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ',' | ':' | ';' | '/' | '=' | ' ');
    arguments.chars().all(plain).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_that_looks_at_the_connection_passes() {
        for format in [
            "",
            "http://h/a%20b%%[x]%",
            "http://h/map(/f)%2Flua.x",
            "p l %f %ci %cp %t %{+Q}r %ST %B %U %[ssl_c_verify] %{+Q}[ssl_c_s_dn] %b %s %Tt %tsc",
            "%[ssl_c_s_dn(CN),lower]%{+Q,+X}[req.hdr(X-Id,1),field(2,:),bytes(0,8),hex]x]",
            "%[date(-3600),http_date]%%%[src]",
        ] {
            assert!(is_format(format), "{format}");
        }
    }

    #[test]
    fn an_expression_of_anything_else_does_not_however_it_is_written() {
        for format in [
            "%[map(/f)]",
            "%[lua.x]",
            "%[env(HOME)]",
            "%[src,map(/f)]",
            "%[src,lua.x]",
            "%[src,set-var(txn.a)]",
            "%[str(a]),map(/f)]",
            "%[hdr(a]),map(/f)]",
            "%[hdr(a)]%[str(a]),map(/f)]",
            "%{+Q}[hdr(a]),map(/f)]",
            "%{[}[lua.x]",
            "%{%[lua.x]}x",
            "%{+Q}%[lua.x]",
            "%{+Q",
            "%{+Q}(x)[lua.x]",
            "%(x)[lua.x]",
            "%(x:str){+Q}[lua.x]",
            "%%%[lua.x]",
            "%[hdr(a(b)]",
            "%[hdr(a))]",
            "%[hdr(a]",
            "%[hdr('a]),map(/f)')]",
            "%[hdr(a\\),map(/f)]",
            "%[src,]",
            "%[src ,lua.x]",
            "%[src",
            "%[]",
            "%[",
            "%[SRC]",
        ] {
            assert!(!is_format(format), "{format}");
        }
    }
}
