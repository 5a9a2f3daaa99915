//! The agent names its own calls where it says what to do; here they become the commands that make them.

/// A call without its parameters, and the command.
const COMMANDS: [(&str, &str); 9] = [
    ("GET /1.0/distributor/peers", "amphoractl peers"),
    ("GET /1.0/distributor/amphorae", "amphoractl amphorae"),
    ("POST /1.0/distributor/amphorae", "amphoractl register"),
    ("POST /1.0/distributor/vips", "amphoractl register --end-point"),
    ("PUT /1.0/distributor/amphorae/{}/undrain", "amphoractl undrain {}"),
    ("PUT /1.0/distributor/amphorae/{}/drain", "amphoractl drain {}"),
    ("DELETE /1.0/distributor/amphorae/{}?vip_ip={}", "amphoractl unregister --amphora-id {} --vip-ip {}"),
    ("DELETE /1.0/distributor/amphorae/{}", "amphoractl unregister --amphora-id {}"),
    ("DELETE /1.0/distributor/vips/{}", "amphoractl unregister --end-point --vip-ip {}"),
];

/// A text with the calls that have a command replaced.
pub(super) fn commands(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = COMMANDS.iter().filter_map(|(call, _)| rest.find(prefix(call))).min() {
        let (before, call) = rest.split_at(at);
        out.push_str(before);
        let blank = |c: char| c.is_whitespace() || matches!(c, ';' | ',' | ')');
        let path = call.find(" /").map_or(0, |space| space + 1);
        let end = call[path..].find(blank).map_or(call.len(), |end| path + end);
        let (call, after) = call.split_at(end);
        let command = COMMANDS.iter().find_map(|(pattern, command)| filled(call, pattern, command));
        out.push_str(command.as_deref().unwrap_or(call));
        rest = after;
    }
    out + rest
}

/// What of a pattern comes before its first parameter.
fn prefix(pattern: &str) -> &str {
    pattern.split("{}").next().unwrap_or(pattern)
}

/// The command with the parameters that a call has where its pattern has `{}`; `None` where it is another call.
fn filled(call: &str, pattern: &str, command: &str) -> Option<String> {
    let mut parts = pattern.split("{}");
    let mut rest = call.strip_prefix(parts.next()?)?;
    let mut filled = command.to_owned();
    for part in parts {
        let end = if part.is_empty() { rest.len() } else { rest.find(part)? };
        let (value, after) = rest.split_at(end);
        if value.is_empty() || value.contains(['/', '?', '&']) {
            return None;
        }
        filled = filled.replacen("{}", value, 1);
        rest = &after[part.len()..];
    }
    rest.is_empty().then_some(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_become_commands_and_everything_else_stays() {
        for (said, shown) in [
            ("a; PUT /1.0/distributor/amphorae/a-1/undrain ends it", "a; amphoractl undrain a-1 ends it"),
            (
                "not sent to t: GET /1.0/distributor/peers shows its session",
                "not sent to t: amphoractl peers shows its session",
            ),
            (
                "DELETE /1.0/distributor/amphorae/a-1?vip_ip=2001:db8::7 first, or DELETE /1.0/distributor/vips/203.0.113.7",
                "amphoractl unregister --amphora-id a-1 --vip-ip 2001:db8::7 first, or \
                 amphoractl unregister --end-point --vip-ip 203.0.113.7",
            ),
            ("PUT /1.0/vrrp/stop; PUT /1.0/vrrp/start ends it", "PUT /1.0/vrrp/stop; PUT /1.0/vrrp/start ends it"),
            ("GET /1.0/distributor/amphorae/a/b/c", "GET /1.0/distributor/amphorae/a/b/c"),
            ("", ""),
        ] {
            assert_eq!(commands(said), shown);
        }
    }
}
