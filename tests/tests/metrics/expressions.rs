//! Every expression of the alert rules and of the dashboard, asked of a Prometheus that scrapes a real amphora; and an
//! alert that fires.

use std::collections::BTreeSet;

use lab::{Family, TorKind, wait_for};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::prometheus::{Prometheus, read};
use crate::support::{PATIENCE, Site, act};
use crate::{configure_heartbeats, drain, text};

/// The selectors in an expression: a metric of ours, with its matchers.
fn selectors(expression: &str) -> BTreeSet<String> {
    let (mut found, mut rest) = (BTreeSet::new(), expression);
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    while let Some(start) = rest.find(is_name) {
        let name = &rest[start..];
        let end = name.find(|c| !is_name(c)).unwrap_or(name.len());
        let (word, after) = name.split_at(end);
        let matchers = after.starts_with('{').then(|| after.find('}').map_or(after, |end| &after[..=end]));
        let matchers = matchers.unwrap_or_default();
        if word == "up" || word.starts_with("amphora_") || word.starts_with("process_") {
            found.insert(format!("{word}{matchers}"));
        }
        // A quoted word is none of the expression's.
        let over = &after[matchers.len()..];
        rest = match after.strip_prefix('"') {
            Some(quoted) if matchers.is_empty() => quoted.split_once('"').map_or("", |(_, rest)| rest),
            _ => over,
        };
    }
    found
}

/// The expressions of the dashboard's panels, with its variables at what they would be.
fn panels() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&read("dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| {
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        targets.into_iter().map(|target| (panel["title"].as_str().unwrap().to_owned(), target))
    });
    let expression = |(title, target): (String, Value)| {
        assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
        let expr = target["expr"].as_str().unwrap();
        let expr = expr.replace("$job", "amphora").replace("$instance", ".*").replace("$__rate_interval", "20s");
        assert!(!expr.contains('$'), "{title}: {expr}");
        (title, expr)
    };
    targets.map(expression).collect()
}

/// A series with a number.
fn has_value(series: &Value) -> bool {
    series["value"][1].as_str().is_some_and(|value| value.parse::<f64>().is_ok_and(|value| !value.is_nan()))
}

#[test]
fn every_alert_and_panel_has_data_and_a_lost_session_fires_its_alert() {
    let (site, mut api) = Site::announced("metrics-prometheus", TorKind::Bird, "");
    let (_receiver, _) = configure_heartbeats(site.amphora(), &site.fabric.controller);
    let prometheus = Prometheus::start(&site, |rules| rules.replace("for: 1m\n", "for: 2s\n"));
    act(&mut api, "reload");
    drain(&site, &mut api, 60); // nobody comes: 5 s less preferred, then on through its stages

    let rules = prometheus.rules();
    let shipped = read("alerts.yml").matches("- alert:").count();
    assert_eq!(rules.len(), shipped);
    let mut expressions: Vec<(String, String)> = panels();
    assert!(expressions.len() > 20);
    for rule in &rules {
        let (name, query) = (rule["name"].as_str().unwrap(), rule["query"].as_str().unwrap());
        let of_rule = selectors(query);
        assert!(!of_rule.is_empty(), "{name}: {query}");
        expressions.extend(of_rule.into_iter().map(|selector| (name.to_owned(), selector)));
        for annotation in ["summary", "description", "runbook"] {
            assert!(
                rule["annotations"][annotation].as_str().is_some_and(|text| text.len() > 15),
                "{name}: {annotation}"
            );
        }
    }
    let (all, mut without) = (expressions.len(), expressions);
    // Not all at once: a drain goes through its stages.
    let ((), took) = wait_for("every expression has had data", PATIENCE, || {
        without.retain(|(_, expression)| match prometheus.query(expression) {
            Ok(series) => !series.iter().any(has_value),
            Err(error) => panic!("{error}"),
        });
        if without.is_empty() { Ok(()) } else { Err(format!("{without:#?}")) }
    })
    .unwrap();
    println!("{all} expressions of {shipped} alerts and the dashboard, all with data after {took:.1?}");
    let broken: Vec<_> = rules.iter().filter(|rule| rule["lastError"].is_string()).collect();
    assert!(broken.is_empty(), "{broken:?}");

    let firing = |name: &str| {
        let all = prometheus.alerts();
        all.into_iter().find(|alert| alert["labels"]["alertname"] == name && alert["state"] == "firing")
    };
    assert!(firing("AmphoraBgpSessionDown").is_none());
    for daemon in site.tor().daemons() {
        daemon.kill(Signal::SIGKILL).unwrap();
    }
    let fired = || firing("AmphoraBgpSessionDown").ok_or_else(|| format!("{:#?}", prometheus.alerts()));
    let (alert, took) = wait_for("the alert fires", PATIENCE, fired).unwrap();
    println!("fired after {took:.1?}: {}", alert["annotations"]["summary"]);
    assert_eq!(alert["labels"]["peer"], site.tor().peering_address(Family::V4).to_string());
    assert!(alert["labels"]["instance"].as_str().unwrap().starts_with(site.amphora().id()));
    assert_eq!(prometheus.query("amphora_bgp_session_transitions_total{to=\"down\"} == 1").unwrap().len(), 1);
    assert!(text(&mut api).contains("\namphora_vip_announced{"));
}

#[test]
fn selectors_are_found_in_any_expression() {
    let of = |expression: &str| selectors(expression).into_iter().collect::<Vec<_>>();
    let up = "sum by (job, instance) (increase(amphora_a_total{to=\"up\"}[5m])) == 0 or up == 1";
    assert_eq!(of(up), ["amphora_a_total{to=\"up\"}", "up"]);
    assert_eq!(
        of("amphora_b > 5 and time() - amphora_c{x=~\"[0-3]\\\\..*\"} < 7"),
        ["amphora_b", "amphora_c{x=~\"[0-3]\\\\..*\"}"]
    );
}
