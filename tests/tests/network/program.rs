//! `amphora-interface`, as a stock image calls it.

use lab::{Proc, command, picture, workdir::built_program};
use serde_json::json;

use crate::support::{PATIENCE, Site, VIP_DEFAULT, VIP_INSIDE, fixed, plug, plug_vip, plugged, port};

fn interface(site: &Site, arguments: &[&str]) -> (Option<i32>, String) {
    let mut program = command([built_program("amphora-agent").unwrap()]);
    program.arg("amphora-interface").args(arguments);
    let ended: Proc = site.inside().spawn("amphora-interface", &mut program).unwrap();
    let status = ended.wait(PATIENCE).unwrap();
    (status.code(), std::fs::read_to_string(ended.log()).unwrap())
}

#[test]
fn amphora_interface_puts_back_what_the_files_say_and_takes_only_what_is_ours() {
    let site = Site::new("network-program");
    let mut api = site.start();
    plug_vip(&site, &mut api);
    plugged(&plug(&mut api, &port(&json!([fixed("10.1.0.5", "10.1.0.0/24")]))), "Plugged on interface eth2");
    site.amphora().kill_agent().unwrap();
    let mut want = VIP_INSIDE.to_vec();
    want.extend([VIP_DEFAULT, "link eth2 mtu 1500 up", "address eth2 10.1.0.5/24"]);
    assert_eq!(interface(&site, &["up", "all"]), (Some(0), String::new()));
    let inside = site.inside();
    inside.ip("addr add 10.7.0.7/24 dev eth2\nroute add 10.6.0.0/16 via 10.7.0.1 proto static").unwrap();
    want.extend(["address eth2 10.7.0.7/24", "route table 254 10.6.0.0/16 via 10.7.0.1 dev eth2 proto 4"]);
    assert_eq!(interface(&site, &["--config-file", "/etc/octavia/amphora-agent.conf", "up", "eth2"]).0, Some(0));
    let found = picture::look(&inside).unwrap();
    for line in &want {
        assert!(found.contains(*line), "{line}: {found:?}");
    }

    assert_eq!(interface(&site, &["down", "eth1"]), (Some(0), String::new()));
    let found = picture::look(&inside).unwrap();
    let left: Vec<_> = found.iter().filter(|line| line.contains("eth1") || line.starts_with("rule")).collect();
    assert_eq!(left, ["link eth1 mtu 1500 down"]);
    assert_eq!(interface(&site, &["up", "all"]).0, Some(0));
    let found = picture::look(&inside).unwrap();
    for line in &want {
        assert!(found.contains(*line), "{line}: {found:?}");
    }
    let unknown = interface(&site, &["up", "eth9"]);
    let said = "Error: Could not configure interface: Could not find interface 'eth9'.\n";
    assert_eq!(unknown, (Some(2), said.to_owned()));
    assert_eq!(interface(&site, &["sideways", "eth1"]).0, Some(2));
    assert_eq!(interface(&site, &["up"]).0, Some(1));
}
