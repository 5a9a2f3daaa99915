//! The alert rules on made-up series, and the files by themselves.

use std::process::Command;

use crate::prometheus::file;

fn promtool(arguments: &[&str]) -> String {
    let output = Command::new("promtool").args(arguments).current_dir(file("")).output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "promtool {arguments:?}: {text}");
    text
}

#[test]
fn the_rules_are_sound_and_fire_when_they_should() {
    let checked = promtool(&["check", "rules", "alerts.yml"]);
    print!("{checked}{}", promtool(&["test", "rules", "alerts.test.yml"]));
    let (rules, tests) = (crate::prometheus::read("alerts.yml"), crate::prometheus::read("alerts.test.yml"));
    for name in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        let tested = tests.matches(&format!("alertname: {name}\n")).count()
            + tests.matches(&format!("alertname=\"{name}\", alertstate")).count();
        assert!(tested > 1, "{name} has no test of when it fires and when it does not");
        let documented = std::fs::read_to_string(file("../docs/metrics.md")).unwrap();
        assert!(documented.contains(&format!("`{name}`")), "{name} is not in docs/metrics.md");
    }
}
