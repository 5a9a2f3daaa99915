use proptest::prelude::*;

use super::*;
use crate::health::gate::Verdict;

const ALL: [Gate; 7] =
    [Gate::Process, Gate::Listener, Gate::Socket, Gate::Bound, Gate::Carrier, Gate::Gateway, Gate::Members];
const SETTINGS: Settings = Settings {
    counts: Counts { rise: 2, fall: 3 },
    hold_down: Duration::from_secs(3),
    last_resort: LastResort::Withdraw,
};
const MINUTE: Duration = Duration::from_mins(1);

fn readings(verdicts: impl IntoIterator<Item = (Gate, Verdict)>) -> BTreeMap<Gate, Reading> {
    verdicts.into_iter().map(|(gate, verdict)| (gate, Reading::new(verdict, "seen"))).collect()
}

fn all(verdict: Verdict) -> BTreeMap<Gate, Reading> {
    readings(ALL.map(|gate| (gate, verdict)))
}

/// One that is announced, long after the agent's start.
fn announced() -> (Vip, Instant, Instant) {
    let started = Instant::now();
    let now = started + MINUTE;
    let mut vip = Vip::new(&ALL, started);
    vip.observe(&all(Verdict::Pass), &SETTINGS, now);
    assert_eq!(vip.decide(&SETTINGS, started, now), Decision::Announce);
    (vip, started, now)
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![4 => Just(Verdict::Pass), 2 => Just(Verdict::Fail), 1 => Just(Verdict::Off), 1 => Just(Verdict::Unknown)]
}

fn gate() -> impl Strategy<Value = Gate> {
    (0..ALL.len()).prop_map(|i| ALL[i])
}

/// What is found, and how many milliseconds after the look before.
fn looks(most: usize) -> impl Strategy<Value = Vec<(u64, Vec<(Gate, Verdict)>)>> {
    let look = (0_u64..2_000, prop::collection::vec((gate(), verdict()), 1..8));
    prop::collection::vec(look, 1..most)
}

