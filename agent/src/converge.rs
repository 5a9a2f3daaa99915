//! The one task that makes the world what was asked for.
//!
//! A pass reads what is there, plans, takes the steps, and reads again until nothing is left to do or
//! something fails; then it sleeps until there is news: a commit, the kernel's events, a speaker that came
//! or went, or a timer. It keeps no picture of the world between passes but what the kernel said since its
//! last event, so a crash at any point costs nothing but a new first pass.
//!
//! The speaker is optional at every moment. While it is away nothing waits for it: VIPs are plugged,
//! commits are answered, and what could not be announced says why.

mod events;
mod files;
mod masquerade;
mod report;
mod scope;
mod speaker;

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use files::Files;
use futures_util::StreamExt as _;
use netns::Mac;
use report::Teller;
pub use report::{Progress, Report, Unready};
use scope::{Scope, narrow};
use tokio::{sync::watch, time::Instant};

use crate::{
    api::error::with_causes,
    config::Config,
    crash,
    health::{self, Gates},
    kernel::{Applied, Kernel, Seen},
    owner::Shared,
    plan::{Device, Step, kept, plan},
    pulse::Pulse,
    resolve::{self, Announcements, Policy},
    speaker::Link,
    state::{Desired, VipMode},
};

/// How often everything is read again although nothing was heard.
const RESYNC: Duration = Duration::from_secs(30);
/// How soon a failed pass is tried again, in milliseconds; the last for ever.
const RETRY: [u64; 5] = [100, 250, 1_000, 2_000, 5_000];
/// The longest pause while a peer may hold a VIP that shall go.
const UNTOLD: Duration = Duration::from_secs(1);
/// How long after the agent's start a new speaker waits with its sessions for VIPs whose gates are not known yet: with
/// graceful restart a peer has kept their routes, and drops them when it is told all and they are not among it.
const UNDECIDED: Duration = Duration::from_secs(10);
/// Passes in a row without news, each of which changed something; more is two of us fighting.
const PASSES: usize = 6;
/// Events come in bursts, our own among them: how long to wait for the rest of one.
const BURST: Duration = Duration::from_millis(20);
/// The same when somebody fights us for what is ours.
const FIGHT: Duration = Duration::from_secs(1);

/// The task, ready to run.
#[derive(Debug)]
pub struct Converge {
    shared: Arc<Shared>,
    kernel: Kernel,
    config: watch::Receiver<Arc<Config>>,
    /// What the configuration says, as of the last look at it.
    policy: Policy,
    /// Absent without `[bgp]`.
    link: Option<Link>,
    /// The gates of own VIPs.
    gates: health::Watch,
    /// As they were when the last pass was decided on.
    heeded: Arc<Gates>,
    teller: Teller,
    /// What the kernel last said, until an event says it is old.
    seen: Option<Seen>,
    /// The NICs whose steps failed in the last pass, and how.
    failed: HashMap<Mac, Unready>,
    /// The addresses that could not be taken away in the last pass, and why.
    stuck: BTreeMap<IpAddr, String>,
    /// Why the firewall could not be set in the last pass.
    filter: Option<Unready>,
    files: Files,
    /// The bound VIPs that peers may have heard of, and when they first did; `None` for those that were bound before this
    /// agent. Absent before the first look.
    exposed: Option<BTreeMap<IpAddr, Option<std::time::Instant>>>,
    /// Why a VIP that shall go may be known to a peer, as of the last look.
    holder: Option<String>,
    masquerade: masquerade::Rules,
    started: Instant,
}

/// What a pass came to.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Default)]
struct Outcome {
    /// The kernel was changed, or the speaker does not hold what it was told: another pass shall look.
    changed: bool,
    failed: bool,
    /// The speaker was told something.
    told: bool,
    /// What it refused, in its words.
    refused: Option<String>,
    /// The speaker said all it announces, and was told the rest.
    heard: bool,
    /// A VIP may yet be announced, for which peers that kept its route over a restart are worth waiting for.
    undecided: bool,
}

