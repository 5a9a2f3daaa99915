//! A configuration is checked by haproxy before it counts, and until then nothing changes.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{BASE, LB, Lab, act, answer, configuration, started};

#[test]
fn a_configuration_is_stored_as_haproxy_takes_it_and_a_refused_one_changes_nothing() {
    let (lab, mut api) = Lab::new("haproxy-upload");
    let file = format!("{BASE}/{LB}/haproxy.cfg");
    // As an older controller sends it: the group is for the amphora to know.
    let sent = configuration(LB, "first").replace("user nobody", "user nobody\n    group nogroup");
    let reply = lab.upload(&mut api, LB, sent.clone()).unwrap();
    assert_eq!((reply.status, reply.json()), (202, json!({ "message": "OK" })));
    let md5 = lab.node_run(&["sh", "-c", &format!("printf %s '{sent}' | md5sum | cut -c1-32")]);
    assert_eq!(reply.headers["etag"], md5.trim(), "of what was sent, not of what was made of it");
    let stored = configuration(LB, "first");
    assert_eq!(lab.read(&file).unwrap(), stored);
    assert_eq!(api.get(&format!("/1.0/loadbalancer/{LB}/haproxy")).unwrap().text(), stored);
    assert_eq!(lab.read(&format!("{BASE}/haproxy-default-user-group.conf")).unwrap(), "global\n    group nogroup\n");
    assert_eq!(lab.files(LB), ["haproxy.cfg"]);
    assert_eq!(lab.masters(), [] as [u32; 0], "an upload starts nothing");
    assert_eq!(answer(act(&mut api, LB, "start")), started(LB));

    let wrong = configuration(LB, "second").replace("mode http", "mode htttp");
    let (status, body) = answer(lab.upload(&mut api, LB, wrong.clone()));
    assert_eq!((status, &body["message"]), (400, &json!("Invalid request")));
    let details = body["details"].as_str().unwrap();
    assert!(details.contains("htttp") && details.contains("haproxy.cfg.new:14"), "haproxy's own words: {details}");
    assert_eq!(lab.read(&format!("{file}.new-failed")).unwrap(), wrong);
    let binary = [configuration(LB, "x").as_bytes(), b"# \xc3\x28\n"].concat();
    let (status, body) = answer(lab.upload(&mut api, LB, binary));
    assert_eq!((status, &body["message"]), (400, &json!("Invalid request")));
    assert!(body["details"].as_str().unwrap().contains("UTF-8"), "{body}");
    for id in ["..%2fx", "certs", "a.b", "%ff", &"x".repeat(65)] {
        assert_eq!(answer(lab.upload(&mut api, id, "global\n")).0, 400, "{id}");
    }
    assert_eq!(lab.read(&file).unwrap(), stored);
    assert_eq!(lab.files(LB).iter().filter(|file| file.as_str() == "haproxy.cfg.new").count(), 0);
    assert_eq!(answer(act(&mut api, LB, "reload")).0, 202);
    lab.wait_answer(80, "first");

    // What is in no file: haproxy's own idea of the group, when the image has one.
    lab.amphora()
        .node()
        .write_file(&format!("{BASE}/haproxy-default-user-group.conf"), "global\n    group daemon\n", 0o644)
        .unwrap();
    assert_eq!(answer(lab.upload(&mut api, LB, configuration(LB, "third"))).0, 202);
    assert_eq!(lab.read(&format!("{BASE}/haproxy-default-user-group.conf")).unwrap(), "global\n    group daemon\n");
}

#[test]
fn a_slow_check_holds_nobody_else_up_and_the_same_upload_again_joins_it() {
    let (lab, _) = Lab::new("haproxy-slow");
    let node = lab.amphora().node();
    // A haproxy that takes its time over a check, and counts them.
    let slow = "#!/bin/sh\ncase \" $* \" in *' -c '*) echo \"$*\" >> /run/checks; sleep 3;; esac\nexec /usr/sbin/haproxy \"$@\"\n";
    node.write_file("/etc/slow-haproxy", slow, 0o755).unwrap();
    let config = lab.read("/etc/octavia/amphora-agent.conf").unwrap();
    let config = config.replace("[haproxy_amphora]", "[haproxy_amphora]\nhaproxy_cmd = /etc/slow-haproxy");
    node.write_file("/etc/octavia/amphora-agent.conf", config, 0o600).unwrap();
    lab.amphora().kill_agent().unwrap();
    let mut api = lab.start(&[]);
    std::thread::scope(|scope| {
        let begin = Instant::now();
        let upload = || lab.upload(&mut lab.amphora().api().unwrap(), LB, configuration(LB, "slow"));
        let uploads = [scope.spawn(upload), scope.spawn(upload)];
        while lab.read("/run/checks").is_none() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut others = 0;
        while uploads.iter().any(|upload| !upload.is_finished()) {
            assert_eq!(api.get("/1.0/info").unwrap().status, 200);
            assert_eq!(answer(lab.upload(&mut api, "other", "global\n  x\n")).0 / 100, 4, "another's check");
            others += 1;
        }
        for upload in uploads {
            assert_eq!(answer(upload.join().unwrap()), (202, json!({ "message": "OK" })));
        }
        println!("two uploads took {:.1?}; {others} other calls meanwhile", begin.elapsed());
    });
    let checks = lab.read("/run/checks").unwrap();
    let of = |lb: &str| checks.lines().filter(|line| line.contains(&format!("/{lb}/haproxy.cfg.new"))).count();
    assert_eq!(of(LB), 1, "the second upload had the first one's answer: {checks}");
    assert!(of("other") >= 1, "{checks}");
}