proptest! {
    #[test]
    fn nothing_is_announced_while_a_fact_speaks_against_it_or_is_unknown(looks in looks(60)) {
        let started = Instant::now();
        let (mut vip, mut now) = (Vip::new(&ALL, started), started + MINUTE);
        let mut facts: BTreeMap<Gate, Verdict> = BTreeMap::new();
        for (pause, look) in looks {
            now += Duration::from_millis(pause);
            let look: BTreeMap<_, _> = look.into_iter().collect();
            facts.extend(look.iter().filter(|(g, v)| !g.is_polled() && **v != Verdict::Unknown));
            vip.observe(&readings(look), &SETTINGS, now);
            let decision = vip.decide(&SETTINGS, started, now);
            let holds = |gate: &Gate| facts.get(gate) == Some(&Verdict::Pass);
            if !ALL.iter().filter(|g| !g.is_polled()).all(holds) {
                prop_assert_ne!(&decision, &Decision::Announce);
            }
            if facts.values().any(|v| matches!(v, Verdict::Fail | Verdict::Off)) {
                prop_assert!(matches!(decision, Decision::Withdraw(_)), "{:?}", decision);
            }
        }
    }

    #[test]
    fn a_polled_gate_turns_after_fall_bad_answers_in_a_row_and_never_before(answers in prop::collection::vec(any::<bool>(), 1..80)) {
        let (mut vip, started, mut now) = announced();
        let mut bad = 0;
        for good in answers {
            now += Duration::from_millis(500);
            vip.observe(&readings([(Gate::Socket, if good { Verdict::Pass } else { Verdict::Fail })]), &SETTINGS, now);
            bad = if good { 0 } else { bad + 1 };
            let announced = vip.decide(&SETTINGS, started, now) == Decision::Announce;
            prop_assert_eq!(announced, bad < 3);
            if bad == 3 {
                break;
            }
        }
    }

    #[test]
    fn whatever_flaps_the_route_goes_seven_times_a_minute_at_most_and_becomes_the_last_choice_as_often(
        looks in looks(400),
        last_resort in prop_oneof![Just(LastResort::Withdraw), Just(LastResort::Worse)],
    ) {
        let settings = Settings { last_resort, ..SETTINGS };
        let (mut vip, started, mut now) = announced();
        let (mut up, mut best, mut lost, mut worse) = (true, true, Vec::new(), Vec::new());
        for (pause, look) in looks {
            now += Duration::from_millis(pause / 4);
            // What an operator asked for is no flapping.
            let failures = look.into_iter().filter(|(_, v)| *v != Verdict::Off);
            vip.observe(&readings(failures), &settings, now);
            match vip.decide(&settings, started, now) {
                Decision::Announce => (up, best) = (true, true),
                Decision::Withdraw(_) => {
                    lost.extend(up.then_some(now));
                    (up, best) = (false, false);
                }
                Decision::Hold(_) => {}
                Decision::Worse(_) => {
                    prop_assert_eq!(last_resort, LastResort::Worse);
                    worse.extend(best.then_some(now));
                    (up, best) = (true, false);
                }
            }
        }
        for times in [lost, worse] {
            // Two at once, a third 1.5 s later, and then one every 12.2 s (20 s * log2(2.9 / 1.9)) stay below 2.9: that is
            // seven in a minute, and whoever fails sooner is held back.
            for first in &times {
                let within = times.iter().filter(|t| *t >= first && **t < *first + MINUTE).count();
                prop_assert!(within <= 7, "{} within a minute", within);
            }
        }
    }

    #[test]
    fn an_agent_that_has_just_started_takes_nothing_back_before_it_knows_a_reason(looks in looks(40)) {
        let started = Instant::now();
        let (mut vip, mut now) = (Vip::new(&ALL, started), started);
        for (pause, look) in looks {
            now += Duration::from_millis(pause);
            let look = look.into_iter().filter(|(_, v)| matches!(v, Verdict::Pass | Verdict::Unknown));
            vip.observe(&readings(look), &SETTINGS, now);
            let decision = vip.decide(&SETTINGS, started, now);
            prop_assert!(!matches!(decision, Decision::Withdraw(_)), "{:?}", decision);
            if now < started + SETTINGS.hold_down {
                prop_assert!(matches!(decision, Decision::Hold(_)), "{:?}", decision);
            }
        }
    }

    #[test]
    fn a_reload_never_withdraws(unanswered in prop::collection::vec(0_u32..3, 1..30)) {
        // The process stays, the sockets change hands, and haproxy may miss questions, if fewer than `fall` in a row.
        let (mut vip, started, mut now) = announced();
        for missed in unanswered {
            for verdict in (0..missed).map(|_| Verdict::Fail).chain([Verdict::Pass]) {
                now += Duration::from_millis(500);
                let facts = [(Gate::Process, Verdict::Pass), (Gate::Listener, Verdict::Pass)];
                vip.observe(&readings(facts.into_iter().chain([(Gate::Socket, verdict)])), &SETTINGS, now);
                prop_assert_eq!(vip.decide(&SETTINGS, started, now), Decision::Announce);
            }
        }
    }

    #[test]
    fn what_was_asked_for_is_never_held_against_it(times in 1_usize..40) {
        let (mut vip, started, now) = announced();
        for _ in 0..times {
            vip.observe(&readings([(Gate::Process, Verdict::Off), (Gate::Listener, Verdict::Fail)]), &SETTINGS, now);
            prop_assert!(matches!(vip.decide(&SETTINGS, started, now), Decision::Withdraw(_)));
            vip.observe(&all(Verdict::Pass), &SETTINGS, now);
            prop_assert_eq!(vip.decide(&SETTINGS, started, now), Decision::Announce);
        }
    }
}

#[test]
fn a_process_that_is_back_answers_for_itself() {
    let (mut vip, started, now) = announced();
    for _ in 0..3 {
        vip.observe(&readings([(Gate::Socket, Verdict::Fail)]), &SETTINGS, now);
    }
    assert!(matches!(vip.decide(&SETTINGS, started, now), Decision::Withdraw(why) if why.contains("socket: seen")));
    vip.observe(&readings([(Gate::Process, Verdict::Fail)]), &SETTINGS, now);
    vip.observe(&readings([(Gate::Process, Verdict::Pass)]), &SETTINGS, now);
    assert!(vip.is_to_be_asked());
    assert!(matches!(vip.decide(&SETTINGS, started, now), Decision::Hold(why) if why.contains("socket is not known")));
    // One answer is enough for a new one, where the old one would have needed two.
    vip.observe(&readings([(Gate::Socket, Verdict::Pass), (Gate::Members, Verdict::Pass)]), &SETTINGS, now);
    assert_eq!(vip.decide(&SETTINGS, started, now), Decision::Announce);
}

