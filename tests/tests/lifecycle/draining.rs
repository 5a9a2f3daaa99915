//! What else happens to a VIP that is being drained: its load balancer goes on changing, and other reasons not to announce
//! it come and go.

use lab::{Family, TorKind, wait_for};
use serde_json::json;

use crate::support::{PATIENCE, Site, act};

#[test]
fn a_drained_vip_takes_uploads_reloads_and_stops_and_what_withdrew_it_besides_outlives_the_drain() {
    let (site, mut api) = Site::announced("lifecycle-drain", TorKind::Bird, "");
    let path = format!("/1.0/distributor/amphorae/{}", site.amphora().id());
    let drain = |api: &mut lab::Api, timeout_s: u32| {
        let body = json!({"timeout_s": timeout_s, "max_connections": 0});
        api.put(&format!("{path}/drain"), &body).unwrap().success().unwrap();
    };
    let undrain =
        |api: &mut lab::Api| drop(api.put(&format!("{path}/undrain"), &json!({})).unwrap().success().unwrap());

    drain(&mut api, 0);
    let off_lo = || match site.amphora().haproxy_netns().unwrap().run(["ip", "-o", "addr", "show", "lo"]).unwrap() {
        text if !text.contains(&site.vip.v4.to_string()) => Ok(()),
        text => Err(text),
    };
    wait_for("the VIP is off lo", PATIENCE, off_lo).unwrap();
    // haproxy binds an address that is not there (ip_nonlocal_bind).
    for round in 0..2 {
        site.upload(&mut api, &format!("backend b{round}\n    mode http\n"));
        act(&mut api, "reload");
    }
    act(&mut api, "stop");
    act(&mut api, "start");
    site.wait_withdrawn();
    let said = site.why(&mut api, Family::V4);
    assert_eq!((&said["gates"][0]["gate"], &said["gates"][0]["open"]), (&json!("drain"), &json!(false)), "{said}");
    assert!(said["reason"].as_str().unwrap().contains("is drained since"), "{said}");
    undrain(&mut api);
    site.wait_announced();

    // A gate that closes during a drain is closed after it.
    drain(&mut api, 300);
    act(&mut api, "stop");
    site.wait_withdrawn();
    undrain(&mut api);
    let evidence = site.wait_gate(&mut api, "process", false);
    assert!(evidence.contains("is stopped") && !site.is_announced(), "{evidence}");
    act(&mut api, "start");
    site.wait_announced();
    // So is the amphora's silence.
    drain(&mut api, 300);
    api.put("/1.0/vrrp/stop", &json!({})).unwrap().success().unwrap();
    undrain(&mut api);
    site.wait_withdrawn();
    assert!(site.why(&mut api, Family::V4)["reason"].as_str().unwrap().contains("vrrp/stop"));
    api.put("/1.0/vrrp/start", &json!({})).unwrap().success().unwrap();
    site.wait_announced();
}
