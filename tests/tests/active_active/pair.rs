//! The pair's life: both serve, sticky sessions are known to both, and a failover replaces one.

use std::time::Instant;

use lab::{Amphora, Family, wait_for};
use serde_json::json;

use crate::load;
use crate::site::{Case, PATIENCE, Site};

/// What a stick table holds, by amphora: entries that are used.
fn learned(site: &Site, n: usize) -> usize {
    let said = site.haproxy(n, "show table");
    let used = said.split("used:").nth(1).and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    used.unwrap_or_else(|| panic!("{said}"))
}

#[track_caller]
fn wait_learned(site: &Site, n: usize, entries: usize) {
    let look = || match learned(site, n) {
        found if found == entries => Ok(()),
        found => Err(format!("{found}; {}", site.haproxy(n, "show peers"))),
    };
    wait_for(&format!("amphora {n} knows of {entries}"), PATIENCE, look).unwrap();
}

/// A client on the amphora itself, which nobody else can see: its own haproxy learns its address.
fn ask_locally(site: &Site, n: usize) {
    let amphora: &Amphora = site.amphora(n);
    let (from, url) = (amphora.frontend(Family::V4).to_string(), format!("http://{}/", site.to()));
    let curl = ["curl", "-sSf", "--max-time", "5", "--interface", &from, &url];
    amphora.haproxy_netns().unwrap().run(curl).unwrap();
}

#[test]
fn a_stock_pair_serves_on_both_shares_what_sticks_and_is_failed_over() {
    let Some(mut site) = Site::serving(Case { amphorae: 3, ..Case::new("active-active-pair") }) else { return };
    site.wait_announced(&[0, 1]);
    for n in 0..2 {
        let amphora = site.amphora(n);
        assert_eq!(amphora.pids("keepalived").unwrap(), [] as [u32; 0], "its calls are answered and start nothing");
        let listed = amphora.api().unwrap().amphorae().unwrap().json();
        assert_eq!((&listed[0]["origin"], listed.as_array().unwrap().len()), (&json!("listener"), 1), "{listed}");
    }

    // By the peers section of the controller's haproxy.cfg, over the front-end IPs.
    assert_eq!((learned(&site, 0), learned(&site, 1)), (0, 0));
    ask_locally(&site, 0);
    wait_learned(&site, 0, 1);
    wait_learned(&site, 1, 1);
    ask_locally(&site, 1);
    wait_learned(&site, 0, 2);
    println!("what one has learned the other knows: {}", site.haproxy(0, "show table").trim());

    println!("100 requests by way of {}", site.wait_served(&[0, 1]));
    wait_learned(&site, 1, 3); // the client is one more

    // Amphora 0 is deleted, and 2 takes its place; the survivor is reloaded twice and told to start VRRP meanwhile.
    let replacement = site.asked(2, true);
    for port in [site.amphora(0).frontend_port(), site.amphora(0).management_port()] {
        let segment =
            if port == site.amphora(0).frontend_port() { &site.fabric.frontend } else { &site.fabric.management };
        segment.set_port(port, false).unwrap();
    }
    site.wait_announced(&[1]);
    site.wait_served(&[1]);
    let (client, to, watch) = ((*site.fabric.client).clone(), site.to(), site.tor().watch_routes().unwrap());
    let load = load::during(&client, to, || {
        site.does("fail_over", json!({ "amphora": 0, "replacement": replacement }));
        site.wait_announced(&[1, 2]);
    });
    println!("while the survivor is reloaded twice and the new one joins: {load}");
    // A router that spreads over one next hop more moves some flows to it, and those in the middle of a request break.
    let spread = watch.so_far().first().expect("the new one is announced").at;
    if let Some((first, last)) = load.failing {
        let about = |at: Instant| spread.duration_since(at).max(at.duration_since(spread)) < load::WAITS;
        assert!(about(first) && about(last), "not at {spread:?}: {load}; {:?}", watch.so_far());
    }
    println!("100 requests by way of {}", site.wait_served(&[1, 2]));
    wait_learned(&site, 2, 3);
    // The controller silences an amphora it has given up (19.0.0), and takes it back.
    site.does("silence", json!({ "amphora": 1 }));
    site.wait_announced(&[2]);
    site.does("set_up_vrrp", json!({}));
    site.wait_announced(&[1, 2]);
}
