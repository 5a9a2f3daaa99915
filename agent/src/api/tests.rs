//! The document against the router, and what both say about unknown URLs.

use std::path::Path;

use super::*;

fn document() -> serde_json::Value {
    serde_json::from_str(&openapi()).unwrap()
}

#[test]
fn the_document_that_is_checked_in_is_the_routers() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::write(&path, openapi()).unwrap();
    }
    let checked_in = std::fs::read_to_string(&path).unwrap();
    assert!(checked_in == openapi(), "docs/openapi.json is old; run the tests with UPDATE_GENERATED=1");
}

#[test]
fn every_call_says_what_it_answers_with_statuses_the_controller_knows() {
    let document = document();
    let known = ["200", "202", "400", "401", "403", "404", "405", "409", "500", "503"];
    let mut calls = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, call) in methods.as_object().unwrap() {
            calls += 1;
            assert!(call["operationId"].is_string() && call["summary"].is_string(), "{method} {path}");
            for status in call["responses"].as_object().unwrap().keys() {
                assert!(known.contains(&status.as_str()), "{method} {path}: {status}");
            }
        }
    }
    assert!(calls > 19, "{calls}");
}

#[test]
fn the_bodies_of_our_own_calls_take_no_unknown_keys_and_the_stock_ones_do() {
    let document = document();
    let strict = |name: &str| document["components"]["schemas"][name]["additionalProperties"] == false;
    assert!(strict("Register") && strict("RegisterVip"));
    assert!(!strict("PlugVip"));
}
