//! A state file nobody should guess at, and a disk without room for it.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;

use lab::{Amphora, Api, addresses, picture};

use crate::support::{PATIENCE, STATE, fabric, inside, refused, routes, running, start, vip, wait_route};
use crate::{serving, state, wait_on_tor};

/// A first line as a later release might write it: `CRC32 JSON`.
fn of_a_newer_release(state: &[u8]) -> Vec<u8> {
    let json = br#"{"amphora_agent_state":1000}"#;
    let rest = state.iter().position(|byte| *byte == b'\n').unwrap();
    [format!("{:08x} ", crc32fast::hash(json)).as_bytes(), json, &state[rest..]].concat()
}

/// Guessing would unbind a VIP that is served, or announce one that is not wanted any more.
#[test]
fn a_state_file_cut_short_damaged_or_of_a_newer_release_stops_the_start_and_stays_as_it_is() {
    let (fabric, mut api) = running("state", 1);
    let amphora = &fabric.amphorae[0];
    serving(&fabric, &mut api);
    amphora.stop_agent().unwrap();
    let good = state(amphora);
    let bound = picture::look(&inside(amphora)).unwrap();
    let mut damaged = good.clone();
    let second_line = damaged.iter().position(|byte| *byte == b'\n').unwrap() + 20;
    damaged[second_line] ^= 1;
    for (what, bytes, words) in [
        (
            "half of it",
            good[..good.len() / 2].to_vec(),
            ["is damaged (it has been cut short)", "restore it from a backup"],
        ),
        (
            "less by a byte",
            good[..good.len() - 1].to_vec(),
            ["is damaged (it has been cut short)", "plug and register anew"],
        ),
        ("nothing", Vec::new(), ["is damaged (it does not start with its header)", "move it away"]),
        ("zeros", vec![0; good.len()], ["is damaged (it does not start with its header)", "move it away"]),
        ("a bad line in its middle", damaged, ["is damaged (a line in its middle fails its checksum)", "move it away"]),
        (
            "a newer one",
            of_a_newer_release(&good),
            ["was written by a newer amphora-agent (format 1000", "run that release again"],
        ),
    ] {
        amphora.node().write_file(STATE, &bytes, 0o600).unwrap();
        let log = amphora.node().log_path("agent");
        let before = fs::read_to_string(&log).unwrap().len();
        let status = amphora.start_agent(&[]).unwrap().wait(PATIENCE).unwrap();
        let said = fs::read_to_string(&log).unwrap()[before..].to_owned();
        assert_eq!(status.code(), Some(1), "{what}: {said}");
        assert!(words.iter().all(|word| said.contains(word)) && said.contains(STATE), "{what}: {said}");
        assert!(state(amphora) == bytes, "{what}: the file has changed");
        assert_eq!(picture::look(&inside(amphora)).unwrap(), bound, "{what}");
        wait_on_tor(&fabric);
    }
    amphora.node().write_file(STATE, &good, 0o600).unwrap();
    let mut api = start(amphora);
    wait_route(&mut api, vip().v4.into(), "ACTIVE", "ONLINE");
    assert_eq!(picture::look(&inside(amphora)).unwrap(), bound);
}

fn fill(amphora: &Amphora) {
    let fill =
        "dd if=/dev/zero of=/var/lib/octavia/filler bs=4k 2>/dev/null; df --output=avail /var/lib/octavia | tail -1";
    assert_eq!(amphora.node().run(["sh", "-c", fill]).unwrap().trim(), "0");
}

/// The state file has its size from the start, so most commits fit into what it has; the first one after a start
/// needs a new file.
#[test]
fn on_a_full_disk_calls_that_change_something_are_500_the_old_state_stands_and_space_heals_it() {
    let fabric = fabric("disk-full", 1);
    let amphora = &fabric.amphorae[0];
    amphora.node().run(["mount", "-t", "tmpfs", "-o", "size=320k", "tmpfs", "/var/lib/octavia"]).unwrap();
    let mut api = start(amphora);
    serving(&fabric, &mut api);
    fill(amphora);
    let foreign: IpAddr = "192.0.2.77".parse().unwrap();
    let fits: IpAddr = addresses::vip(20).v4.into();
    api.register("other", fits, foreign, None).unwrap().success().unwrap();
    amphora.kill_agent().unwrap();
    let mut api = start(amphora);
    wait_route(&mut api, fits, "ACTIVE", "ONLINE");

    let (before, bound) = (state(amphora), picture::look(&inside(amphora)).unwrap());
    let listed = |api: &mut Api| -> BTreeSet<String> {
        routes(api, "amphorae").iter().map(|route| format!("{} {}", route["vip_ip"], route["nexthop_ip"])).collect()
    };
    let held = listed(&mut api);
    for round in 0..3 {
        let refusals = [
            api.register("other", addresses::vip(21).v4.into(), foreign, None).unwrap(),
            api.register("other", fits, foreign, Some("tor-0")).unwrap(),
            api.unregister("other", "").unwrap(),
            api.unplug_vip(vip().v4.into()).unwrap(),
        ];
        for reply in &refusals {
            refused(reply, 500, &["could not be made durable; nothing was changed", "No space left on device"]);
        }
        assert_eq!(api.get("/1.0/info").unwrap().status, 200);
        assert_eq!(listed(&mut api), held, "{round}");
        assert!(state(amphora) == before, "{round}: the state file has changed");
        assert_eq!(picture::look(&inside(amphora)).unwrap(), bound);
    }
    let beside = amphora.node().run(["ls", "-A", "/var/lib/octavia/amphora-agent"]).unwrap();
    assert_eq!(beside, "interfaces\nservices\nstate\n", "nothing half-written is left lying about");
    wait_on_tor(&fabric);

    amphora.node().run(["rm", "/var/lib/octavia/filler"]).unwrap();
    api.register("other", addresses::vip(21).v4.into(), foreign, None).unwrap().success().unwrap();
    api.unregister("other", &format!("vip_ip={fits}")).unwrap().success().unwrap();
    amphora.kill_agent().unwrap();
    let mut api = start(amphora);
    wait_route(&mut api, addresses::vip(21).v4.into(), "ACTIVE", "ONLINE");
    assert_eq!(routes(&mut api, "amphorae").len(), 2);
}