impl Converge {
    /// Makes the task and the view on it.
    pub fn new(
        shared: Arc<Shared>,
        kernel: Kernel,
        config: watch::Receiver<Arc<Config>>,
        link: Option<Link>,
        gates: health::Watch,
    ) -> (Self, Progress) {
        let (teller, progress) = report::channel();
        let (seen, failed, stuck, filter, files, exposed, holder, masquerade) = Default::default();
        let policy = Policy::of(&config.borrow());
        let new = Self {
            shared,
            kernel,
            config,
            policy,
            link,
            gates,
            heeded: Arc::default(),
            teller,
            seen,
            failed,
            stuck,
            filter,
            files,
            exposed,
            holder,
            masquerade,
            started: Instant::now(),
        };
        (new, progress)
    }

    /// Runs until the namespace it works in is not `amphora-haproxy` any more; then the agent has to start over.
    pub async fn run(mut self, pulse: Pulse) {
        let mut events = events::of(&self.kernel);
        let mut speaker_news = self.link.as_ref().map(Link::news);
        let mut scope = self.scope(true);
        let mut retry = 0;
        // When to look again, because the kernel has said that something changed.
        let mut stale: Option<Instant> = None;
        loop {
            let (outcome, passes) = self.settle(&scope, &pulse).await;
            let pause = if outcome.failed {
                retry += 1;
                let pause = Duration::from_millis(RETRY[(retry - 1).min(RETRY.len() - 1)]);
                // A young session has told all in a few seconds, and an unplug waits for that.
                if self.holder.is_some() { pause.min(UNTOLD) } else { pause }
            } else {
                retry = 0;
                if outcome.undecided { UNDECIDED } else { RESYNC }
            };
            let again = Instant::now() + pause;
            pulse.waits_for(pause);
            let all = loop {
                tokio::select! {
                    () = self.shared.changed() => break false,
                    event = events.next() => {
                        if event.is_none() {
                            events = events::of(&self.kernel);
                        }
                        let burst = if passes == PASSES { FIGHT } else { BURST };
                        stale.get_or_insert_with(|| Instant::now() + burst);
                    }
                    () = events::changed(&mut speaker_news) => break true,
                    Ok(()) = self.gates.changed() => break false,
                    Ok(()) = self.config.changed() => break true,
                    () = tokio::time::sleep_until(stale.unwrap_or(again).min(again)) => break true,
                }
            };
            if all {
                self.seen = None;
                stale = None;
                self.policy = Policy::of(&self.config.borrow_and_update());
                if !self.kernel.is_current().unwrap_or(true) {
                    tracing::error!("the namespace amphora-haproxy was made anew by somebody; starting over");
                    return;
                }
            }
            scope = self.scope(all || outcome.failed);
        }
    }

    /// Passes until nothing is left to do or something fails; how many it took.
    async fn settle(&mut self, scope: &Scope, pulse: &Pulse) -> (Outcome, usize) {
        let mut passes = 0;
        let outcome = loop {
            pulse.works();
            let outcome = self.pass(scope).await;
            self.teller.pass_over();
            passes += 1;
            if outcome.failed || !outcome.changed || passes == PASSES {
                break outcome;
            }
        };
        // A speaker nobody could talk to may have an empty table, which its peers must not see.
        if let (Some(link), true) = (&self.link, outcome.heard) {
            link.settle().await;
        }
        (outcome, passes)
    }

    async fn pass(&mut self, scope: &Scope) -> Outcome {
        let dirty = &scope.dirty;
        let desired = self.shared.read(|d| if scope.everything { d.clone() } else { narrow(d, dirty) });
        let seen = match self.seen.take() {
            Some(seen) if !scope.everything => seen,
            before => {
                let facts = before.map(|seen| seen.facts).unwrap_or_default();
                match self.kernel.look(&resolve::kernel(&desired, &facts, &self.policy)).await {
                    Ok(seen) => seen,
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(error, "the kernel cannot be read; trying again");
                        return Outcome { failed: true, ..Outcome::default() };
                    }
                }
            }
        };
        // What the NICs got by themselves has a say in what is wanted.
        let mut want = resolve::kernel(&desired, &seen.facts, &self.policy);
        let own = resolve::own(&desired, &seen.facts, &self.policy);
        let registrations = dirty.vips.iter().filter_map(|v| desired.registrations.get(v).or_else(|| own.get(v)));
        let announcements = Announcements::of(registrations, &desired, &seen.facts, &self.policy, &self.heeded);

