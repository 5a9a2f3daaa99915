use std::{path::PathBuf, sync::Arc};

use serde_json::{Value as Json, json};

use super::Document;
use crate::config::{
    ini,
    options::{self, Kind},
};

const ORACLE: &str = include_str!("../../../tests/golden/oslo.json");

fn document(text: &str) -> Document {
    let mut document = Document::default();
    document.add(&Arc::new(PathBuf::from("a.conf")), ini::parse(text).unwrap());
    document
}

/// What we make of an option, in oslo.config's types.
fn answer(document: &Document, section: &str, key: &str) -> Result<Json, String> {
    let option = options::find(section, key).unwrap();
    let Some(text) = document.text(section, key)? else { return Ok(Json::Null) };
    Ok(match option.kind {
        Kind::Text => json!(text),
        Kind::Integer => json!(options::integer(&text)?),
        Kind::Boolean => json!(options::boolean(&text)?),
        Kind::List => json!(options::list(&text)),
    })
}

#[test]
fn values_are_what_oslo_config_says() {
    let oracle: Json = serde_json::from_str(ORACLE).unwrap();
    let mut compared = 0;
    for case in oracle["values"].as_array().unwrap() {
        let input = case["input"].as_str().unwrap();
        let document = document(input);
        for (name, expected) in case["answers"].as_object().unwrap() {
            let (section, key) = name.split_once('.').unwrap();
            let ours = answer(&document, section, key);
            let port = |n: &Json| n.as_i64().is_none_or(|n| (0..=65_535).contains(&n)); // PortOpt's range is ours elsewhere
            let ours = ours.ok().filter(|value| key != "bind_port" || port(value));
            assert_eq!(ours.as_ref(), expected.get("value"), "{input:?}: {name}");
            compared += 1;
        }
    }
    assert!(compared > 60, "{compared}");
}

#[test]
fn a_reference_may_name_any_option_that_is_set() {
    let document = document("[DEFAULT]\nroot = /srv\n[amphora_agent]\namphora_id = $root/x\n");
    assert_eq!(document.text("amphora_agent", "amphora_id").unwrap().unwrap(), "/srv/x");
}

#[test]
fn references_cost_no_more_than_their_bound() {
    let lines: Vec<_> = (1..64).map(|n| format!("a{n} = $a{m}$a{m}$a{m}$a{m}\n", m = n - 1)).collect();
    let text = format!("[DEFAULT]\na0 = \n{}", lines.concat());
    let error = document(&(text.clone() + "[amphora_agent]\namphora_id = $a63\n")).text("amphora_agent", "amphora_id");
    assert!(error.unwrap_err().contains("too many"));
    let long = format!("[DEFAULT]\na = {}\nb = $a$a$a\n", "x".repeat(30_000));
    assert!(document(&long).text("DEFAULT", "b").unwrap_err().contains("longer than"));
}
