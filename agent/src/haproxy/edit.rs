//! What is changed in a haproxy.cfg before haproxy sees it, as Octavia's agent changes it.

/// Cuts every `group NAME` to the end of its line, wherever in the line it is: the amphora knows its group itself
/// ([`super::service::user_group`]), and a controller from before that named one, which haproxy would take for a
/// second. As upstream's `re.sub(r"\s+group\s.+", "", text)` to the letter.
pub(super) fn without_group(text: &str) -> String {
    const WORD: &str = "group";
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    let mut from = 0;
    while let Some(found) = rest[from..].find(WORD).map(|at| from + at) {
        from = found + WORD.len();
        let before = rest[..found].trim_end_matches(is_space);
        let mut after = rest[from..].chars();
        let spaced = after.next().is_some_and(is_space) && before.len() < found;
        let line = after.as_str();
        let end = line.find('\n').unwrap_or(line.len());
        if spaced && end > 0 {
            kept.push_str(before);
            (rest, from) = (&line[end..], 0);
        }
    }
    kept + rest
}

/// Leaves out the lines with external checks, which haproxy before 1.6 does not know.
pub(super) fn without_external_checks(text: &str) -> String {
    text.split_inclusive('\n').filter(|line| !line.contains("external-check")).collect()
}

/// Python's `\s`: what Unicode calls white space, and four separators more.
fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\x1c'..='\x1f')
}

/// `MAJOR.MINOR` in what `haproxy -v` prints: `HAProxy version 2.6.12-1+deb12u2 2024/12/01 - ...`.
pub(super) fn version(text: &str) -> Option<(u16, u16)> {
    let (_, number) = text.split_once("version ")?;
    let (major, rest) = number.split_once('.')?;
    let minor = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each result is what Python 3.11's `re` makes of it.
    #[test]
    fn a_group_is_cut_as_pythons_expression_cuts_it() {
        for (text, expected) in [
            ("", ""),
            ("global\n    user nobody\n    group nogroup\n    daemon\n", "global\n    user nobody\n    daemon\n"),
            ("    user nobody group nogroup # both\nx", "    user nobody\nx"),
            ("group first\n", "group first\n"),
            ("\n\n \t group\tx", ""),
            ("a groups b\na regroup b\n", "a groups b\na regroup b\n"),
            (" group \n", " group \n"),
            (" group\nnext line\nkept", "\nkept"),
            (" group\n\nkept", " group\n\nkept"),
            (" group group x\ny", "\ny"),
            (" group  group\nz", "\nz"),
            ("a group b group c\n group d", "a"),
            ("a group x\r\nb", "a\nb"),
            ("a\u{a0}group\u{85}x\nb", "a\nb"),
            ("a\u{1c}group\u{1d}x\nb", "a\nb"),
            ("a group ü\u{2028}x\nb", "a\nb"),
        ] {
            assert_eq!(without_group(text), expected, "{text:?}");
        }
    }

    #[test]
    fn versions_are_read_from_what_haproxy_prints() {
        assert_eq!(version("HAProxy version 2.6.12-1+deb12u2 2024/12/01 - https://haproxy.org/\n"), Some((2, 6)));
        assert_eq!(version("HA-Proxy version 2.3-dev0 2019/11/25 - https://haproxy.org/\n"), Some((2, 3)));
        assert_eq!(version("THIS-App version 1.6.3 2099/10/12\nSome other data\n"), Some((1, 6)));
        assert_eq!((version(""), version("version x.y"), version("version 2")), (None, None, None));
    }

    #[test]
    fn external_checks_go_with_their_lines() {
        let text = "backend b\n    option external-check\n    external-check command /x.sh\n    fullconn 5\n";
        assert_eq!(without_external_checks(text), "backend b\n    fullconn 5\n");
    }
}