        let mut have = seen.have.clone();
        if !scope.everything {
            // A plug may have gone since this pass was decided on. Its VIPs may be announced, and this pass does
            // not ask about them; the next one will.
            have.addresses.retain(|a| want.addresses.contains(a));
            have.rules.retain(|r| want.rules.contains(r));
            have.routes.retain(|k, _| want.routes.contains_key(k) || want.host_routes.contains_key(k));
            // So its firewall stays as well.
            have.filter.take_if(|_| want.filter.is_none());
        }
        let asked = Self::asked(scope, &have.addresses);
        have.announced = if scope.everything { self.announced(scope, &asked).await } else { self.unknown(&asked) };
        let nothing = BTreeMap::new();
        let announced = have.announced.as_ref().unwrap_or(&nothing);
        let undecided = announcements.held.keys().any(|vip| !announced.contains_key(vip));
        let (open, closed) = announcements.beside(announced);
        want.announced = open;
        if scope.everything {
            self.holder = self.holder(&want, &have).await;
            have.stale = self.holder.is_some();
        }
        let steps = plan(&want, &have);
        let (to_kernel, to_speaker): (Vec<_>, Vec<_>) =
            steps.into_iter().partition(|s| !matches!(s, Step::Withdraw(_) | Step::Announce(_)));
        let (withdraw, announce): (Vec<_>, Vec<_>) =
            to_speaker.into_iter().partition(|s| matches!(s, Step::Withdraw(_)));

        let paths = self.config.borrow().paths.clone();
        let files = scope.everything.then(|| self.files.write(&desired, &self.policy, &paths)).flatten();
        let inside = self.kernel.inside().namespace();
        let masquerade = scope.everything.then(|| self.masquerade.set(&desired, inside)).flatten();
        let undecided = undecided && self.started.elapsed() < UNDECIDED;
        let heard = scope.everything && have.announced.is_some() && !undecided;
        let mut outcome = Outcome { heard, undecided, ..Outcome::default() };
        let withdrawn = self.speak(&withdraw, &mut outcome).await;
        let untold =
            if withdrawn { self.untold(&to_kernel).await } else { Some("a VIP could not be withdrawn".into()) };
        outcome.failed |= untold.is_some();
        self.failed.clone_from(&seen.troubles);
        self.stuck.clear();
        self.filter = None;
        for step in &to_kernel {
            // What could not be withdrawn stays bound.
            let deletes = matches!(step, Step::DeleteAddress(_) | Step::DeleteRule(_) | Step::DeleteRoute(..));
            if let (true, Some(why)) = (deletes, &untold) {
                self.stay(step, why);
                continue;
            }
            self.step(step, &desired, &mut outcome).await;
        }
        if let Some(files) = files {
            outcome.failed |= !self.files.written(files).await;
        }
        if let Some(masquerade) = masquerade {
            outcome.failed |= !self.masquerade.is_set(masquerade).await;
        }
        if scope.everything {
            outcome.failed |= have.stale && kept(&want, &have).next().is_some();
            self.report_kernel(&want, &have);
        }
        // A listener takes a VIP over that was just unregistered.
        self.teller.own(own, (!scope.everything).then_some(&dirty.vips));
        let facts = seen.facts.clone();
        self.seen = (!outcome.changed && !outcome.failed).then_some(seen);
        self.teller.reached(dirty.generation);

