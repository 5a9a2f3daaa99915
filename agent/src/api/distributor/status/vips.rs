//! Each VIP of the status: where it is, and whether it is announced as it should be.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use bgp::PeerId;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    api::{
        App,
        distributor::route::{self, ProvisioningStatus, Route},
    },
    health::{Judged, gate::Gate, vip::Decision},
    state::{Desired, Stage, VipMode},
};

/// What a VIP is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum VipState {
    /// A peer is sent it.
    Announced,
    /// It is being taken out of service.
    Draining,
    /// It should be announced and is not.
    Pending,
    /// Nobody wants it announced: nothing listens on it, its load balancer was stopped, or nobody registered it.
    Idle,
    /// It is being withdrawn.
    Leaving,
    /// It is reached without BGP (`vip_mode` `interface` or `noarp`).
    Bound,
}

/// A VIP.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = VipStatus)]
pub(super) struct VipView {
    #[schema(value_type = String)]
    pub(super) vip_ip: IpAddr,
    /// Null where it is not plugged here.
    pub(super) vip_mode: Option<VipMode>,
    /// The front-end NIC inside the namespace; null where it is not plugged here.
    pub(super) interface: Option<String>,
    pub(super) state: VipState,
    /// A peer is sent it.
    pub(super) announced: bool,
    /// `state` is not what it should be.
    pub(super) degraded: bool,
    /// Null while there is nothing that could be announced.
    #[schema(value_type = Option<String>)]
    pub(super) nexthop_ip: Option<IpAddr>,
    /// The peers it is sent to.
    #[schema(value_type = Vec<String>)]
    pub(super) advertised_to: Vec<PeerId>,
    /// What keeps it from being announced, or heard by every peer.
    pub(super) reason: Option<String>,
    /// What kind of reason that is.
    #[serde(skip)]
    pub(super) cause: Cause,
    /// Something that somebody asked for, or that has a worse route than others: worth a word, and no fault.
    #[serde(skip)]
    pub(super) notice: Option<String>,
}

/// What keeps a VIP from being announced: each kind has a fix of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Cause {
    /// The speaker announces it and sends it to no peer.
    Unheard,
    /// A gate is closed: the first of them.
    Closed(Gate),
    /// All gates are open, and it has failed too often.
    Damped,
    /// A gate is not known yet, or the agent has just started.
    Undecided,
    /// Its reason says it.
    #[default]
    Other,
}

impl Cause {
    fn of(route: Option<&Route>, judged: Option<&Judged>) -> Self {
        if route.is_some_and(|route| route.provisioning() == ProvisioningStatus::Active) {
            return Self::Unheard;
        }
        judged.filter(|_| route.is_some()).map_or(Self::Other, Self::judged)
    }

    /// By the gates.
    fn judged(judged: &Judged) -> Self {
        let closed = judged.gates.iter().find(|gate| gate.open == Some(false));
        match (&judged.decision, closed) {
            (Decision::Withdraw(_), Some(closed)) => Self::Closed(closed.gate),
            (Decision::Withdraw(_), None) => Self::Damped,
            (Decision::Hold(_), _) => Self::Undecided,
            (Decision::Announce | Decision::Worse(_), _) => Self::Other,
        }
    }
}

/// What is to be said of a VIP that is being drained, or is announced as the last resort.
fn notice(vip: IpAddr, route: &Route, judged: Option<&Judged>) -> Option<String> {
    match (route.drain_stage(), judged.map(|judged| &judged.decision)) {
        (Some(Stage::Deprefer), _) => Some(format!(
            "VIP {vip} is being drained: announced, less preferred than others; amphoractl undrain ends it"
        )),
        // It begins with the VIP.
        (Some(Stage::Withdrawn | Stage::Drained), _) => Some(format!("VIP {}", route.reason()?)),
        (None, Some(Decision::Worse(why))) if !route.hearers().is_empty() => {
            Some(format!("VIP {vip} is announced as the last resort only: {why}"))
        }
        (None, _) => None,
    }
}

/// Where a VIP is plugged.
struct Plugged {
    mode: VipMode,
    interface: String,
}

