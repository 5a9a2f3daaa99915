//! The task that looks, has it judged, and tells.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{Stream, StreamExt as _, stream};
use netns::{Change, Mac, Signal};
use tokio::{
    sync::{broadcast, watch},
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

use super::{
    Gates, Judged, Shown,
    ask::{self, Answers, Members, Questions},
    gate::{Counts, Gate, Reading, Verdict},
    look::{Looker, Readings, Subject},
    stopping::Stopping,
    transitions::Transitions,
    vip::{Decision, Settings, Vip},
};
use crate::{
    config::Config,
    converge::Progress,
    kernel::Kernel,
    owner::Shared,
    pulse::Pulse,
    resolve::{Policy, routed},
    services::{ServiceName, Services},
};

/// What is not known is asked for at once, but not more often than this.
const AT_ONCE: Duration = Duration::from_millis(20);

/// The task, ready to run.
#[derive(Debug)]
pub struct Health {
    config: watch::Receiver<Arc<Config>>,
    state: Arc<Shared>,
    kernel: Kernel,
    /// Tells of commits, for a plug brings VIPs.
    progress: Progress,
    services: broadcast::Receiver<ServiceName>,
    stopping: Stopping,
    told: watch::Sender<Arc<Gates>>,
    looker: Looker,
    started: Instant,
    vips: BTreeMap<IpAddr, Vip>,
    transitions: Transitions,
    subjects: Vec<Subject>,
    probed: BTreeMap<(Mac, IpAddr), tokio::time::Instant>,
}

impl Health {
    /// With what it looks at, and the end it tells to.
    #[must_use]
    pub fn new(
        config: watch::Receiver<Arc<Config>>,
        state: Arc<Shared>,
        kernel: Kernel,
        progress: Progress,
        services: &Services,
        stopping: Stopping,
        told: watch::Sender<Arc<Gates>>,
    ) -> Self {
        let looker = Looker::new(kernel.clone(), services.clone(), stopping.clone());
        let (vips, transitions, subjects, probed) = Default::default();
        let (services, started) = (services.events(), Instant::now());
        Self {
            config,
            state,
            kernel,
            progress,
            services,
            stopping,
            told,
            looker,
            started,
            vips,
            transitions,
            subjects,
            probed,
        }
    }

    /// Runs as long as the agent does.
    pub async fn run(mut self, pulse: Pulse) {
        let mut events = events(&self.kernel);
        let mut commits = self.progress.generations();
        let mut every = self.config.borrow().distributor.gates.interval;
        let mut tick = interval(every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut asking: Option<JoinHandle<Answers>> = None;
        let (mut due, mut asked) = (true, self.started);
        loop {
            pulse.waits_for(every);
            let answers = tokio::select! {
                _ = tick.tick() => { due = true; None }
                event = self.services.recv() => {
                    // One that lags has missed some, and looks at all.
                    if matches!(event, Err(broadcast::error::RecvError::Closed)) {
                        return;
                    }
                    self.looker.forget_statuses();
                    None
                }
                event = events.next() => {
                    if event.is_none() {
                        events = self::events(&self.kernel);
                    }
                    None
                }
                Ok(()) = commits.changed() => None,
                () = self.stopping.changed() => None,
                Ok(()) = self.config.changed() => {
                    let now = self.config.borrow_and_update().distributor.gates.interval;
                    if now != every {
                        every = now;
                        tick = interval(every);
                        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
                    }
                    None
                }
                answers = answered(&mut asking) => { asking = None; answers }
            };
            pulse.works();
            let config = self.config.borrow().clone();
            self.choose(&config);
            if self.subjects.is_empty() {
                self.tell();
                continue;
            }
            let mut readings = self.looker.look(&config.paths.base, &self.subjects, &pulse).await;
            if let Some(answers) = answers {
                self.understand(answers, &config, &mut readings);
            }
            let unknown = self.judge(&readings, &config);
            if (due || (unknown && asked.elapsed() > AT_ONCE)) && asking.is_none() {
                (due, asked) = (false, Instant::now());
                asking = Some(tokio::spawn(self.questions(&config).ask()));
            }
        }
    }

    /// Which VIPs there are to judge.
    fn choose(&mut self, config: &Config) {
        let policy = Policy::of(config);
        self.subjects = if policy.gated { self.state.read(|desired| routed(desired).collect()) } else { Vec::new() };
        let subjects = &self.subjects;
        self.vips.retain(|vip, _| subjects.iter().any(|subject| subject.vip == *vip));
        self.transitions.retain(|vip| self.vips.contains_key(&vip));
    }

    fn questions(&self, config: &Config) -> Questions {
        let running =
            |subject: &Subject| self.looker.running(subject.vip).map(|(lb, pid)| (lb.clone(), pid)).collect::<Vec<_>>();
        Questions {
            kernel: self.kernel.clone(),
            base: config.paths.base.clone(),
            lbs: self.subjects.iter().flat_map(running).collect(),
            gateways: self.subjects.iter().filter_map(|s| Some((s.nic, s.gateway?))).collect(),
            members: config.distributor.gates.members.is_some(),
            until: tokio::time::Instant::now() + config.distributor.gates.interval,
            probed: self.probed.clone(),
        }
    }

    /// From answers to readings.
    fn understand(&mut self, answers: Answers, config: &Config, readings: &mut Readings) {
        for subject in &self.subjects {
            let Some(of) = readings.get_mut(&subject.vip) else { continue };
            of.extend(
                subject
                    .gateway
                    .and_then(|gateway| Some((Gate::Gateway, answers.gateways.get(&(subject.nic, gateway))?.clone()))),
            );
            // What another process was asked, or did not answer, says nothing of this one.
            let same = |(lb, pid)| {
                let (asked, answer) = answers.lbs.get(lb)?;
                (*asked == pid).then_some((lb, answer))
            };
            let lbs: Vec<_> = self.looker.running(subject.vip).filter_map(same).collect();
            let Some((lb, first)) = lbs.first() else { continue };
            let reading = match lbs.iter().find_map(|(lb, answer)| Some((lb, answer.as_ref().err()?))) {
                Some((lb, error)) => Reading::new(Verdict::Fail, format!("haproxy of {lb} does not answer: {error}")),
                None => Reading::new(Verdict::Pass, format!("haproxy of {lb} answers")),
            };
            of.insert(Gate::Socket, reading);
            let (Some(marks), Ok(Some(_))) = (config.distributor.gates.members, first) else { continue };
            let counted = lbs.iter().filter_map(|(_, answer)| answer.as_ref().ok().copied().flatten());
            let sum =
                counted.fold(Members { up: 0, all: 0 }, |sum, m| Members { up: sum.up + m.up, all: sum.all + m.all });
            let vip = self.vips.get(&subject.vip);
            let closed = vip.is_some_and(|vip| vip.gates().any(|(g, s)| g == Gate::Members && s.open == Some(false)));
            of.insert(Gate::Members, ask::judge(sum, marks, closed));
        }
        self.probed = answers.probed;
    }

    /// Judges, tells, and says whether something is to be asked for at once.
    fn judge(&mut self, readings: &Readings, config: &Config) -> bool {
        let (now, gates) = (Instant::now(), &config.distributor.gates);
        let settings = Settings {
            counts: Counts { rise: gates.rise, fall: gates.fall },
            hold_down: gates.hold_down,
            last_resort: gates.last_resort,
        };
        let mut unknown = false;
        for subject in &self.subjects {
            let served = self.looker.lbs(subject.vip).next().is_some();
            let has = gates_of(subject, served, gates.members.is_some());
            let vip = self.vips.entry(subject.vip).or_insert_with(|| Vip::new(&has, now));
            vip.set_gates(&has, now);
            if let Some(readings) = readings.get(&subject.vip) {
                vip.observe(readings, &settings, now);
            }
            unknown |= vip.is_to_be_asked();
        }
        let started = self.started;
        let judged: BTreeMap<_, _> = self
            .vips
            .iter_mut()
            .map(|(ip, vip)| {
                let decision = vip.decide(&settings, started, now);
                let shown = |(gate, state): (Gate, &super::gate::State)| Shown {
                    gate,
                    open: state.open,
                    evidence: state.evidence.clone(),
                    since: state.since,
                };
                let lbs: Vec<_> = self.looker.lbs(*ip).cloned().collect();
                let leaving = lbs.iter().any(|lb| self.stopping.contains(lb));
                let wanted = readings.get(ip).is_some_and(|readings| is_wanted(!lbs.is_empty(), readings));
                let transitions = self.transitions.count(*ip, vip.gates().map(|(gate, state)| (gate, state.open)));
                (*ip, Judged { decision, gates: vip.gates().map(shown).collect(), lbs, leaving, wanted, transitions })
            })
            .collect();
        self.publish(Gates(judged));
        unknown
    }

    /// Tells that there is nothing to judge.
    fn tell(&mut self) {
        self.publish(Gates::default());
    }

    /// The evidence is replaced in silence; who waits is woken by another decision.
    fn publish(&self, gates: Gates) {
        self.told.send_if_modified(|held| {
            let changed = gates.changed(held);
            for vip in &changed {
                let was = held.0.get(vip).map(|judged| &judged.decision);
                match gates.0.get(vip).map(|judged| &judged.decision) {
                    Some(Decision::Announce) => tracing::info!(%vip, "fit to be announced"),
                    Some(Decision::Worse(why)) => tracing::warn!(%vip, why, "announced as the last resort only"),
                    Some(Decision::Hold(why)) => tracing::info!(%vip, why, "its announcement stays as it is"),
                    Some(Decision::Withdraw(why)) if was == Some(&Decision::Announce) => {
                        tracing::warn!(%vip, why, "not fit to be announced any more");
                    }
                    Some(Decision::Withdraw(why)) => tracing::info!(%vip, why, "not fit to be announced"),
                    None => {}
                }
            }
            *held = Arc::new(gates);
            !changed.is_empty()
        });
    }
}

/// The gates a VIP has.
fn gates_of(subject: &Subject, served: bool, members: bool) -> Vec<Gate> {
    let mut gates = vec![Gate::Process, Gate::Listener, Gate::Bound, Gate::Carrier];
    gates.extend(served.then_some(Gate::Socket));
    gates.extend(subject.gateway.map(|_| Gate::Gateway));
    gates.extend((served && members).then_some(Gate::Members));
    gates
}

/// Whether somebody serves the VIP, or would if nothing had failed: a load balancer binds it and was not stopped by a call,
/// or LVS or another program listens on it.
fn is_wanted(served: bool, readings: &BTreeMap<Gate, Reading>) -> bool {
    let is = |gate, verdict| readings.get(&gate).is_some_and(|reading| reading.verdict == verdict);
    (served || is(Gate::Listener, Verdict::Pass)) && !is(Gate::Process, Verdict::Off)
}

/// Waits for the answers, if any are waited for.
async fn answered(asking: &mut Option<JoinHandle<Answers>>) -> Option<Answers> {
    match asking {
        Some(asking) => asking.await.ok(), // its panic is reported by the hook
        None => std::future::pending().await,
    }
}

/// Links and addresses inside; ends to be opened again.
fn events(kernel: &Kernel) -> impl Stream<Item = Signal> + Unpin + use<> {
    let concerns = |signal: &Signal| {
        let is = matches!(signal, Signal::EventsLost | Signal::Changed(Change::Link | Change::Address));
        std::future::ready(is)
    };
    match kernel.inside().watch() {
        Ok(events) => events.filter(concerns).boxed(),
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "no events from the kernel; relying on the timer");
            stream::pending().boxed()
        }
    }
}
