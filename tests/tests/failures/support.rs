//! Two amphorae behind one ToR that serve one dual-stack VIP, and clients that never stop.

use std::fmt;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use lab::addresses::{CONTROLLER_HOST, MANAGEMENT};
use lab::heartbeats::{KEY, Receiver};
use lab::load::{Failure, Outcome};
use lab::routes::RouteWatch;
use lab::{
    Amphora, Api, Dual, Fabric, Family, Load, Neighbours, Options, Tor, TorKind, addresses, balancers, wait_for,
};
use nix::sys::signal::Signal;

/// A ceiling, for a machine that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
pub(crate) const LB: &str = "6f4b2f0e-4a4e-4c1b-9f0a-0d3b7a1c2d3e";
pub(crate) const BOTH: [Family; 2] = [Family::V4, Family::V6];
pub(crate) const TORS: [TorKind; 2] = [TorKind::Bird, TorKind::Frr];

const PORT: u16 = 80;
/// 160 requests a second, or less while some hang.
const CLIENTS: usize = 16;
const PAUSE: Duration = Duration::from_millis(100);
/// How long a client waits for an answer.
const CLIENTS_PATIENCE: Duration = Duration::from_secs(1);

pub(crate) struct Site {
    pub(crate) fabric: Fabric,
    pub(crate) vip: Dual,
    pub(crate) load: Load,
    kind: TorKind,
}

impl Site {
    /// Served by all, announced by all. `prepare` changes the configuration of an amphora before its agent is started.
    pub(crate) fn new(
        test: &str,
        kind: TorKind,
        amphorae: usize,
        prepare: impl Fn(&Amphora, String) -> String,
    ) -> Self {
        let mut options = Options::new(kind);
        options.amphorae = amphorae;
        options.tors[0].neighbours = Neighbours::Each(Family::V4);
        let fabric = Fabric::new(&format!("{test}-{kind:?}").to_lowercase(), &options).unwrap();
        let vip = addresses::vip(7);
        for amphora in &fabric.amphorae {
            let text = amphora.distributor_sections() + &fabric.tors[0].peer_section(Family::V4);
            let text = prepare(amphora, text.replace("announce = api\n", "announce = listener\n"));
            amphora.write_config(&text).unwrap();
            amphora.start_agent(&[]).unwrap();
        }
        for amphora in &fabric.amphorae {
            let (mut api, _) = amphora.wait_api(PATIENCE).unwrap();
            api.plug_vip(vip.v4.into(), &amphora.plug_body(vip)).unwrap().success().unwrap();
            serve(&mut api, amphora, vip, "");
        }
        let to = BOTH.map(|family| SocketAddr::new(vip.of(family), PORT)).to_vec();
        wait_hops(&fabric, vip, &[0, 1][..amphorae]);
        // Not before: who asks while there is no route yet waits for as long as clients do, into the fault.
        let load = Load::start(&fabric.client, to, CLIENTS, PAUSE, CLIENTS_PATIENCE).unwrap();
        let site = Self { fabric, vip, load, kind };
        let served = || match site.load.take() {
            Outcome { failures, answers } if failures.is_empty() && answers.len() == amphorae => Ok(()),
            outcome => Err(format!("{:?}, {} failed", outcome.answers, outcome.failures.len())),
        };
        wait_for("all answer", PATIENCE, || {
            thread::sleep(Duration::from_millis(200));
            served()
        })
        .unwrap();
        site
    }

    pub(crate) fn amphora(&self, index: usize) -> &Amphora {
        &self.fabric.amphorae[index]
    }

    pub(crate) fn tor(&self) -> &Tor {
        &self.fabric.tors[0]
    }

    /// Waits until the ToR has these amphorae as next hops, in both families.
    #[track_caller]
    pub(crate) fn wait_hops(&self, amphorae: &[usize]) {
        wait_hops(&self.fabric, self.vip, amphorae);
    }

    /// The same, whatever a killed daemon has left beside.
    #[track_caller]
    pub(crate) fn wait_hops_besides(&self, amphorae: &[usize]) {
        for family in BOTH {
            let wanted = amphorae.iter().map(|index| self.amphora(*index).frontend(family)).collect::<Vec<_>>();
            let look = || match self.tor().kernel_routes(IpNet::from(self.vip.of(family))).unwrap() {
                hops if wanted.iter().all(|hop| hops.contains(hop)) => Ok(()),
                hops => Err(format!("{hops:?}")),
            };
            wait_for("all next hops", PATIENCE, look).unwrap();
        }
    }

    /// Whether the ToR's kernel says anything about the VIP.
    pub(crate) fn heard(&self, watch: &RouteWatch) -> Vec<String> {
        let about = |line: &str| BOTH.iter().any(|family| line.contains(&self.vip.of(*family).to_string()));
        watch.so_far().into_iter().map(|event| event.line).filter(|line| about(line)).collect()
    }

    pub(crate) fn restart_agent(&self, index: usize) -> Api {
        self.amphora(index).start_agent(&[]).unwrap();
        self.amphora(index).wait_api(PATIENCE).unwrap().0
    }

    /// A health manager on the controller, and its address as the amphorae are told it.
    pub(crate) fn manager(&self, port: u16) -> (Receiver, String) {
        let host = MANAGEMENT.host(CONTROLLER_HOST).of(Family::V4);
        let manager = Receiver::new(&self.fabric.controller, SocketAddr::new(host, port)).unwrap();
        let address = manager.address().unwrap().to_string();
        (manager, address)
    }

