use super::*;

const JOURNAL: &str = r#"{"__REALTIME_TIMESTAMP":"900000","_SYSTEMD_UNIT":"a.service","_SYSTEMD_INVOCATION_ID":"old","MESSAGE":"before"}
{"__REALTIME_TIMESTAMP":"1000000","_SYSTEMD_UNIT":"init.scope","INVOCATION_ID":"x","MESSAGE":"Starting a."}
not json
{"__REALTIME_TIMESTAMP":"1000001","_SYSTEMD_UNIT":"a.service","_SYSTEMD_INVOCATION_ID":"x","MESSAGE":"no licence"}
{"__REALTIME_TIMESTAMP":"1000002","_SYSTEMD_UNIT":"a.service","_SYSTEMD_INVOCATION_ID":"x","MESSAGE":[104,105,255]}
{"__REALTIME_TIMESTAMP":"1000003","_SYSTEMD_UNIT":"init.scope","INVOCATION_ID":"x","COMMAND":"ExecStart","EXIT_CODE":"exited","EXIT_STATUS":"3","MESSAGE":"Main process exited"}
{"__REALTIME_TIMESTAMP":"1000004","_SYSTEMD_UNIT":"init.scope","INVOCATION_ID":"x","UNIT_RESULT":"exit-code","MESSAGE":"Failed"}
{"__REALTIME_TIMESTAMP":"1000005","_SYSTEMD_UNIT":"a.service","_SYSTEMD_INVOCATION_ID":"y","MESSAGE":"the next run"}
"#;

fn verdict_of(journal: &str) -> Verdict {
    judge(journal, "a.service", UNIX_EPOCH + Duration::from_secs(1))
}

#[test]
fn the_words_are_those_of_the_run_that_failed() {
    let verdict = verdict_of(JOURNAL);
    assert_eq!(verdict.text, "no licence\nhi\u{fffd} (exit status: 3)");
    assert!(!verdict.check && !verdict.late);
    let check = verdict_of(&JOURNAL.replace("\"ExecStart\"", "\"ExecStartPre\""));
    assert!(check.check);
    let late = verdict_of(&JOURNAL.replace("exit-code", "timeout"));
    assert!(late.late);
    assert_eq!(verdict_of(""), Verdict::default());
}

#[test]
fn the_end_of_the_run_before_is_not_the_one_asked_for() {
    let line = |fields: &str| format!("{{\"__REALTIME_TIMESTAMP\":\"1000000\",{fields}}}\n");
    let over = line(r#""_SYSTEMD_UNIT":"init.scope","INVOCATION_ID":"old","UNIT_RESULT":"signal","MESSAGE":"Stopped""#);
    let nobodys = line(r#""_SYSTEMD_UNIT":"a.service","MESSAGE":"whose?""#);
    let verdict = verdict_of(&JOURNAL.replacen("not json\n", &(over.clone() + &nobodys), 1));
    assert_eq!(verdict.text, "whose?\nno licence\nhi\u{fffd} (exit status: 3)");
    // At a reload there is no other.
    let reload = JOURNAL.replace("\"x\"", "\"old\"");
    assert_eq!(verdict_of(&reload).text, "no licence\nhi\u{fffd} (exit status: 3)");
}

#[test]
fn long_words_are_cut_at_a_letter() {
    let long = JOURNAL.replace("no licence", &"\u{fc}".repeat(5000));
    assert!(verdict_of(&long).text.len() < TAIL + 40);
}

#[test]
fn a_unit_without_properties_is_inactive() {
    assert_eq!(status(&HashMap::new()), Status::Inactive);
    assert!(at(0) <= Instant::now());
    assert!(at(u64::MAX) <= Instant::now());
}
