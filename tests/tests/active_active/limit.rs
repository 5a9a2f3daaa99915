//! What a stock pair that runs active-active cannot do: be found by hosts of the VIP's own subnet.

use std::time::Duration;

use lab::addresses::{FRONTEND, tor_host};
use lab::net::{route, up};
use lab::{Capture, Node, TorKind, traffic, wait_for};

use crate::site::{Case, PATIENCE, Site};

const NEIGHBOUR: u8 = 99;

#[test]
fn a_host_of_the_vips_subnet_asks_into_silence_and_why_says_so() {
    let Some(site) = Site::serving(Case { tor: TorKind::Frr, ..Case::new("active-active-limit") }) else { return };
    site.wait_announced(&[0, 1]);
    site.wait_served(&[0, 1]);

    let neighbour = Node::new(&site.fabric.workdir, "neighbour").unwrap();
    site.fabric.frontend.plug(&neighbour, "eth0", None).unwrap();
    up(&neighbour, "eth0", &FRONTEND.on_nic(NEIGHBOUR)).unwrap();
    let capture = Capture::start(&neighbour, "eth0", "arp").unwrap();
    let split = traffic::connect(&neighbour, site.to(), 1).unwrap();
    assert_eq!((split.answered(), split.failed()), (0, 1), "{split}");
    let asked = format!("arp[6:2] = 1 and arp dst host {}", site.vip);
    let answered = format!("arp[6:2] = 2 and arp src host {}", site.vip);
    let look = || match neighbour.run(["ip", "neigh", "show", "to", &site.vip.to_string()]).unwrap() {
        state if state.contains("FAILED") => Ok(()),
        state => Err(state),
    };
    wait_for("nobody has answered", PATIENCE, look).unwrap();
    let arp = capture.stop().unwrap();
    let (asked, answered) = (arp.count(&asked).unwrap(), arp.count(&answered).unwrap());
    println!("{asked} questions by ARP for {}, {answered} answers", site.vip);
    assert!(asked > 0 && answered == 0);

    // By way of the router that has the BGP route it is reached from there too.
    route(&neighbour, site.vip.into(), &[FRONTEND.host(tor_host(0)).v4.into()]).unwrap();
    let look = || match traffic::connect(&neighbour, site.to(), 20).unwrap() {
        split if split.failed() == 0 => Ok(()),
        split => Err(split.to_string()),
    };
    wait_for("the router knows the way", PATIENCE, look).unwrap();

    for n in 0..2 {
        let mut api = site.amphora(n).api().unwrap();
        let said = api.get(&format!("/1.0/distributor/why/{}", site.vip)).unwrap().success().unwrap().json();
        let note = said["notes"][0].as_str().unwrap_or_default();
        let expected = format!("{} is inside the front-end subnet {}: hosts of that subnet,", site.vip, FRONTEND.v4);
        assert!(note.starts_with(&expected) && note.contains("ARP"), "{said}");
        assert_eq!((&said["announced"], &said["verdict"]), (&true.into(), &"announce".into()), "no gate: {said}");
    }
    // Nor has anybody ARPed for it in all that time; a pause would show a late one.
    std::thread::sleep(Duration::from_millis(100));
    assert!(neighbour.run(["ip", "neigh", "show", "to", &site.vip.to_string()]).unwrap().contains("FAILED"));
}
