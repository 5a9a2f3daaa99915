//! Every call that changes something has a test that walks `kill -9` through its steps: a new call without one fails here.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

/// Call, file, test. A call that does different things is here once for each.
const WALKS: [(&str, &str, &str); 26] = [
    ("put /1.0/certificate", "files.rs", "kill_9_at_any_step_leaves_the_old_file_or_the_new"),
    ("put /1.0/config", "front/config.rs", "kill_9_at_any_step_leaves_the_old_configuration_or_the_new"),
    (
        "post /1.0/distributor/amphorae",
        "crash/main.rs",
        "an_agent_killed_at_any_step_of_register_or_unregister_moves_no_other_route",
    ),
    (
        "delete /1.0/distributor/amphorae/{amphora_id}",
        "crash/main.rs",
        "an_agent_killed_at_any_step_of_register_or_unregister_moves_no_other_route",
    ),
    (
        "put /1.0/distributor/amphorae/{amphora_id}/drain",
        "crash/registered.rs",
        "an_agent_killed_at_any_step_of_a_drain_completes_it_and_never_unbinds_what_is_announced",
    ),
    (
        "put /1.0/distributor/amphorae/{amphora_id}/undrain",
        "crash/registered.rs",
        "an_agent_killed_at_any_step_of_ending_a_drain_binds_before_it_announces",
    ),
    (
        "post /1.0/distributor/vips",
        "crash/registered.rs",
        "an_agent_killed_at_any_step_of_registering_an_end_point_completes_it_on_a_retry",
    ),
    (
        "delete /1.0/distributor/vips/{vip}",
        "crash/registered.rs",
        "an_agent_killed_at_any_step_of_registering_an_end_point_completes_it_on_a_retry",
    ),
    (
        "put /1.0/interface/{ip}/rules",
        "crash/main.rs",
        "an_agent_killed_at_any_step_of_plugging_a_network_or_setting_rules_completes_it_on_a_retry",
    ),
    (
        "put /1.0/listeners/{amphora_id}/{listener_id}/udp_listener",
        "keepalived/lvs_crash.rs",
        "kill_9_at_any_step_of_a_call_about_a_udp_listener_is_mended_by_its_retry",
    ),
    (
        "delete /1.0/listeners/{listener_id}", // a load balancer's
        "haproxy/kill.rs",
        "a_deletion_killed_anywhere_is_completed_by_a_retry",
    ),
    (
        "delete /1.0/listeners/{listener_id}", // a UDP listener's
        "keepalived/lvs_crash.rs",
        "kill_9_at_any_step_of_a_call_about_a_udp_listener_is_mended_by_its_retry",
    ),
    (
        "put /1.0/loadbalancer/{amphora_id}/{lb_id}/haproxy",
        "haproxy/kill.rs",
        "an_upload_killed_anywhere_leaves_the_old_configuration_or_the_new",
    ),
    (
        "put /1.0/loadbalancer/{lb_id}/certificates/{filename}",
        "files.rs",
        "kill_9_at_any_step_leaves_the_old_file_or_the_new",
    ),
    (
        "delete /1.0/loadbalancer/{lb_id}/certificates/{filename}",
        "files.rs",
        "kill_9_at_any_step_leaves_the_old_file_or_the_new",
    ),
    (
        "put /1.0/loadbalancer/{lb_id}/{action}", // haproxy's
        "haproxy/kill.rs",
        "a_start_stop_or_reload_killed_anywhere_is_completed_by_a_retry",
    ),
    (
        "put /1.0/loadbalancer/{lb_id}/{action}", // a UDP listener's
        "keepalived/lvs_crash.rs",
        "kill_9_at_any_step_of_a_call_about_a_udp_listener_is_mended_by_its_retry",
    ),
    (
        "put /1.0/loadbalancer/{lb_id}/{action}", // the services under both
        "services/direct.rs",
        "kill_9_at_any_step_leaves_what_the_next_agent_mends",
    ),
    (
        "post /1.0/plug/network",
        "crash/main.rs",
        "an_agent_killed_at_any_step_of_plugging_a_network_or_setting_rules_completes_it_on_a_retry",
    ),
    (
        "post /1.0/plug/vip/{vip}", // `anycast`
        "crash/main.rs",
        "an_agent_killed_at_any_step_of_an_anycast_plug_completes_it_on_a_retry",
    ),
    (
        "post /1.0/plug/vip/{vip}", // `interface`
        "crash/main.rs",
        "an_agent_killed_at_any_step_of_an_interface_plug_or_unplug_completes_it_on_a_retry",
    ),
    (
        "delete /1.0/plug/vip/{vip}", // `anycast`
        "crash/main.rs",
        "an_agent_killed_at_any_step_of_an_unplug_withdraws_before_it_unbinds",
    ),
    (
        "delete /1.0/plug/vip/{vip}", // `interface`
        "crash/main.rs",
        "an_agent_killed_at_any_step_of_an_interface_plug_or_unplug_completes_it_on_a_retry",
    ),
    ("put /1.0/vrrp/upload", "keepalived/crash.rs", "kill_9_at_any_step_of_a_vrrp_call_is_mended_by_its_retry"),
    (
        "put /1.0/vrrp/{action}", // with a keepalived
        "keepalived/crash.rs",
        "kill_9_at_any_step_of_a_vrrp_call_is_mended_by_its_retry",
    ),
    (
        "put /1.0/vrrp/{action}", // where the VIP is routed
        "crash/registered.rs",
        "an_agent_killed_at_any_step_of_silencing_its_amphora_completes_it_on_a_retry",
    ),
];

#[test]
fn every_call_that_changes_something_is_walked() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(tests.join("../docs/openapi.json")).unwrap();
    let document: Value = serde_json::from_str(&document).unwrap();
    let mut calls = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let changing = methods.as_object().unwrap().keys().filter(|method| method.as_str() != "get");
        calls.extend(changing.map(|method| format!("{method} {path}")));
    }
    let walked: BTreeSet<String> = WALKS.iter().map(|(call, ..)| (*call).to_owned()).collect();
    assert_eq!(walked, calls, "left: the calls with a walk, right: those in the document that change something");
    for (call, file, test) in WALKS {
        let text = std::fs::read_to_string(tests.join("tests").join(file)).unwrap();
        assert!(text.contains(&format!("#[test]\nfn {test}() {{")), "{call}: {file} has no test {test}");
    }
}
