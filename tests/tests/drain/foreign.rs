//! Another amphora, for which this one announces.

use std::net::IpAddr;

use ipnet::IpNet;
use lab::{Family, TorKind, wait_for};
use serde_json::json;

use crate::support::{PATIENCE, Site, call};

#[test]
fn another_amphoras_routes_are_withdrawn_after_the_timeout_and_come_back() {
    let site = Site::new("drain-foreign", TorKind::Frr, false, 1);
    let (vip, hop) = (IpAddr::from([203, 0, 113, 50]), lab::addresses::FRONTEND.host(50).of(Family::V4));
    let mut api = site.api(0);
    api.register("other", vip, hop, None).unwrap().success().unwrap();
    let routed = |hops: &[IpAddr]| site.tor().wait_next_hops(IpNet::from(vip), hops, PATIENCE).unwrap();
    routed(&[hop]);
    let numbers = json!({"timeout_s": 6, "max_connections": 5});
    let said = call(&mut api, "other", "drain", &numbers).success().unwrap().json();
    assert_eq!(said["vips"][0]["drain"]["stage"], "deprefer", "{said}");
    let of_route = |api: &mut lab::Api| {
        let listed = api.amphorae().unwrap().success().unwrap().json();
        listed.as_array().unwrap().iter().find(|route| route["vip_ip"] == json!(vip)).cloned().unwrap()
    };
    let route = of_route(&mut api);
    assert_eq!(
        (&route["drain"]["connections"], &route["provisioning_status"]),
        (&json!(null), &json!("ACTIVE")),
        "{route}"
    );
    routed(&[]);
    let (drained, _) = wait_for("it is drained", PATIENCE, || match of_route(&mut api) {
        route if route["drain"]["stage"] == "drained" => Ok(route),
        route => Err(route),
    })
    .unwrap();
    assert_eq!(drained["provisioning_status"], "PENDING_CREATE", "{drained}");
    assert!(drained["reason"].as_str().unwrap().contains("undrain"), "{drained}");
    // Registering it once more does not end the drain, unregistering does.
    api.register("other", vip, hop, None).unwrap().success().unwrap();
    assert_eq!(of_route(&mut api)["drain"]["stage"], "drained");
    call(&mut api, "other", "undrain", &json!({})).success().unwrap();
    routed(&[hop]);
    call(&mut api, "other", "drain", &json!({"timeout_s": 0, "max_connections": 0})).success().unwrap();
    routed(&[]);
    api.unregister("other", "").unwrap().success().unwrap();
    api.register("other", vip, hop, None).unwrap().success().unwrap();
    routed(&[hop]);
    // This amphora's own VIP was left alone.
    assert!(site.drains(0).iter().all(serde_json::Value::is_null));
    site.wait_used(&[0]);
}
