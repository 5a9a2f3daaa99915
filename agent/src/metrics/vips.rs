//! The VIPs: which are meant to be announced, which are, what stands in the way, and what is being drained.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{list, text::Text};
use crate::{
    api::App,
    drain::told,
    health::{Judged, vip::Decision},
    resolve::is_self,
    state::{Drain, Registration, Stage},
};

pub(super) fn write(text: &mut Text, app: &App) {
    let gates = app.gates.borrow().clone();
    let own: Vec<IpAddr> = app.progress.read(|report| report.own.keys().map(|vip| vip.address()).collect());
    let announced: BTreeSet<IpAddr> =
        app.progress.read(|report| report.announced.iter().map(|vip| vip.address()).collect());
    let Asked { registered, silenced, drains } = Asked::of(app);
    let mut desired: BTreeSet<IpAddr> =
        registered.iter().filter(|(_, is_own)| !(*is_own && silenced)).map(|(vip, _)| *vip).collect();
    desired.extend(own.iter().filter(|vip| !silenced && gates.0.get(vip).is_some_and(|judged| judged.wanted)));
    desired.retain(|vip| drains.get(vip).is_none_or(|drain| drain.stage == Stage::Deprefer));
    let draining: BTreeSet<IpAddr> = drains.keys().copied().collect();

    let vips = registered.iter().map(|(vip, _)| *vip).chain(own);
    let all: BTreeSet<IpAddr> = vips.chain(announced.iter().copied()).chain(draining.iter().copied()).collect();
    let each = |those: &BTreeSet<IpAddr>| -> Vec<_> {
        all.iter().map(|vip| ([vip.to_string()], u8::from(those.contains(vip)))).collect()
    };
    text.metric(&list::VIP_DESIRED, each(&desired));
    text.metric(&list::VIP_ANNOUNCED, each(&announced));

    let worse = |judged: &Judged| u8::from(matches!(judged.decision, Decision::Worse(_)));
    text.metric(&list::LAST_RESORT, gates.0.iter().map(|(vip, judged)| ([vip.to_string()], worse(judged))));
    let shown = gates.0.iter().flat_map(|(vip, judged)| judged.gates.iter().map(move |shown| (vip, shown)));
    let open =
        shown.filter_map(|(vip, shown)| Some(([vip.to_string(), shown.gate.name().to_owned()], u8::from(shown.open?))));
    text.metric(&list::GATE_OK, open);
    let transitions = gates.0.iter().flat_map(|(vip, judged)| {
        judged.transitions.iter().map(move |(gate, count)| ([vip.to_string(), gate.name().to_owned()], *count))
    });
    text.metric(&list::GATE_TRANSITIONS, transitions);

    text.metric(&list::VIP_DRAINING, each(&draining));
    let stage = |(vip, drain): (&IpAddr, &Drain)| {
        ([vip.to_string(), name_of(app.progress.read(|report| told(drain, report))).to_owned()], 1)
    };
    text.metric(&list::DRAIN_STAGE, drains.iter().map(stage));
    let observed = |drain: &Drain| app.drains.of(&drain.vip);
    let deadline = drains.iter().map(|(vip, drain)| {
        ([vip.to_string()], observed(drain).map_or(drain.deadline, |observed| observed.deadline(drain)))
    });
    text.metric(&list::DRAIN_DEADLINE, deadline);
    let connections = drains.iter().filter_map(|(vip, drain)| Some(([vip.to_string()], observed(drain)?.connections?)));
    text.metric(&list::VIP_CONNECTIONS, connections);
}

/// What calls have asked for.
struct Asked {
    /// VIPs, and whether this amphora serves them itself.
    registered: Vec<(IpAddr, bool)>,
    /// By `PUT /1.0/vrrp/stop`.
    silenced: bool,
    drains: BTreeMap<IpAddr, Drain>,
}

impl Asked {
    fn of(app: &App) -> Self {
        app.owner.shared().read(|desired| {
            let is_own =
                |r: &Registration| desired.plug_of(r.vip.address()).is_some() || is_self(&r.server, &app.policy);
            Self {
                registered: desired.registrations.values().map(|r| (r.vip.address(), is_own(r))).collect(),
                silenced: desired.silenced,
                drains: desired.drains.iter().map(|(vip, drain)| (vip.address(), drain.clone())).collect(),
            }
        })
    }
}

/// As the API calls it.
fn name_of(stage: Stage) -> &'static str {
    match stage {
        Stage::Deprefer => "deprefer",
        Stage::Withdrawn => "withdrawn",
        Stage::Drained => "drained",
    }
}
