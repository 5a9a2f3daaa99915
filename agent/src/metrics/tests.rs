//! The list against the convention and the documentation.

use std::{collections::BTreeSet, fmt::Write as _, path::Path};

use super::{list::ALL, text::Kind};

const BEGIN: &str = "<!-- the table is made by the tests: UPDATE_GENERATED=1 -->\n";
const END: &str = "<!-- end of the table -->\n";

#[test]
fn the_table_in_the_documentation_is_the_list() {
    let mut table = "| metric | type | labels | |\n|---|---|---|---|\n".to_owned();
    for (name, kind, labels, help) in ALL {
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        writeln!(table, "| `{name}` | {} | {} | {help} |", kind.name(), labels.join(", ")).unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (held, after) = rest.split_once(END).unwrap();
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::write(&path, [before, BEGIN, &table, END, after].concat()).unwrap();
        return;
    }
    assert!(held == table, "docs/metrics.md is old; run the tests with UPDATE_GENERATED=1");
}

#[test]
fn names_follow_prometheus_conventions() {
    let names: BTreeSet<_> = ALL.iter().map(|(name, ..)| name).collect();
    assert_eq!(names.len(), ALL.len(), "each name once");
    for (name, kind, _, help) in ALL {
        assert!(name.starts_with("amphora_") || name.starts_with("process_"), "{name}");
        assert_eq!(*kind == Kind::Counter, name.ends_with("_total"), "{name}");
        assert!(help.ends_with('.') && !help.contains('|'), "{name}: {help}");
    }
}
