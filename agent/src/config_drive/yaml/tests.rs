use proptest::prelude::*;

use super::*;

/// All of it.
fn parse(text: &str) -> Result<Value, YamlError> {
    super::parse(text, |_| true)
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn map(entries: &[(&str, Value)]) -> Value {
    Value::Map(entries.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect())
}

#[test]
fn mappings_lists_and_texts() {
    let yaml = "# c\na: b # c\nlist:\n- x y\n-   k: v\n    l: 'it''s'\n-\n  m: \"a\\n#b\"\n- - deep\n\ne:\nn: ~\nin:\n  d: u#r:l\n";
    let expected = map(&[
        ("a", text("b")),
        (
            "list",
            Value::List(vec![
                text("x y"),
                map(&[("k", text("v")), ("l", text("it's"))]),
                map(&[("m", text("a\n#b"))]),
                Value::List(vec![text("deep")]),
            ]),
        ),
        ("e", Value::Empty),
        ("n", Value::Empty),
        ("in", map(&[("d", text("u#r:l"))])),
    ]);
    assert_eq!(parse(yaml), Ok(expected.clone()));
    assert_eq!(parse(&yaml.replace('\n', "\r\n")), Ok(expected));
    assert_eq!(parse(""), Ok(Value::Empty));
    assert_eq!(parse("# nothing\n\n"), Ok(Value::Empty));
}

/// Each is what cloud-init's parser reads.
#[test]
fn literal_blocks_keep_what_is_in_them() {
    for (yaml, expected) in [
        ("k: |\n  a\n   b\n\n  c\n\n\nl: x", "a\n b\n\nc\n"),
        ("k: |-\n  a\n\nl: x", "a"),
        ("k: |+\n  a\n\nl: x", "a\n\n"),
        ("k: |1\n   a\n  b\nl: x", "  a\n b\n"),
        ("k: |\n\n  # no comment\n  -----BEGIN: x\n\tl: x", ""),
        ("k: |\n\n  # no comment\n  -----BEGIN: x\n# comment\nl: x", "\n# no comment\n-----BEGIN: x\n"),
        ("k: |  # comment\n  \n  \nl: x", ""),
        ("k: |\nl: x", ""),
        ("k: |\n  a\n", "a\n"),
        ("k: |\n  a\n    \nl: x", "a\n  \n"),
    ] {
        match parse(yaml) {
            Ok(Value::Map(entries)) => assert_eq!(entries[0], ("k".to_owned(), text(expected)), "{yaml:?}"),
            other => assert!(expected.is_empty() && yaml.contains('\t'), "{yaml:?}: {other:?}"),
        }
    }
}

#[test]
fn what_is_not_taken_is_named_with_its_line() {
    for (yaml, line, problem) in [
        ("a: 1\nb: [x]", 2, "brackets"),
        ("a: {b: c}", 1, "brackets"),
        ("a: &x b", 1, "anchors"),
        ("a: *x", 1, "anchors"),
        ("a: !!binary x", 1, "tags"),
        ("a: >\n  x", 1, "folded"),
        ("a: x\n  y", 2, "several lines"),
        ("a: x: y", 1, "quotes"),
        ("a: b\na: c", 2, "there already"),
        ("a: 'x", 1, "not closed"),
        ("a: 'x' y", 1, "closing quote"),
        ("a: \"\\x41\"", 1, "escape"),
        ("just text", 1, "`key:`"),
        ("---\na: b", 1, "`key:`"),
        ("a:\n\tb: c", 2, "tab"),
        ("a: |x\n  b", 1, "after `|`"),
        ("a: | x\n  b", 1, "next line"),
        ("a: |\n     \n  b", 2, "blank line"),
        ("  a: b\nc: d", 2, "less"),
        ("a: b\u{7}", 1, "control"),
        ("a: b\u{2028}c", 1, "control"),
        ("- a\nb: c", 2, "less"),
        ("k: |\n  a", 2, "cut short"),
        ("k: |\n  a\n ", 3, "cut short"),
        ("k: |", 1, "cut short"),
    ] {
        let error = parse(yaml).unwrap_err();
        assert!(error.line == line && error.problem.contains(problem), "{yaml:?}: {error}");
    }
    assert!(parse(&(0..40).map(|n| format!("{}a:\n", " ".repeat(n))).collect::<Vec<_>>().concat()).is_err());
    assert!(parse(&"- ".repeat(4000)).is_err());
}

/// cloud-init knows more keys than are used here, and their values are not for this parser to judge.
#[test]
fn what_is_not_used_may_have_all_of_yaml() {
    let yaml = "ssh_authorized_keys: [a,\n  b\n]\nruncmd:\n# c\n- [ls, -l]\n-   x\n\nx: &y >\n  a: b\n\tc\nused: z";
    let unread = |lines: &[&str]| Value::Unread(lines.iter().map(|line| (*line).to_owned()).collect());
    let expected = map(&[
        ("ssh_authorized_keys", unread(&["[a,", "b", "]"])),
        ("runcmd", unread(&["", "# c", "- [ls, -l]", "-   x", ""])),
        ("x", unread(&["&y >", "a: b"])),
        ("used", text("z")),
    ]);
    let used = |key: &str| key == "used";
    assert_eq!(super::parse(&yaml.replace("\n\tc", ""), used), Ok(expected));
    assert!(super::parse(yaml, used).unwrap_err().problem.contains("tab"), "no part of a block");
    assert!(super::parse("a: [b]\nused: [c]", used).unwrap_err().problem.contains("brackets"));
    assert!(super::parse("runcmd:\n- x\ntimez", used).is_err(), "cut short");
}

/// As Octavia's `user_data_config_drive.template` writes a file: jinja2's `indent(8)` leaves empty lines empty.
fn as_octavia(contents: &str) -> String {
    let mut lines = contents.split('\n');
    let mut text = lines.next().unwrap_or_default().to_owned();
    for line in lines {
        text.push('\n');
        if !line.is_empty() {
            text.push_str("        ");
            text.push_str(line);
        }
    }
    format!("write_files:\n-   path: /x\n    content: |\n        {text}\nruncmd:\n-   x")
}

proptest! {
    #[test]
    fn anything_is_read_or_refused(text in "[-a:|>'\"#\\[ \n\t~+1\\\\]{0,60}") {
        let _ = parse(&text);
    }

    /// A file whose first line begins with a space is beyond the template itself.
    #[test]
    fn what_octavia_writes_is_read_back(first in "[!-~][ -~]{0,20}", rest in proptest::collection::vec("[ -~]{0,20}", 0..8)) {
        let contents = format!("{first}\n{}", rest.iter().map(|line| format!("{}\n", line.trim_end())).collect::<Vec<_>>().concat());
        let expected = format!("{}\n", contents.trim_end_matches('\n'));
        let Ok(Value::Map(top)) = parse(&as_octavia(&contents)) else { return Err(TestCaseError::fail("not read")) };
        let file = map(&[("path", text("/x")), ("content", text(&expected))]);
        prop_assert_eq!(&top[0].1, &Value::List(vec![file]));
        prop_assert_eq!(&top[1].1, &Value::List(vec![text("x")]));
    }
}
