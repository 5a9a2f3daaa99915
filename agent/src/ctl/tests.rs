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

#[test]
fn why_tells_what_nobody_is_sent_from_what_is_announced_and_the_last_resort_from_both() {
    let said = |heard: &[&str], verdict: &str, reason: &str, of_route: bool| {
        let route = json!({"advertised_to": heard, "reason": of_route.then_some(reason)});
        let attributes = json!({"communities": ["64512:1", "65535:0"], "med": null, "local_pref": 0, "prepend": 2});
        show::why(&json!({"vip_ip": "203.0.113.7", "announced": true, "degraded": heard.is_empty(), "reason": reason,
            "verdict": verdict, "route": route, "attributes": attributes}))
        .text
    };
    let nobody = said(&[], "announce", "not sent to tor-0: GET /1.0/distributor/peers shows its session", true);
    assert!(nobody.starts_with("203.0.113.7 is announced to nobody: not sent to tor-0: "), "{nobody}");
    let some = said(&["tor-1"], "announce", "not sent to tor-0", true);
    assert!(some.starts_with("203.0.113.7 is announced, but not sent to tor-0\n"), "{some}");
    let last = said(&["tor-0"], "worse", "members: 1 of 4 members are up (50 % needed)", false);
    assert!(last.starts_with("203.0.113.7 is announced to tor-0, as the last resort only: members: 1 of 4"), "{last}");
    assert!(last.contains("\nattributes   communities 64512:1,65535:0, local_pref 0, prepend 2\n"), "{last}");
}

#[test]
fn a_drain_that_a_peer_holds_up_names_it() {
    let drain = json!({"stage": "withdrawn", "since": "S", "deadline": "D", "connections": null, "max_connections": 0,
        "timeout_s": 60, "still_bound": "tor-a may keep its route for up to 9 s"});
    let page = show::routes(&json!([{"amphora_id": "a", "drain": drain}]));
    assert!(page.text.contains("withdrawn since S, and still bound: tor-a may keep its route"), "{}", page.text);
}

#[test]
fn an_unregistration_that_matched_nothing_says_so() {
    assert_eq!(show::done(&json!({"routes": 0})).text, "routes: 0 (nothing matched)\n");
    assert_eq!(show::done(&json!({"routes": 2})).text, "routes: 2\n");
}