/// All that are plugged or have a route. If the speaker did not answer a moment ago, and that is `why`, it is not asked.
pub(super) async fn look(app: &App, why: Option<String>) -> Vec<VipView> {
    let routes: BTreeMap<_, _> = route::all(app, why).await.into_iter().map(|r| (r.way().0, r)).collect();
    let plugged = app.owner.shared().read(plugged);
    let mut all: BTreeSet<_> = plugged.keys().copied().collect();
    all.extend(routes.keys());
    let gates = app.gates.borrow().clone();
    let looked = app.progress.read(|report| report.bound.is_some());
    let missing = |plugged: &Plugged| route::missing(plugged.mode, app.policy.gated, app.speaker.is_some(), looked);
    let view = |vip| {
        let (plugged, route) = (plugged.get(&vip), routes.get(&vip));
        let judged = gates.0.get(&vip);
        VipView {
            cause: Cause::of(route, judged),
            notice: route.and_then(|route| notice(vip, route, judged)),
            ..view(vip, plugged, route, app.policy.gated, plugged.map_or("", missing))
        }
    };
    all.into_iter().map(view).collect()
}

fn plugged(desired: &Desired) -> BTreeMap<IpAddr, Plugged> {
    let of = |plug: &crate::state::Plug| {
        let here = || Plugged { mode: plug.mode, interface: plug.interface.to_string() };
        plug.vips.iter().map(|vip| (vip.ip, here())).collect::<Vec<_>>()
    };
    desired.plugs.values().flat_map(of).collect()
}

fn view(vip: IpAddr, plugged: Option<&Plugged>, route: Option<&Route>, gated: bool, missing: &str) -> VipView {
    let heard = route.is_some_and(|route| !route.hearers().is_empty());
    let degraded = route::is_missing(route, plugged.map(|plugged| plugged.mode), gated);
    let state = match (route, plugged) {
        (Some(route), _) if route.drain_stage().is_some() => VipState::Draining,
        (Some(route), _) if route.provisioning() == ProvisioningStatus::PendingDelete => VipState::Leaving,
        (Some(_), _) if heard => VipState::Announced,
        _ if degraded => VipState::Pending,
        (Some(_), _) | (None, Some(Plugged { mode: VipMode::Anycast, .. })) => VipState::Idle,
        (None, _) => VipState::Bound,
    };
    let reason = match (route, state) {
        (Some(route), _) => route.reason(),
        (None, VipState::Pending | VipState::Idle) => Some(missing.to_owned()),
        (None, _) => None,
    };
    VipView {
        vip_ip: vip,
        vip_mode: plugged.map(|plugged| plugged.mode),
        interface: plugged.map(|plugged| plugged.interface.clone()),
        state,
        announced: heard,
        degraded,
        nexthop_ip: route.map(|route| route.way().1),
        advertised_to: route.map(|route| route.hearers().to_vec()).unwrap_or_default(),
        reason,
        cause: Cause::default(),
        notice: None,
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Instant};

    use super::*;
    use crate::health::Shown;

    #[test]
    fn a_vip_without_a_route_has_no_gate_to_blame() {
        let shown = |gate, open| Shown { gate, open: Some(open), evidence: String::new(), since: Instant::now() };
        let gates = vec![shown(Gate::Process, true), shown(Gate::Listener, false), shown(Gate::Carrier, false)];
        let (lbs, transitions) = (Vec::new(), BTreeMap::new());
        let decision = Decision::Withdraw("listener: closed".into());
        let judged = Judged { decision, gates, lbs, leaving: false, wanted: true, transitions };
        assert_eq!(Cause::of(None, Some(&judged)), Cause::Other);
        assert_eq!(Cause::of(None, None), Cause::Other);
        assert_eq!(Cause::judged(&judged), Cause::Closed(Gate::Listener), "it explains those after it");
        let open = Judged { gates: vec![shown(Gate::Process, true)], ..judged };
        assert_eq!(Cause::judged(&open), Cause::Damped);
        let hold = Judged { decision: Decision::Hold("process is not known".into()), ..open };
        assert_eq!(Cause::judged(&hold), Cause::Undecided);
    }
}
