//! The front-end NIC is taken away, and given back by the same MAC.

use std::time::Duration;

use lab::TorKind;
use lab::amphora::FRONTEND_NIC;

use crate::support::Site;

#[test]
fn a_front_end_nic_that_is_removed_withdraws_and_its_return_announces() {
    let site = Site::new("failures-nic", TorKind::Bird, 2, |_, text| text);
    let (segment, amphora) = (&site.fabric.frontend, site.amphora(1));

    let fault = site.fault("front-end NIC removed");
    segment.switch().ip(&format!("link del {}", amphora.frontend_port())).unwrap();
    let gone = fault.gone(&[0]);
    std::thread::sleep(Duration::from_millis(100));
    let later = fault.began.elapsed();
    let mut api = amphora.api().unwrap();
    let why = api.get(&format!("/1.0/distributor/why/{}", site.vip.v4)).unwrap().success().unwrap().json();
    let seen = fault.end(&format!("route gone after {gone:.2?} ({})", why["reason"]));
    assert!(seen.lasted() < later, "{seen}");
    assert_eq!(why["announced"], false, "{why}");

    let fault = site.fault("front-end NIC back");
    segment.plug(amphora.node(), FRONTEND_NIC, Some(&amphora.frontend_mac())).unwrap();
    site.wait_hops(&[0, 1]);
    let back = fault.began.elapsed();
    let seen = fault.mended(&format!("route back after {back:.2?}"));
    seen.assert_only_moved();
}
