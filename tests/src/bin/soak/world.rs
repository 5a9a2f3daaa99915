//! What all threads of the soak share: the fabric, what happened, and what must not have.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use lab::addresses::FRONTEND;
use lab::{
    Amphora, Api, Dual, Fabric, Family, Neighbours, Options, Result, Tor, TorKind, addresses, balancers, wait_for,
};
use serde_json::Value;

/// A ceiling for whatever is awaited at the start.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
pub(crate) const BOTH: [Family; 2] = [Family::V4, Family::V6];
pub(crate) const AMPHORAE: usize = 3;
/// The amphora whose agent and speaker are never killed: what of theirs grows, grows by itself.
pub(crate) const SPARED: usize = 0;
const PORT: u16 = 80;

/// Something the soak did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    AgentKilled,
    AgentBack,
    SpeakerKilled,
    HaproxyKilled,
    /// A call to reload the steady load balancer has ended.
    Reloaded,
    /// The ToR has other next hops for the steady VIP: connections under way may meet another amphora.
    OtherNextHops,
}

/// When, what, and to which amphora.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) at: Instant,
    pub(crate) deed: Deed,
    pub(crate) amphora: usize,
}

/// What is counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) calls: usize,
    pub(crate) repeated: usize,
    pub(crate) created: usize,
    pub(crate) changed: usize,
    pub(crate) deleted: usize,
    pub(crate) looks: usize,
}

/// One of the two load balancers of an amphora.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// Served all the time; the clients' own.
    Steady,
    /// Plugged, served, changed, deleted and unplugged again and again.
    Passing,
}

impl Which {
    pub(crate) fn lb(self) -> &'static str {
        match self {
            Self::Steady => "6f4b2f0e-4a4e-4c1b-9f0a-0d3b7a1c2d3e",
            Self::Passing => "7e5c3f1e-4a4e-4c1b-9f0a-0d3b7a1c2d3e",
        }
    }

    pub(crate) fn vip(self) -> Dual {
        addresses::vip(match self {
            Self::Steady => 7,
            Self::Passing => 8,
        })
    }
}

/// The soak's world.
pub(crate) struct World {
    pub(crate) fabric: Fabric,
    pub(crate) start: Instant,
    over: AtomicBool,
    events: Mutex<Vec<Event>>,
    violations: Mutex<Vec<String>>,
    tally: Mutex<Tally>,
}

