use std::{fs, os::unix::fs::PermissionsExt as _, process::Command, time::Duration};

use super::*;
use crate::child;

fn lb(id: &str) -> LbId {
    LbId::new(id).unwrap()
}

fn haproxy(base: &Path, id: &str) {
    fs::create_dir(base.join(id)).unwrap();
    fs::write(base.join(id).join("haproxy.cfg"), "").unwrap();
}

fn written(base: &Path) -> Option<String> {
    fs::read_to_string(base.join("vrrp/check_scripts/haproxy_check_script.sh")).ok()
}

fn status(script: &Path) -> i32 {
    let ended = child::run(&mut Command::new(script), None, b"", Duration::from_mins(1)).unwrap();
    ended.status.code().unwrap()
}

#[test]
fn the_haproxies_are_checked_but_for_the_one_that_leaves() {
    let base = tempfile::tempdir().unwrap();
    let base = base.path();
    update(base, None).unwrap();
    assert_eq!(written(base).unwrap(), "#!/bin/sh\nexit 1\n", "nothing to serve");
    haproxy(base, "one");
    haproxy(base, "two");
    update(base, None).unwrap();
    let sockets = ["one", "two"].map(|id| format!(" '{}/{id}.sock'", base.display()));
    assert!(
        written(base).unwrap().ends_with(&format!(" haproxy-vrrp-check{}\n", sockets.concat())),
        "{:?}",
        written(base)
    );
    update(base, Some(&lb("one"))).unwrap();
    assert!(written(base).unwrap().ends_with(&format!(" haproxy-vrrp-check{}\n", sockets[1])), "{:?}", written(base));
}

#[test]
fn with_udp_listeners_alone_no_haproxy_is_checked() {
    let base = tempfile::tempdir().unwrap();
    let base = base.path();
    update(base, None).unwrap();
    fs::create_dir(base.join("lvs")).unwrap();
    fs::write(base.join("lvs/octavia-keepalivedlvs-123.conf"), "").unwrap();
    update(base, None).unwrap();
    assert_eq!(written(base), None);
    update(base, None).unwrap();
}

#[test]
fn the_check_fails_when_one_of_its_scripts_does_and_only_then() {
    let base = tempfile::Builder::new().prefix("it's a \"place\" ").tempdir().unwrap();
    let base = base.path();
    write_check_script(base).unwrap();
    let (script, checks) = (base.join("vrrp/check_script.sh"), base.join("vrrp/check_scripts"));
    assert_eq!(fs::metadata(&script).unwrap().permissions().mode() & 0o7777, 0o755);
    assert_eq!(status(&script), 0, "nothing to check");
    update(base, None).unwrap();
    assert_eq!(status(&script), 1);
    // As Octavia's own agent leaves them: one without the mode of a program, one for bash.
    fs::set_permissions(checks.join(HAPROXY), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(status(&script), 1);
    fs::write(checks.join(HAPROXY), "true; exit $?").unwrap();
    assert_eq!(status(&script), 0);
    fs::write(checks.join("x.sh"), "#!/bin/bash\nshopt -s nullglob || exit 0\nexit 7\n").unwrap();
    fs::set_permissions(checks.join("x.sh"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(status(&script), 1);
}

#[test]
fn a_keepalived_of_a_udp_listener_that_died_is_a_failure() {
    let base = tempfile::tempdir().unwrap();
    let (base, lvs) = (base.path(), base.path().join("lvs"));
    check_lvs(base).unwrap();
    let script = base.join("vrrp/check_scripts/lvs_udp_check.sh");
    assert_eq!(status(&script), 0);
    fs::create_dir(&lvs).unwrap();
    assert_eq!(status(&script), 0);
    fs::write(lvs.join("octavia-keepalivedlvs-1.pid"), format!("{}\n", std::process::id())).unwrap();
    fs::write(lvs.join("octavia-keepalivedlvs-1.check.pid"), "999999999\n").unwrap();
    assert_eq!(status(&script), 0);
    fs::write(lvs.join("octavia-keepalivedlvs-2.pid"), "999999999\n").unwrap();
    assert_eq!(status(&script), 1);
    fs::write(lvs.join("octavia-keepalivedlvs-2.pid"), "").unwrap();
    assert_eq!(status(&script), 1, "an empty pid file is nobody's");
}
