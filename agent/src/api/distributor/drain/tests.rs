use super::*;
use crate::state::{Frontend, Plug, Registration, Vip};

const VIP: [u8; 4] = [203, 0, 113, 7];
const OTHER: [u8; 4] = [203, 0, 113, 8];

fn prefix(ip: [u8; 4]) -> Prefix {
    IpAddr::from(ip).try_into().unwrap()
}

fn policy() -> Policy {
    Policy { amphora_id: Some("me".into()), gated: true, ..Policy::default() }
}

/// This amphora with a VIP plugged, and another one's registered.
fn desired() -> Desired {
    let subnet = "192.0.2.0/24".parse().unwrap();
    let plug = Plug {
        mac: "fa:16:3e:00:00:01".parse().unwrap(),
        interface: "eth1".parse().unwrap(),
        mode: VipMode::Anycast,
        vips: vec![Vip { ip: VIP.into(), subnet, gateway: None, host_routes: vec![] }],
        frontends: vec![Frontend { ip: [192, 0, 2, 10].into(), subnet, gateway: None }],
        mtu: None,
        is_sriov: false,
        keepalived: Some(false),
        acknowledged: true,
    };
    let mut desired = Desired::default();
    desired.apply(Change::Plug(Box::new(plug)));
    desired.apply(Change::Register(Registration {
        vip: prefix(OTHER),
        nexthop: IpAddr::from([192, 0, 2, 11]).try_into().unwrap(),
        server: Server::Amphora("other".into()),
        peer: None,
    }));
    desired
}

const NUMBERS: Numbers = Numbers { timeout_s: 60, max_connections: 0, now: 1_000 };

fn call(amphora: &str, only: Option<[u8; 4]>, numbers: Numbers, desired: &mut Desired) -> Result<usize, Refusal> {
    let changes = decide_drain(amphora, only.map(prefix), numbers, desired, &policy())?;
    let count = changes.len();
    for change in changes {
        desired.apply(change);
    }
    Ok(count)
}

#[test]
fn own_vips_are_drained_without_a_registration_and_each_amphora_only_by_its_own_id() {
    let mut desired = desired();
    assert_eq!(call("me", None, NUMBERS, &mut desired).unwrap(), 1);
    assert_eq!(desired.draining(VIP.into()), Some(Stage::Deprefer));
    assert_eq!(desired.draining(OTHER.into()), None);
    assert_eq!(call("other", Some(OTHER), NUMBERS, &mut desired).unwrap(), 1);
    assert_eq!(desired.drains[&prefix(OTHER)].deadline, 1_060);
    let refused = call("other", Some(VIP), NUMBERS, &mut desired).unwrap_err();
    assert_eq!((refused.status, refused.message.contains("203.0.113.7")), (Status::NotFound, true), "{refused}");
    let refused = call("nobody", None, NUMBERS, &mut desired).unwrap_err();
    assert_eq!((refused.status, refused.message.contains("nobody")), (Status::NotFound, true), "{refused}");
    let refused = call("me", None, NUMBERS, &mut Desired::default()).unwrap_err();
    assert_eq!(refused.status, Status::NotFound, "{refused}");
}

#[test]
fn the_same_call_again_changes_nothing_and_other_numbers_count_from_theirs() {
    let mut desired = desired();
    call("me", None, NUMBERS, &mut desired).unwrap();
    assert_eq!(call("me", None, Numbers { now: 1_030, ..NUMBERS }, &mut desired).unwrap(), 0);
    let drain = desired.drains[&prefix(VIP)].clone();
    desired.apply(Change::Drain(state::Drain { stage: Stage::Withdrawn, since: 1_020, ..drain }));
    let longer = Numbers { timeout_s: 600, max_connections: 5, now: 1_030 };
    assert_eq!(call("me", None, longer, &mut desired).unwrap(), 1);
    let drain = &desired.drains[&prefix(VIP)];
    assert_eq!((drain.stage, drain.since, drain.deadline, drain.max_connections), (Stage::Withdrawn, 1_020, 1_630, 5));
}

/// The text that says why a VIP is not announced names `undrain` with the id of the drain.
#[test]
fn what_is_being_drained_by_an_id_can_be_undrained_by_it_whatever_was_plugged_and_registered_since() {
    let mut desired = desired();
    let plug = desired.plugs.values().next().unwrap().clone();
    let (vip, registration) = (prefix(VIP), desired.registrations[&prefix(OTHER)].clone());
    let undrain = |amphora: &str, desired: &Desired| decide_undrain(amphora, Some(vip), desired, &policy()).unwrap();
    let drained = |desired: &mut Desired| {
        let drain = desired.drains[&vip].clone();
        desired.apply(Change::Drain(state::Drain { stage: Stage::Drained, ..drain }));
    };
    // Its own registration outlives the plug; the next plug is a new one.
    let own = Registration { vip, server: Server::Amphora("me".into()), ..registration.clone() };
    desired.apply(Change::Register(own));
    call("me", Some(VIP), NUMBERS, &mut desired).unwrap();
    drained(&mut desired);
    assert!(desired.is_drained(VIP.into()));
    desired.apply(Change::Unplug(VIP.into()));
    assert_eq!(undrain("me", &desired), []);
    desired.apply(Change::Plug(Box::new(plug.clone())));
    assert!(!desired.is_drained(VIP.into()));

    // Another amphora's drain does not unbind what is plugged here, and ends with its registration.
    desired.apply(Change::Unplug(VIP.into()));
    desired.apply(Change::Register(Registration { vip, ..registration }));
    call("other", Some(VIP), NUMBERS, &mut desired).unwrap();
    drained(&mut desired);
    desired.apply(Change::Plug(Box::new(plug)));
    assert!(!desired.is_drained(VIP.into()));
    assert_eq!(undrain("other", &desired), [Change::Undrain(vip)]);
    desired.apply(Change::Unregister(vip));
    assert_eq!((desired.draining(VIP.into()), undrain("me", &desired)), (None, vec![]));
}

#[test]
fn undrain_forgets_what_it_is_asked_for_and_nothing_else() {
    let mut desired = desired();
    call("me", None, NUMBERS, &mut desired).unwrap();
    call("other", None, NUMBERS, &mut desired).unwrap();
    assert_eq!(decide_undrain("me", None, &desired, &policy()).unwrap(), [Change::Undrain(prefix(VIP))]);
    desired.apply(Change::Undrain(prefix(VIP)));
    assert_eq!(decide_undrain("me", Some(prefix(VIP)), &desired, &policy()).unwrap(), []);
    assert!(decide_undrain("nobody", None, &desired, &policy()).is_err());
}
