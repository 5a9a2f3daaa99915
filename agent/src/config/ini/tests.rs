use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Entry, Ini, parse, quote};
use crate::config::document::normal;

const ORACLE: &str = include_str!("../../../tests/golden/oslo.json");

#[test]
fn files_mean_what_oslo_config_says() {
    let oracle: Value = serde_json::from_str(ORACLE).unwrap();
    let cases = oracle["syntax"].as_array().unwrap();
    assert!(cases.len() > 50);
    for case in cases {
        let input = case["input"].as_str().unwrap();
        match parse(input) {
            Ok(ini) => assert_eq!(sections(&ini), case["sections"], "{input:?}"),
            Err(errors) => {
                let line = case.get("error").unwrap_or_else(|| panic!("{input:?}: {errors:?}"));
                assert!(line.is_null() || *line == json!(errors[0].line), "{input:?}: {errors:?}");
            }
        }
    }
}

fn sections(ini: &Ini) -> Value {
    let mut sections: BTreeMap<String, BTreeMap<&str, Vec<&str>>> = BTreeMap::new();
    for (name, _) in &ini.sections {
        sections.entry(normal(name).into_owned()).or_default();
    }
    for Entry { section, key, value, .. } in &ini.entries {
        sections.get_mut(&*normal(section)).unwrap().entry(key).or_default().push(value);
    }
    json!(sections)
}

#[test]
fn every_bad_line_is_reported_once_and_none_is_quoted() {
    let errors = parse("[a]\nsecret one\n  secret two\n=secret\n[\n[a] x\nk = v\n").unwrap_err();
    assert_eq!(errors.iter().map(|error| error.line).collect::<Vec<_>>(), [2, 4, 5, 6]);
    assert!(errors.iter().all(|error| !error.text.contains("secret")));
}

proptest! {
    #[test]
    fn what_is_quoted_reads_back(first in "[^\\r\\n]{0,12}", rest in prop::collection::vec("[a-z\"'=:#;\\[]{1,8}", 0..3)) {
        let value = rest.iter().fold(first, |value, line| value + "\n" + line);
        let text = format!("[s]\nkey = {}\n", quote(&value));
        let ini = parse(&text).unwrap();
        prop_assert_eq!(&ini.entries[0].value, &value, "{:?}", text);
        prop_assert_eq!(ini.entries.len(), 1);
    }

    #[test]
    fn no_text_panics(text in "(\\PC|[\\r\\n\\t \\[\\]=:#;\"'$\\\\{}]){0,200}") {
        let _ = parse(&text);
    }
}
