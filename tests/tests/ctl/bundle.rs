//! The support bundle: what helps is in it, and no secret is.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::said::{PASSWORD, announced, ctl};

/// The lines of a private key that are nothing but it.
fn key_lines(pem: &str) -> Vec<String> {
    let inside = pem.split("-----BEGIN").filter(|part| part.contains("PRIVATE KEY-----"));
    let lines = inside.flat_map(|part| part.lines().skip(1).take_while(|line| !line.starts_with("-----")));
    lines.map(str::to_owned).filter(|line| !line.is_empty()).collect()
}

/// Unpacks a bundle in the node: each file's text by its name.
fn unpack(amphora: &lab::Amphora, bundle: &str) -> BTreeMap<String, String> {
    let node = amphora.node();
    node.run(["sh", "-c", &format!("rm -rf /run/unpacked; mkdir /run/unpacked && tar -xzf {bundle} -C /run/unpacked")])
        .unwrap();
    let names = node.run(["sh", "-c", "cd /run/unpacked/* && find . -type f"]).unwrap();
    let folder = node.run(["sh", "-c", "echo /run/unpacked/*"]).unwrap();
    let read = |name: &str| node.read_file(&format!("{}/{name}", folder.trim())).unwrap();
    names.lines().map(|name| (name.trim_start_matches("./").to_owned(), read(name))).collect()
}

#[test]
fn a_bundle_has_what_helps_and_no_secret_and_is_written_without_an_agent_too() {
    let (site, _) = announced("ctl-bundle", 64_500);
    let (amphora, node) = (site.amphora(), site.amphora().node());
    // A password in a file of the configuration's own, as well as the one in a line.
    let said = ctl(amphora, "support-bundle --file /run/b.tar.gz", 0);
    assert_eq!((said.out.as_str(), said.err.as_str()), ("/run/b.tar.gz\n", ""));
    assert_eq!(node.run(["stat", "-c", "%a %u", "/run/b.tar.gz"]).unwrap(), "600 0\n");
    assert!(ctl(amphora, "support-bundle --file /run/b.tar.gz", 2).err.contains("cannot be written"));

    let files = unpack(amphora, "/run/b.tar.gz");
    let file = |name: &str| files.get(name).unwrap_or_else(|| panic!("{name} of {:?}", files.keys()));
    let status: Value = serde_json::from_str(file("status.json")).unwrap();
    assert_eq!(status["amphora_id"], amphora.id());
    let vip = site.vip.v4.to_string();
    assert!(file(&format!("why/{vip}.json")).contains("\"gates\""));
    for (name, words) in [
        ("configuration.ini", "auth_password = ***"),
        ("configuration.ini", "heartbeat_key = ***"),
        ("configuration-check.txt", "OK"),
        ("peers.json", "Established"),
        ("amphorae.json", &vip),
        ("metrics.txt", "amphora_bgp_session_up{"),
        ("gobgpd.txt", "gobgpd version "),
        ("amphora-haproxy/addresses.txt", &vip),
        ("amphora-haproxy/rules.txt", "lookup"),
        ("outside/routes.txt", "eth0"),
        ("version.txt", "amphora-agent "),
        ("missing.txt", ""),
    ] {
        assert!(file(name).contains(words), "{name}: {}", file(name));
    }
    let mut secrets = vec![PASSWORD.to_owned(), "lab-heartbeat-key".to_owned()];
    let keys = key_lines(&node.read_file("/etc/octavia/certs/server.pem").unwrap());
    assert!(!keys.is_empty());
    secrets.extend(keys);
    for (name, text) in &files {
        assert!(!text.contains("PRIVATE KEY-----"), "{name}");
        let leaked = secrets.iter().find(|secret| text.contains(*secret));
        assert_eq!(leaked, None, "{name}");
    }

    // Its configuration is broken meanwhile: the agent goes on with what it had.
    let broken = "[distributor]\nvip_mode = sideways\n[bgp_peer:tor-0]\nauth_password = canary-second\n";
    node.write_file("/etc/octavia/amphora-agent.conf.d/90-wrong.conf", broken, 0o600).unwrap();
    node.run(["sh", "-c", &format!("echo said {PASSWORD} canary-second >>/var/log/gobgpd.log")]).unwrap();
    ctl(amphora, "support-bundle --file /run/d.tar.gz", 0);
    let files = unpack(amphora, "/run/d.tar.gz");
    assert!(files["gobgpd.log"].contains("said *** ***") && files["configuration-check.txt"].contains("vip_mode"));
    assert!(!files.values().any(|text| text.contains("canary")), "{:?}", files.keys());

    amphora.kill_agent().unwrap();
    let said = ctl(amphora, "support-bundle --file /run/c.tar.gz", 1);
    assert!(said.err.contains("status.json: the agent does not run"), "{said:?}");
    let files = unpack(amphora, "/run/c.tar.gz");
    assert!(files["missing.txt"].contains("the agent does not run"));
    assert!(files["amphora-haproxy/addresses.txt"].contains(&vip) && files.contains_key("configuration.ini"));
}
