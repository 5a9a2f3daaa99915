//! The network behind the listener fails: carrier, gateway, members.

use std::time::Instant;

use lab::{Amphora, Proc, TorKind, wait_for};

use crate::support::{LB, PATIENCE, Site, act, found, lost};

#[test]
fn a_cut_wire_and_a_silent_gateway_withdraw_and_their_return_announces() {
    let (site, mut api) = Site::announced("lifecycle-network", TorKind::Bird, "");
    let (vip, port) = (site.vip.v4.into(), site.amphora().frontend_port());
    let segment = &site.fabric.frontend;
    let watch = site.tor().watch_routes().unwrap();

    let cut = Instant::now();
    segment.set_port(port, false).unwrap();
    let gone = lost(&watch, vip).duration_since(cut);
    let evidence = site.wait_gate(&mut api, "carrier", false);
    segment.set_port(port, true).unwrap();
    let mended = Instant::now();
    let back = found(&watch, vip).duration_since(mended);
    println!("carrier: route gone after {gone:?} ({evidence}), back after {back:?}");
    site.wait_announced();

    let cut = Instant::now();
    segment.isolate_port(port).unwrap();
    let gone = lost(&watch, vip).duration_since(cut);
    let evidence = site.wait_gate(&mut api, "gateway", false);
    segment.join_port(port).unwrap();
    let mended = Instant::now();
    let back = found(&watch, vip).duration_since(mended);
    println!("gateway: route gone after {gone:?} ({evidence}), back after {back:?}");
    site.wait_announced();
}

#[test]
fn too_few_members_withdraw_and_enough_announce() {
    let options = "members_low = 50\nmembers_high = 75\ncheck_interval = 200";
    let (site, mut api) = Site::new("lifecycle-members", TorKind::Bird, options);
    let vip = site.vip.v4.into();
    site.upload(&mut api, &pool(4));
    let members: Vec<_> = (1..=4_u8).map(|n| start(site.amphora(), n)).collect();
    act(&mut api, "start");
    site.wait_announced();
    let watch = site.tor().watch_routes().unwrap();
    // Half of them is still enough.
    for member in &members[..2] {
        member.kill_and_wait().unwrap();
    }
    wait_for("two members are down", PATIENCE, || match evidence(&site, &mut api) {
        said if said.starts_with("2 of 4") => Ok(()),
        said => Err(said),
    })
    .unwrap();
    assert!(site.is_announced());
    let third = Instant::now();
    members[2].kill_and_wait().unwrap();
    let gone = lost(&watch, vip).duration_since(third);
    assert!(site.wait_gate(&mut api, "members", false).starts_with("1 of 4"));
    // Half is not enough again.
    let _again = start(site.amphora(), 1);
    wait_for("two members are up", PATIENCE, || match evidence(&site, &mut api) {
        said if said.starts_with("2 of 4") => Ok(()),
        said => Err(said),
    })
    .unwrap();
    assert!(!site.is_announced());
    let third = Instant::now();
    let _more = start(site.amphora(), 2);
    let back = found(&watch, vip).duration_since(third);
    println!("members: route gone after {gone:?}, back after {back:?} (load balancer {LB})");
    site.wait_announced();
}

/// A pool of members, which haproxy looks at every 200 ms.
pub(crate) fn pool(members: u8) -> String {
    let server = |n: u8| format!("    server m{n} 127.0.0.{}:8080 check inter 200ms fall 1 rise 1\n", n + 1);
    "backend pool:listener\n    mode http\n".to_owned() + &(1..=members).map(server).collect::<String>()
}

/// What the gate of the members says, however it stands.
fn evidence(site: &Site, api: &mut lab::Api) -> String {
    let said = site.why(api, lab::Family::V4);
    let gates = said["gates"].as_array().cloned().unwrap_or_default();
    let found = gates.iter().find(|gate| gate["gate"] == "members").map(|gate| gate["evidence"].clone());
    found.and_then(|evidence| evidence.as_str().map(str::to_owned)).unwrap_or_default()
}

/// A member: another haproxy, which answers on an address of its own.
pub(crate) fn start(amphora: &Amphora, n: u8) -> Proc {
    let path = format!("/etc/haproxy/member-{n}.cfg");
    let text = format!(
        "defaults\n  mode http\n  timeout connect 5s\n  timeout client 5s\n  timeout server 5s\nfrontend f\n  bind \
         127.0.0.{}:8080\n  http-request return status 200\n",
        n + 1
    );
    amphora.node().write_file(&path, text, 0o644).unwrap();
    let inside = amphora.haproxy_netns().unwrap();
    inside.spawn(&format!("member-{n}"), &mut lab::command(["haproxy", "-db", "-f", &path])).unwrap()
}
