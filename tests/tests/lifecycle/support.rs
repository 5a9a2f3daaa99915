//! One amphora, one ToR, one dual-stack VIP, and a load balancer of the API's that serves it.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use lab::routes::RouteWatch;
use lab::{
    Amphora, Api, Capture, Dual, Fabric, Family, Neighbours, Options, Reply, Tor, TorKind, addresses, balancers,
    fabric, wait_for,
};
use serde_json::Value;

/// A ceiling, for a machine that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
pub(crate) const LB: &str = "6f4b2f0e-4a4e-4c1b-9f0a-0d3b7a1c2d3e";
pub(crate) const PORT: u16 = 80;
pub(crate) const BOTH: [Family; 2] = [Family::V4, Family::V6];

/// BGP messages between the two that are no keepalives (19 octets, RFC 4271 section 4.4): an UPDATE is longer.
pub(crate) const UPDATES: &str = "tcp port 179 and (ip[2:2] - ((ip[0]&0xf)<<2) - ((tcp[12]&0xf0)>>2)) > 19";

pub(crate) struct Site {
    pub(crate) fabric: Fabric,
    pub(crate) vip: Dual,
}

impl Site {
    /// With a plugged VIP, a session, and a load balancer whose haproxy has not been started. `options` are put into
    /// `[distributor]`.
    pub(crate) fn new(test: &str, kind: TorKind, options: &str) -> (Self, Api) {
        let mut set_up = Options::new(kind);
        set_up.amphorae = 1;
        set_up.tors[0].neighbours = Neighbours::Each(Family::V4);
        let fabric = Fabric::new(test, &set_up).unwrap();
        let amphora = &fabric.amphorae[0];
        let sections = amphora.distributor_sections() + &fabric.tors[0].peer_section(Family::V4);
        amphora
            .write_config(&sections.replace("announce = api\n", &format!("announce = listener\n{options}\n")))
            .unwrap();
        let site = Self { fabric, vip: addresses::vip(7) };
        let mut api = site.start_agent();
        let body = site.amphora().plug_body(site.vip);
        api.plug_vip(site.vip.v4.into(), &body).unwrap().success().unwrap();
        site.upload(&mut api, "");
        site.tor().wait_established(site.amphora().management(Family::V4), PATIENCE).unwrap();
        (site, api)
    }

    /// The same, served and announced.
    pub(crate) fn announced(test: &str, kind: TorKind, options: &str) -> (Self, Api) {
        let (site, mut api) = Self::new(test, kind, options);
        act(&mut api, "start");
        site.wait_announced();
        (site, api)
    }

    pub(crate) fn start_agent(&self) -> Api {
        self.amphora().start_agent(&[]).unwrap();
        self.amphora().wait_api(PATIENCE).unwrap().0
    }

    pub(crate) fn amphora(&self) -> &Amphora {
        &self.fabric.amphorae[0]
    }

    pub(crate) fn tor(&self) -> &Tor {
        &self.fabric.tors[0]
    }

    pub(crate) fn upload(&self, api: &mut Api, more: &str) {
        upload(self.amphora(), api, self.vip, more);
    }

    pub(crate) fn prefix(&self, family: Family) -> IpNet {
        IpNet::from(self.vip.of(family))
    }

    #[track_caller]
    pub(crate) fn wait_announced(&self) {
        for family in BOTH {
            self.tor().wait_next_hops(self.prefix(family), &[self.amphora().frontend(family)], PATIENCE).unwrap();
        }
    }

    #[track_caller]
    pub(crate) fn wait_withdrawn(&self) {
        for family in BOTH {
            self.tor().wait_next_hops(self.prefix(family), &[], PATIENCE).unwrap();
        }
    }

    pub(crate) fn is_announced(&self) -> bool {
        BOTH.iter().any(|family| !self.tor().kernel_routes(self.prefix(*family)).unwrap().is_empty())
    }

    /// What the agent says of the VIP.
    pub(crate) fn why(&self, api: &mut Api, family: Family) -> Value {
        api.get(&format!("/1.0/distributor/why/{}", self.vip.of(family))).unwrap().success().unwrap().json()
    }

    /// Waits until a gate is open, or closed, and returns its evidence.
    #[track_caller]
    pub(crate) fn wait_gate(&self, api: &mut Api, gate: &str, open: bool) -> String {
        let look = || {
            let said = self.why(api, Family::V4);
            let gates = said["gates"].as_array().cloned().unwrap_or_default();
            match gates.into_iter().find(|g| g["gate"] == gate && g["open"] == open) {
                Some(found) => Ok(found["evidence"].as_str().unwrap().to_owned()),
                None => Err(said),
            }
        };
        wait_for(&format!("{gate} open: {open}"), PATIENCE, look).unwrap().0
    }

    /// Captures the ToR's BGP.
    pub(crate) fn capture(&self) -> Capture {
        Capture::start(self.tor().node(), fabric::TOR_PEERING_NIC, "tcp port 179").unwrap()
    }

    /// The masters and workers of haproxy, by id in the node, masters first.
    pub(crate) fn haproxies(&self) -> Vec<u32> {
        let master = self.amphora().node().read_file(&format!("/var/lib/octavia/{LB}/{LB}.pid")).unwrap_or_default();
        let master = master.trim().parse().unwrap_or(0);
        let mut all = self.amphora().pids("haproxy").unwrap();
        all.sort_by_key(|pid| (*pid != master, *pid));
        all
    }

    pub(crate) fn kill(&self, pid: u32) -> Instant {
        self.amphora().node().run(["kill", "-9", &pid.to_string()]).unwrap();
        Instant::now()
    }
}

/// Gives an amphora a configuration as Octavia has it, whose listener answers on the VIP; `more` is put at its end.
pub(crate) fn upload(amphora: &Amphora, api: &mut Api, vip: Dual, more: &str) {
    let binds = BOTH.map(|family| SocketAddr::new(vip.of(family), PORT));
    let text = balancers::configuration(LB, &binds, amphora.name(), more);
    api.upload(amphora, LB, text).unwrap().success().unwrap();
}

/// Starts, stops or reloads it.
pub(crate) fn act(api: &mut Api, action: &str) -> Reply {
    api.act(LB, action).unwrap().success().unwrap()
}

/// When the ToR's kernel lost the route to `vip`.
#[track_caller]
pub(crate) fn lost(watch: &RouteWatch, vip: IpAddr) -> Instant {
    let text = format!("Deleted {vip} ");
    watch.wait(&format!("{vip} is withdrawn"), PATIENCE, |line| line.starts_with(&text)).unwrap().at
}

/// When it had it.
#[track_caller]
pub(crate) fn found(watch: &RouteWatch, vip: IpAddr) -> Instant {
    let text = format!("{vip} ");
    watch.wait(&format!("{vip} is announced"), PATIENCE, |line| line.starts_with(&text)).unwrap().at
}
