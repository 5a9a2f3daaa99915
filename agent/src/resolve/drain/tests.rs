use proptest::prelude::*;

use super::*;
use crate::{
    health::Gates,
    plan::{Address, Want, WantAnnounced},
    resolve::{Announcements, Policy, announced, kernel, tests as of},
    state::{Change, Registration, Server, VipMode},
};

const VIP: &str = "203.0.113.7";

fn served() -> (Desired, Registration) {
    let mut desired = of::desired(of::plug(VipMode::Anycast));
    let registration = of::registration("me", VIP, "192.0.2.10");
    desired.registrations.insert(registration.vip, registration.clone());
    (desired, registration)
}

fn drain(vip: Prefix, stage: Stage) -> Drain {
    Drain { vip, amphora: "me".into(), own: true, stage, since: 0, deadline: 60, timeout_s: 60, max_connections: 0 }
}

/// What the kernel and the speaker are to hold.
fn wanted(desired: &Desired, registration: &Registration) -> (Want, Result<WantAnnounced, Closed>) {
    let facts = of::facts(vec![of::address("192.0.2.10/24", true)]);
    (kernel(desired, &facts, &of::policy()), announced(registration, desired, &facts, &of::policy()))
}

#[test]
fn a_vip_is_less_preferred_then_withdrawn_then_unbound_with_all_else_in_place() {
    let (mut desired, registration) = served();
    let before = wanted(&desired, &registration);
    let vip = Address::vip(of::ip(VIP));

    desired.apply(Change::Drain(drain(registration.vip, Stage::Deprefer)));
    let (want, announced) = wanted(&desired, &registration);
    assert_eq!(want, before.0);
    let (now, was) = (announced.unwrap().announcement, before.1.as_ref().unwrap().announcement.clone());
    assert_eq!((now.prefix, now.next_hop, &now.audience), (was.prefix, was.next_hop, &was.audience));
    let (less, plain) = (now.attributes, was.attributes);
    assert_eq!(less.communities, ["65535:0".parse().unwrap()].into());
    assert_eq!((less.prepend, less.local_pref, less.med), (plain.prepend + 1, Some(0), plain.med));

    desired.apply(Change::Drain(drain(registration.vip, Stage::Withdrawn)));
    let (want, announced) = wanted(&desired, &registration);
    assert_eq!(want, before.0);
    assert!(announced.unwrap_err().contains("undrain ends it"));

    desired.apply(Change::Drain(drain(registration.vip, Stage::Drained)));
    let (want, announced) = wanted(&desired, &registration);
    assert!(!want.addresses.contains(&vip) && announced.is_err());
    assert_eq!((&want.nics, &want.routes, want.silent), (&before.0.nics, &before.0.routes, true));

    desired.apply(Change::Undrain(registration.vip));
    assert_eq!(wanted(&desired, &registration), before);
}

/// An agent that has just started does not know the gates yet; it may have died before it told the speaker of the drain.
#[test]
fn a_drain_is_heeded_also_while_the_gates_are_not_known() {
    let (mut desired, registration) = served();
    let facts = of::facts(vec![of::address("192.0.2.10/24", true)]);
    let policy = Policy { gated: true, ..of::policy() };
    let beside = |desired: &Desired, held: &WantAnnounced| {
        let announced = [(registration.vip, Some(held.announcement.clone()))].into();
        let all = Announcements::of([&registration], desired, &facts, &policy, &Gates::default());
        all.beside(&announced).0.remove(&registration.vip)
    };
    let plain = announced(&registration, &desired, &facts, &policy).unwrap();
    assert_eq!(beside(&desired, &plain).as_ref(), Some(&plain));
    desired.apply(Change::Drain(drain(registration.vip, Stage::Deprefer)));
    let less = announced(&registration, &desired, &facts, &policy).unwrap();
    assert_ne!(less, plain);
    assert_eq!(beside(&desired, &plain).as_ref(), Some(&less));
    desired.apply(Change::Undrain(registration.vip));
    assert_eq!(beside(&desired, &less).as_ref(), Some(&plain), "a drain that is over, too");
    desired.apply(Change::Drain(drain(registration.vip, Stage::Withdrawn)));
    assert_eq!(beside(&desired, &less), None);
}

