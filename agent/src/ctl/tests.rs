//! The command line against what the API says, without an agent: pages, man page, completion.

use std::path::Path;

use clap::CommandFactory as _;

use super::*;

fn parse(line: &str) -> Result<Arguments, clap::Error> {
    Arguments::try_parse_from(line.split(' '))
}

#[test]
fn the_command_line_takes_what_the_documents_say() {
    Arguments::command().debug_assert();
    let watch = |line| match parse(line).unwrap().command {
        Command::Status(Watch { watch }) => watch,
        other => panic!("{other:?}"),
    };
    assert_eq!(watch("amphoractl status"), None);
    assert_eq!(watch("amphoractl status --watch"), Some(2));
    assert_eq!(watch("amphoractl -o json status --watch 7"), Some(7));
    let given = parse("amphoractl status -o json --socket /s").unwrap();
    assert_eq!((given.output, given.socket), (Output::Json, PathBuf::from("/s")));
    for wrong in ["amphoractl", "amphoractl status --watch 0", "amphoractl why x", "amphoractl unregister --end-point"]
    {
        assert!(parse(wrong).unwrap_err().use_stderr(), "{wrong}");
    }
}

#[test]
fn the_man_page_that_is_checked_in_is_the_command_lines() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/amphoractl.8");
    let page = man::page(&Arguments::command());
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let checked_in = std::fs::read_to_string(&path).unwrap();
    assert!(checked_in == page, "docs/amphoractl.8 is old; run the tests with UPDATE_GENERATED=1");
}

#[test]
fn values_go_into_a_url_as_they_are() {
    assert_eq!(encoded("tor-a_1.x~"), "tor-a_1.x~");
    assert_eq!(encoded("a/b?c=ü"), "a%2Fb%3Fc%3D%C3%BC");
    assert_eq!(query(&[("a", None), ("b", Some("1".into())), ("c", Some("2&".into()))]), "?b=1&c=2%26");
    assert_eq!(query(&[("a", None)]), "");
}

#[test]
fn a_page_says_what_is_degraded_and_the_fix() {
    let said = json!({
        "amphora_id": "a-1", "operating_status": "DEGRADED", "speaker": null, "peers": [], "vips": [],
        "problems": [{"problem": "it is broken", "fix": "mend it"}], "warnings": ["mind the gap"],
        "heartbeats": {"silent": "no key"},
    });
    let page = show::status(&said);
    assert!(page.degraded);
    for line in [
        "DEGRADED     it is broken\n",
        "  fix        mend it\n",
        "warning      mind the gap\n",
        "heartbeats   none: no key\n",
    ] {
        assert!(page.text.contains(line), "{}", page.text);
    }
    assert!(!show::status(&json!({"operating_status": "ONLINE"})).degraded);
}

#[test]
fn why_names_the_gate_that_is_closed() {
    let gate = |name: &str, open: bool| json!({"gate": name, "open": open, "since": 1, "evidence": "seen"});
    let said = json!({
        "vip_ip": "203.0.113.7", "announced": false, "degraded": true, "reason": "listener: closed", "verdict": "withdraw",
        "gates": [gate("process", true), gate("listener", false)],
    });
    let page = show::why(&said);
    assert!(
        page.degraded && page.text.starts_with("203.0.113.7 is not announced: listener: closed\n"),
        "{}",
        page.text
    );
    assert!(page.text.contains("process   open    1970-01-01T00:00:01Z ("), "{}", page.text);
    assert!(page.text.contains("listener  CLOSED  "), "{}", page.text);
    // Nobody wants it announced: the agent says so, and nothing is made of the reason here.
    let said = json!({"vip_ip": "203.0.113.7", "announced": false, "degraded": false, "reason": "never announced"});
    assert!(!show::why(&said).degraded);
}

#[test]
fn a_route_that_is_drained_says_how_far_it_is_and_is_not_degraded() {
    let drain = json!({"stage": "withdrawn", "since": "S", "deadline": "D", "connections": 3, "max_connections": 0, "timeout_s": 60});
    let route = json!({"amphora_id": "a", "vip_ip": "203.0.113.7", "operating_status": "OFFLINE", "degraded": false, "drain": drain});
    let page = show::routes(&json!([route]));
    assert!(!page.degraded, "{}", page.text);
    assert!(
        page.text.contains("draining, withdrawn since S: 3 connections left, 0 may stay, until D"),
        "{}",
        page.text
    );
    assert!(show::routes(&json!([{"operating_status": "OFFLINE", "degraded": true}])).degraded);
}