    /// Waits until the session with the ToR is up on both sides, and the ToR has been told both routes.
    pub(crate) fn wait_session(&self, index: usize) {
        self.tor().wait_established(self.amphora(index).management(Family::V4), PATIENCE).unwrap();
        let mut api = self.amphora(index).api().unwrap();
        let told = || match api.peers() {
            Ok(reply) if reply.json()[0]["advertised"] == 2 => Ok(()),
            Ok(reply) => Err(reply.text()),
            Err(error) => Err(lab::error::chain(&error)),
        };
        wait_for("a session with both routes", PATIENCE, told).unwrap();
    }

    /// Begins to look at what a fault does.
    pub(crate) fn fault(&self, what: &'static str) -> Fault<'_> {
        drop(self.load.take());
        Fault { site: self, what, began: Instant::now() }
    }
}

/// Waits until the ToR has these amphorae as next hops, in both families.
#[track_caller]
fn wait_hops(fabric: &Fabric, vip: Dual, amphorae: &[usize]) {
    for family in BOTH {
        let hops: Vec<_> = amphorae.iter().map(|index| fabric.amphorae[*index].frontend(family)).collect();
        fabric.tors[0].wait_next_hops(IpNet::from(vip.of(family)), &hops, PATIENCE).unwrap();
    }
}

/// Uploads and starts the load balancer.
pub(crate) fn serve(api: &mut Api, amphora: &Amphora, vip: Dual, more: &str) {
    let binds = BOTH.map(|family| SocketAddr::new(vip.of(family), PORT));
    let text = balancers::configuration(LB, &binds, amphora.name(), more);
    api.upload(amphora, LB, text).unwrap().success().unwrap();
    api.act(LB, "start").unwrap().success().unwrap();
}

/// A fault under way.
pub(crate) struct Fault<'a> {
    site: &'a Site,
    what: &'static str,
    pub(crate) began: Instant,
}

/// What clients had of it.
pub(crate) struct Seen {
    pub(crate) requests: usize,
    pub(crate) failures: Vec<Failure>,
    began: Instant,
}

impl Seen {
    pub(crate) fn failed(&self) -> usize {
        self.failures.len()
    }

    /// Nothing failed but connections that met another amphora: a ToR with other next hops spreads anew what is under way,
    /// and who does not know a connection resets it. Of each client that is one at most; 8 in all have been seen.
    #[track_caller]
    pub(crate) fn assert_only_moved(&self) {
        let moved = self.failures.iter().filter(|failure| failure.reason.contains("reset")).count();
        assert!(moved == self.failed() && moved <= CLIENTS, "{moved} were reset: {self}");
    }

    /// From the fault to the beginning of the last request that failed.
    pub(crate) fn lasted(&self) -> Duration {
        let last = self.failures.iter().map(|failure| failure.began).max();
        last.map_or(Duration::ZERO, |last| last.saturating_duration_since(self.began))
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} requests failed", self.failed(), self.requests)?;
        if let Some(last) = self.failures.last() {
            write!(f, " (the last begun {:.2?} after it; {})", self.lasted(), last.reason)?;
        }
        Ok(())
    }
}

impl Fault<'_> {
    /// Waits until the ToR has only these next hops left.
    #[track_caller]
    pub(crate) fn gone(&self, left: &[usize]) -> Duration {
        self.site.wait_hops(left);
        self.began.elapsed()
    }

    /// Says what clients saw so far, and what else there is to say. Requests under way still belong to it.
    pub(crate) fn end(self, more: &str) -> Seen {
        self.end_after(CLIENTS_PATIENCE + PAUSE, more)
    }

    /// The same where what was broken is whole: nobody waits for an answer any more.
    pub(crate) fn mended(self, more: &str) -> Seen {
        self.end_after(3 * PAUSE, more)
    }

    fn end_after(self, time: Duration, more: &str) -> Seen {
        thread::sleep(time);
        let outcome = self.site.load.take();
        let seen = Seen { requests: outcome.requests(), failures: outcome.failures, began: self.began };
        println!("{:?}, {}: {more}; {seen}", self.site.kind, self.what);
        seen
    }
}

/// Sends a signal to processes of a node, by their ids there. Killed, a master takes its workers along; so the first counts.
pub(crate) fn signal(amphora: &Amphora, pids: &[u32], signal: Signal) {
    let send = |pid: &u32| amphora.node().run(["sh", "-c", &format!("kill -{} {pid}", signal as i32)]).is_ok();
    let sent: Vec<_> = pids.iter().map(send).collect();
    assert!(sent.first().is_some_and(|sent| *sent), "{signal} to {pids:?}: {sent:?}");
}

/// Does the same with each kind of ToR, at the same time: most of it is waiting.
pub(crate) fn with_each_tor(test: impl Fn(TorKind) + Sync) {
    thread::scope(|scope| {
        let all = TORS.map(|kind| {
            let test = &test;
            scope.spawn(move || test(kind))
        });
        for one in all {
            if let Err(panic) = one.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
}

/// The longest time between two heartbeats, of the next `count` of them.
pub(crate) fn longest_gap(manager: &Receiver, count: usize) -> Duration {
    let mut last = manager.next(KEY, PATIENCE).unwrap().at;
    let mut longest = Duration::ZERO;
    for _ in 1..count {
        let at = manager.next(KEY, PATIENCE).unwrap().at;
        longest = longest.max(at - last);
        last = at;
    }
    longest
}