        // A VIP whose plug failed half-way is not announced in this pass.
        let plugged = |s: &&Step| match s {
            Step::Announce(a) => desired.plug_of(a.prefix.address()).is_none_or(|p| !self.failed.contains_key(&p.mac)),
            _ => true,
        };
        let announce: Vec<_> = announce.iter().filter(plugged).cloned().collect();
        if !announce.is_empty() {
            self.expose(&announce);
            let gateways = resolve::gateways(&desired, &facts);
            tokio::join!(self.kernel.resolve(&gateways), self.speak(&announce, &mut outcome));
        }
        if outcome.told || !scope.everything {
            // Read back. When that is what was wanted, there is no need for another pass to see it.
            have.announced = self.announced(scope, &asked).await;
            let speakers = |s: &Step| matches!(s, Step::Withdraw(_) | Step::Announce(_));
            outcome.changed |= outcome.told && plan(&want, &have).iter().any(speakers);
        }
        self.report_speaker(&dirty.vips, closed, &want, have.announced, outcome.refused.as_deref());
        outcome
    }

    /// Takes one of the kernel's steps, unless an earlier one of the same NIC failed.
    async fn step(&mut self, step: &Step, desired: &Desired, outcome: &mut Outcome) {
        let nic = nic_of(step, desired);
        if let Some(why) = nic.and_then(|n| self.failed.get(&n)).map(|u| u.why().to_owned()) {
            return self.stay(step, &why);
        }
        let why = match self.kernel.apply(step).await {
            Ok(Applied::Changed) => {
                tracing::info!(?step, "done");
                outcome.changed = true;
                return crash::point("kernel: after a step");
            }
            Ok(Applied::Same) => return,
            Ok(Applied::NotYet(why)) => {
                tracing::debug!(?step, why, "not yet");
                Unready::Waiting(why)
            }
            Err(error) => {
                tracing::warn!(?step, error = &error as &dyn std::error::Error, "failed; trying again");
                Unready::Failed(with_causes(&error))
            }
        };
        outcome.failed = true;
        self.stay(step, why.why());
        match step {
            // Without silence no VIP of any plug on `lo` may come up.
            Step::Silence | Step::LoUp => {
                let on_lo = desired.plugs.values().filter(|p| p.mode != VipMode::Interface);
                self.failed.extend(on_lo.map(|p| (p.mac, why.clone())));
            }
            // Nor may a virtual function without its firewall.
            Step::Filter(_) => {
                let plugs = desired.plugs.values().filter(|p| p.is_sriov).map(|p| p.mac);
                let networks = desired.networks.values().filter(|n| n.is_sriov).map(|n| n.mac);
                self.failed.extend(plugs.chain(networks).map(|mac| (mac, why.clone())));
                self.filter = Some(why);
            }
            _ => self.failed.extend(nic.map(|n| (n, why))),
        }
    }

    /// Notes that an address that nobody wants stays.
    fn stay(&mut self, step: &Step, why: &str) {
        if let Step::DeleteAddress(address) = step {
            self.stuck.insert(address.ip, why.to_owned());
        }
    }
}

/// Whose plug a step belongs to.
fn nic_of(step: &Step, desired: &Desired) -> Option<Mac> {
    let of_vip = |ip: IpAddr| desired.plug_of(ip).map(|p| p.mac);
    match step {
        Step::Adopt(mac, _) | Step::SetMtu(mac, _) | Step::Autoconf(mac) | Step::SetUp(mac) => Some(*mac),
        Step::AddAddress(a) | Step::DeleteAddress(a) => match a.device {
            Device::Nic(mac) => Some(mac),
            Device::Lo => of_vip(a.ip),
        },
        Step::AddRoute(_, path) | Step::AddHostRoute(_, path) | Step::DeleteRoute(_, path) => Some(path.nic),
        Step::AddRule(rule) | Step::DeleteRule(rule) => of_vip(rule.from),
        // Those of `lo` and of the firewall are everybody's.
        Step::Silence
        | Step::Unsilence
        | Step::Filter(_)
        | Step::Unfilter
        | Step::LoUp
        | Step::Withdraw(_)
        | Step::Announce(_) => None,
    }
}