#[derive(Clone, Debug)]
enum Call {
    Drain(Stage),
    Undrain,
    Plug,
    Unplug,
    Register(&'static str),
    Unregister,
}

fn call() -> impl Strategy<Value = Call> {
    let stage = prop::sample::select(vec![Stage::Deprefer, Stage::Withdrawn, Stage::Drained]);
    prop_oneof![
        stage.prop_map(Call::Drain),
        Just(Call::Undrain),
        Just(Call::Plug),
        Just(Call::Unplug),
        prop::sample::select(vec!["me", "other"]).prop_map(Call::Register),
        Just(Call::Unregister),
    ]
}

proptest! {
    /// Whatever is called in whatever order: what is announced from here is bound here, a drain is about something that is
    /// there, a cancelled one leaves no trace, and the state that is written is the state that is read.
    #[test]
    fn nothing_announced_is_unbound_and_no_drain_outlives_what_it_is_about(calls in prop::collection::vec(call(), 1..20)) {
        let (mut desired, served) = served();
        let vip = served.vip;
        for call in calls {
            let before = desired.clone();
            match call {
                // What the calls refuse does not come here.
                Call::Drain(_) if desired.plugs.is_empty() && desired.registrations.is_empty() => continue,
                Call::Drain(stage) => {
                    let amphora = match desired.registrations.get(&vip).map(|r| r.server.clone()) {
                        Some(Server::Amphora(id)) => id,
                        _ => "me".to_owned(),
                    };
                    let own = amphora == "me";
                    desired.apply(Change::Drain(Drain { amphora, own, ..drain(vip, stage) }));
                }
                Call::Undrain => desired.apply(Change::Undrain(vip)),
                Call::Plug => desired.apply(Change::Plug(Box::new(of::plug(VipMode::Anycast)))),
                Call::Unplug => {
                    desired.apply(Change::Unplug(vip.address()));
                    prop_assert!(desired.drains.values().all(|drain| !drain.own) || desired == before);
                }
                Call::Register(id) if desired.registrations.is_empty() => {
                    desired.apply(Change::Register(of::registration(id, VIP, "192.0.2.10")));
                }
                Call::Register(_) => continue,
                Call::Unregister => desired.apply(Change::Unregister(vip)),
            }
            // What is being drained is there, and the amphora's that `undrain` names.
            if let Some(drain) = desired.drains.get(&vip) {
                let of = desired.registrations.get(&vip).map(|r| r.server.clone());
                let plugged = || (drain.own && desired.plug_of(vip.address()).is_some()).then(|| "me".to_owned());
                let of = of.or_else(|| plugged().map(Server::Amphora));
                prop_assert_eq!(of, Some(Server::Amphora(drain.amphora.clone())));
            }
            let (want, announced) = wanted(&desired, &served);
            // Nothing but a drain of this amphora keeps a plugged VIP from being bound.
            let drained = desired.drains.get(&vip).is_some_and(|d| d.own && d.stage == Stage::Drained);
            let bound = !desired.plugs.is_empty() && !drained;
            prop_assert_eq!(want.addresses.contains(&Address::vip(vip.address())), bound);
            if let Ok(announced) = announced {
                prop_assert!(!announced.here || want.addresses.contains(&Address::vip(vip.address())));
                prop_assert!(desired.draining(vip.address()).is_none_or(|stage| stage == Stage::Deprefer));
            }
            let mut never = desired.clone();
            never.drains.clear();
            let mut cancelled = desired.clone();
            cancelled.apply(Change::Undrain(vip));
            prop_assert_eq!(&cancelled, &never);
            let mut read = Desired::default();
            desired.changes().into_iter().for_each(|change| read.apply(change));
            prop_assert_eq!(&read, &desired);
        }
    }
}