impl World {
    /// One ToR, three amphorae with two front-end NICs each; all serve the steady VIP.
    pub(crate) fn new(kind: TorKind) -> Result<Self> {
        let mut options = Options::new(kind);
        options.amphorae = AMPHORAE;
        options.tors[0].neighbours = Neighbours::Each(Family::V4);
        let fabric = Fabric::new("soak", &options)?;
        for (index, amphora) in fabric.amphorae.iter().enumerate() {
            fabric.frontend.plug(amphora.node(), "ens8", Some(&second_mac(index)))?;
            let text = amphora.distributor_sections() + &fabric.tors[0].peer_section(Family::V4);
            amphora.write_config(&text.replace("announce = api\n", "announce = listener\n"))?;
            amphora.start_agent(&[])?;
        }
        let (events, violations, tally) = Default::default();
        let world = Self { fabric, start: Instant::now(), over: AtomicBool::new(false), events, violations, tally };
        for index in 0..AMPHORAE {
            let mut api = world.amphora(index).wait_api(PATIENCE)?.0;
            world.plug(&mut api, index, Which::Steady)?.success()?;
            world.upload(&mut api, index, Which::Steady, 0)?.success()?;
            api.act(Which::Steady.lb(), "start")?.success()?;
        }
        for family in BOTH {
            let hops: Vec<_> = (0..AMPHORAE).map(|index| hop(index, Which::Steady, family)).collect();
            world.tor().wait_next_hops(Which::Steady.vip().of(family).into(), &hops, PATIENCE)?;
        }
        wait_for("every amphora answers", PATIENCE, || {
            let to = Self::targets()[0];
            match lab::traffic::connect(&world.fabric.client, to, 60) {
                Ok(split) if split.failed() == 0 && split.answers.len() == AMPHORAE => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })?;
        Ok(world)
    }

    pub(crate) fn amphora(&self, index: usize) -> &Amphora {
        &self.fabric.amphorae[index]
    }

    pub(crate) fn tor(&self) -> &Tor {
        &self.fabric.tors[0]
    }

    pub(crate) fn targets() -> Vec<SocketAddr> {
        BOTH.map(|family| SocketAddr::new(Which::Steady.vip().of(family), PORT)).to_vec()
    }

    /// Plugs a VIP on its NIC.
    pub(crate) fn plug(&self, api: &mut Api, index: usize, which: Which) -> Result<lab::Reply> {
        let vip = which.vip();
        let mut body = self.amphora(index).plug_body(vip);
        if which == Which::Passing {
            body["mac_address"] = second_mac(index).into();
            body["vrrp_ip"] = hop(index, which, Family::V4).to_string().into();
            for (at, family) in BOTH.into_iter().enumerate() {
                body["frontend_ips"][at]["ip_address"] = hop(index, which, family).to_string().into();
            }
        }
        api.plug_vip(vip.v4.into(), &body)
    }

    /// Uploads a configuration; another `version` is another text.
    pub(crate) fn upload(&self, api: &mut Api, index: usize, which: Which, version: usize) -> Result<lab::Reply> {
        let binds = BOTH.map(|family| SocketAddr::new(which.vip().of(family), PORT));
        let more = format!("backend version{version}\n    mode http\n");
        let text = balancers::configuration(which.lb(), &binds, self.amphora(index).name(), &more);
        api.upload(self.amphora(index), which.lb(), text)
    }

    /// Whether an amphora is well as far as the ToR sees it: its session is up and it serves the steady VIP.
    pub(crate) fn is_well(&self, index: usize) -> bool {
        let agent = self.amphora(index).agent().is_some_and(|agent| agent.is_running());
        let session =
            || self.tor().established().is_ok_and(|all| all.contains(&self.amphora(index).management(Family::V4)));
        let routed = |family: Family| {
            let hops = self.tor().kernel_routes(Which::Steady.vip().of(family).into());
            hops.is_ok_and(|hops| hops.contains(&hop(index, Which::Steady, family)))
        };
        agent && session() && BOTH.into_iter().all(routed)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Sleeps, but not past the end.
    pub(crate) fn rest(&self, time: Duration) {
        let end = Instant::now() + time;
        while !self.is_over() && Instant::now() < end {
            thread::sleep(Duration::from_millis(50).min(end.saturating_duration_since(Instant::now())));
        }
    }

    pub(crate) fn note(&self, deed: Deed, amphora: usize) {
        lock(&self.events).push(Event { at: Instant::now(), deed, amphora });
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        lock(&self.events).clone()
    }

    /// When this was last done to an amphora.
    pub(crate) fn last(&self, amphora: usize, deeds: &[Deed]) -> Option<Instant> {
        let events = lock(&self.events);
        events.iter().rev().find(|event| event.amphora == amphora && deeds.contains(&event.deed)).map(|event| event.at)
    }

    /// When each of these was done to an amphora, in order.
    pub(crate) fn each(&self, amphora: usize, deeds: &[Deed]) -> Vec<Instant> {
        let events = lock(&self.events);
        let those = events.iter().filter(|event| event.amphora == amphora && deeds.contains(&event.deed));
        those.map(|event| event.at).collect()
    }

    /// What must not happen has happened. It is said at once, and the soak goes on.
    pub(crate) fn violation(&self, what: &str) {
        let text = format!("{:.1} s: {what}", self.start.elapsed().as_secs_f64());
        println!("VIOLATION at {text}");
        lock(&self.violations).push(text);
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        lock(&self.violations).clone()
    }

    pub(crate) fn count(&self, change: impl FnOnce(&mut Tally)) {
        change(&mut lock(&self.tally));
    }

    pub(crate) fn tally(&self) -> Tally {
        *lock(&self.tally)
    }
}

/// The next hop of what an amphora announces.
pub(crate) fn hop(index: usize, which: Which, family: Family) -> IpAddr {
    let number = u8::try_from(index).expect("three amphorae");
    FRONTEND
        .host(match which {
            Which::Steady => addresses::amphora_host(index),
            Which::Passing => 61 + number,
        })
        .of(family)
}

fn second_mac(index: usize) -> String {
    format!("fa:16:3e:00:01:{:02x}", 61 + index)
}

/// The text of a refusal, for a person.
pub(crate) fn words(reply: &lab::Reply) -> String {
    let body: Value = reply.json();
    let said = body["details"].as_str().or(body["message"].as_str()).map_or_else(|| reply.text(), str::to_owned);
    format!("{} {said}", reply.status)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