#[test]
fn the_last_resort_is_for_members_alone() {
    let settings = Settings { last_resort: LastResort::Worse, ..SETTINGS };
    let (mut vip, started, now) = announced();
    let mut look = |verdicts: &[(Gate, Verdict)], times: usize| {
        (0..times).for_each(|_| vip.observe(&readings(verdicts.iter().copied()), &settings, now));
        vip.decide(&settings, started, now)
    };
    let down = [(Gate::Members, Verdict::Fail)];
    assert_eq!(look(&down, 2), Decision::Announce);
    assert_eq!(look(&down, 1), Decision::Worse("members: seen".to_owned()));
    assert_eq!(look(&[(Gate::Members, Verdict::Pass)], 2), Decision::Announce);
    assert!(matches!(look(&down, 3), Decision::Worse(_)));
    let also = look(&[(Gate::Bound, Verdict::Fail)], 1);
    assert!(matches!(&also, Decision::Withdraw(why) if why == "bound: seen"), "{also:?}");
    assert!(matches!(look(&[(Gate::Bound, Verdict::Pass)], 1), Decision::Worse(_)));
    // An agent that has just started does not decide on it either.
    let mut new = Vip::new(&ALL, started);
    new.observe(
        &readings(ALL.map(|g| (g, if g == Gate::Members { Verdict::Fail } else { Verdict::Pass }))),
        &settings,
        started,
    );
    assert!(matches!(new.decide(&settings, started, started), Decision::Hold(_)));
}

#[test]
fn members_that_flap_leave_the_last_choice_and_take_nothing_away() {
    let settings = Settings { last_resort: LastResort::Worse, ..SETTINGS };
    let (mut vip, started, now) = announced();
    let fail = |vip: &mut Vip, gate: Gate| {
        (0..3).for_each(|_| vip.observe(&readings([(gate, Verdict::Fail)]), &settings, now));
        let failed = vip.decide(&settings, started, now);
        (0..2).for_each(|_| vip.observe(&readings([(gate, Verdict::Pass)]), &settings, now));
        (failed, vip.decide(&settings, started, now))
    };
    for _ in 0..2 {
        assert_eq!(fail(&mut vip, Gate::Members).1, Decision::Announce);
    }
    let (failed, after) = fail(&mut vip, Gate::Members);
    assert_eq!(failed, Decision::Worse("members: seen".to_owned()));
    assert_eq!(after, Decision::Worse("it failed too often in a row; the last choice for another 32 s".to_owned()));
    // Failures of other gates, which count for themselves.
    for _ in 0..2 {
        let (failed, after) = fail(&mut vip, Gate::Bound);
        assert!(matches!((failed, after), (Decision::Withdraw(_), Decision::Worse(_))));
    }
    let (_, after) = fail(&mut vip, Gate::Bound);
    assert!(matches!(&after, Decision::Withdraw(why) if why.contains("held back")), "{after:?}");
    // A reload to last_resort = withdraw.
    let (mut vip, ..) = announced();
    (0..3).for_each(|_| drop(fail(&mut vip, Gate::Members)));
    assert_eq!(vip.decide(&SETTINGS, started, now), Decision::Announce);
    assert_eq!(vip.decide(&settings, started, now + Duration::from_secs(32)), Decision::Announce);
}

#[test]
fn a_gate_tells_since_when_it_is_as_it_is() {
    let (mut vip, _, then) = announced();
    let of = |vip: &Vip, gate| vip.gates().find(|(g, _)| *g == gate).map(|(_, s)| (s.open, s.since)).unwrap();
    let later = then + MINUTE;
    vip.observe(&all(Verdict::Pass), &SETTINGS, later);
    assert_eq!(of(&vip, Gate::Listener), (Some(true), then));
    vip.observe(&readings([(Gate::Listener, Verdict::Fail), (Gate::Members, Verdict::Fail)]), &SETTINGS, later);
    assert_eq!(of(&vip, Gate::Listener), (Some(false), later));
    assert_eq!(of(&vip, Gate::Members), (Some(true), then), "one bad answer of three");
}
