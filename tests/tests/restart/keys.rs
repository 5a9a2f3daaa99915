//! The RAM disk after a reboot: the keys of a load balancer are gone, and the others serve.

use std::net::SocketAddr;

use hyper::Method;
use lab::balancers;

use super::*;

const PLAIN: &str = "11111111-0000-4000-8000-000000000001";
const TLS: &str = "22222222-0000-4000-8000-000000000002";
const CERTS: &str = "/var/lib/octavia/certs";

struct Site {
    fabric: Fabric,
    vip: Dual,
}

impl Site {
    /// A load balancer without TLS on the IPv4 VIP, one with it on the IPv6 VIP; both announced.
    fn new() -> (Self, Api) {
        let mut options = Options::new(TorKind::Frr);
        options.amphorae = 1;
        options.tors[0].neighbours = Neighbours::Each(Family::V4);
        let fabric = Fabric::new("keys", &options).unwrap();
        let sections = fabric.amphorae[0].distributor_sections() + &fabric.tors[0].peer_section(Family::V4);
        fabric.amphorae[0].write_config(&sections.replace("announce = api\n", "announce = listener\n")).unwrap();
        let site = Self { fabric, vip: addresses::vip(7) };
        let mut api = site.start();
        let amphora = site.amphora();
        api.plug_vip(site.vip.v4.into(), &amphora.plug_body(site.vip)).unwrap().success().unwrap();
        site.keys(&mut api);
        let bind = |family| [SocketAddr::new(site.vip.of(family), 443)];
        let plain = balancers::configuration(PLAIN, &bind(Family::V4), "plain", "");
        let tls = balancers::configuration(TLS, &bind(Family::V6), "tls", "");
        let bound = format!("bind {}", bind(Family::V6)[0]);
        let tls = tls.replace(&bound, &format!("{bound} ssl crt-list {CERTS}/{TLS}/listener.pem"));
        for (lb, text) in [(PLAIN, plain), (TLS, tls)] {
            api.upload(amphora, lb, text).unwrap().success().unwrap();
            api.act(lb, "start").unwrap().success().unwrap();
        }
        (site, api)
    }

    fn amphora(&self) -> &Amphora {
        &self.fabric.amphorae[0]
    }

    fn start(&self) -> Api {
        self.amphora().start_agent(&[]).unwrap();
        self.amphora().wait_api(PATIENCE).unwrap().0
    }

    /// What the controller sends for the listener.
    fn keys(&self, api: &mut Api) {
        let identity = self.fabric.pki.server("www.example.com", &[]).unwrap();
        let list = format!("{CERTS}/{TLS}/a.pem\n");
        for (name, contents) in [("a.pem", identity.certificate + &identity.key), ("listener.pem", list)] {
            let path = format!("/1.0/loadbalancer/{TLS}/certificates/{name}");
            api.send(Method::PUT, &path, &[], contents.into_bytes()).unwrap().success().unwrap();
        }
    }

    #[track_caller]
    fn wait_routed(&self, family: Family, routed: bool) {
        let hops: Vec<_> = routed.then(|| self.amphora().frontend(family)).into_iter().collect();
        self.fabric.tors[0].wait_next_hops(self.vip.of(family).into(), &hops, PATIENCE).unwrap();
    }

    /// What a reboot leaves but for the RAM disk.
    fn reboot(&self) -> Api {
        let (amphora, node) = (self.amphora(), self.amphora().node());
        amphora.kill_agent().unwrap();
        for program in ["haproxy", "gobgpd"] {
            amphora.kill_program(program, Signal::SIGKILL).unwrap();
        }
        let inside = amphora.haproxy_netns().unwrap();
        inside.run(["ip", "link", "set", "eth1", "down", "netns", "1", "name", FRONTEND_NIC]).unwrap();
        node.run(["ip", "netns", "delete", HAPROXY_NETNS]).unwrap();
        node.run(["sh", "-c", &format!("rm -rf {CERTS}/*")]).unwrap();
        self.start()
    }
}

#[test]
fn after_a_reboot_without_its_keys_a_load_balancer_says_so_and_the_others_serve() {
    let (site, _) = Site::new();
    site.wait_routed(Family::V4, true);
    site.wait_routed(Family::V6, true);
    let mut api = site.reboot();

    let gone = format!("{CERTS}/{TLS}/listener.pem");
    let why = |api: &mut Api| {
        let why = api.get(&format!("/1.0/distributor/why/{}", site.vip.v6)).unwrap().success().unwrap().json();
        why["gates"].as_array().unwrap().iter().find(|gate| gate["gate"] == "process").unwrap()["evidence"].to_string()
    };
    let said = || match why(&mut site.amphora().api().unwrap()) {
        said if said.contains("its TLS files are gone") && said.contains(&gone) => Ok(()),
        said => Err(said),
    };
    wait_for("`why` names the file that is gone", PATIENCE, said).unwrap();
    let details = api.get("/1.0/details").unwrap().success().unwrap().json();
    assert_eq!(details["missing_files"], serde_json::json!([gone]), "{details}");
    // The ToR has kept the old speaker's routes until the new one has told it all.
    site.wait_routed(Family::V6, false);
    let announced = || {
        let path = format!("/1.0/distributor/why/{}", site.vip.v4);
        let why = site.amphora().api().and_then(|mut api| api.get(&path)).unwrap().json();
        if why["announced"] == true { Ok(()) } else { Err(why) }
    };
    wait_for("the other one is announced again", PATIENCE, announced).unwrap();
    site.wait_routed(Family::V4, true);
    let answer = lab::traffic::connect(&site.fabric.client, (site.vip.v4, 443).into(), 20).unwrap();
    assert_eq!(answer.to_string(), "plain 20");

    // It is tried a few times and then left alone; the agent is not the one to fall over it.
    let given_up = || match std::fs::read_to_string(site.amphora().agent().unwrap().log()).unwrap() {
        log if log.contains("given up: started too often") => Ok(()),
        _ => Err("not given up"),
    };
    wait_for("haproxy is given up", PATIENCE, given_up).unwrap();
    let haproxies = site.amphora().pids("haproxy").unwrap();
    assert!(why(&mut api).contains("its TLS files are gone"));
    std::thread::sleep(Duration::from_secs(1)); // ten times the delay after which one is tried again
    assert_eq!(site.amphora().pids("haproxy").unwrap(), haproxies);
    assert!(site.amphora().agent().unwrap().is_running());

    // The controller sends them again, with the listener's next update.
    site.keys(&mut api);
    api.act(TLS, "reload").unwrap().success().unwrap();
    site.wait_routed(Family::V6, true);
    assert!(api.get("/1.0/details").unwrap().json()["missing_files"].is_null());
}
