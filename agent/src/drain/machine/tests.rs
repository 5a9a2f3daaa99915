use proptest::prelude::*;

use super::*;

fn drain(stage: Stage, max_connections: u32) -> Drain {
    let vip = bgp::Prefix::try_from(std::net::IpAddr::from([203, 0, 113, 7])).unwrap();
    Drain { vip, amphora: "me".into(), own: true, stage, since: 0, deadline: 60, timeout_s: 60, max_connections }
}

const S: Duration = Duration::from_secs(1);

fn seen(connections: Option<u64>) -> Seen {
    Seen { left: 30 * S, in_stage: 10 * S, quiet: 10 * S, connections, announced: false }
}

#[test]
fn a_route_stays_while_connections_do_or_new_clients_come_until_the_time_is_over() {
    let drain = drain(Stage::Deprefer, 2);
    assert_eq!(next(&drain, &seen(Some(3))), None);
    assert_eq!(next(&drain, &seen(Some(2))), Some(Stage::Withdrawn));
    let busy = Seen { quiet: 4 * S, ..seen(Some(0)) };
    assert_eq!(next(&drain, &busy), None);
    assert_eq!(next(&drain, &seen(None)), None, "nobody knows how many there are");
    for seen in [busy, seen(None), seen(Some(3))] {
        assert_eq!(next(&drain, &Seen { left: Duration::ZERO, ..seen }), Some(Stage::Withdrawn));
    }
}

#[test]
fn a_withdrawn_vip_is_unbound_when_nobody_announces_it_and_packets_have_had_their_time() {
    let drain = drain(Stage::Withdrawn, 0);
    let over = Seen { left: Duration::ZERO, ..seen(Some(9)) };
    assert_eq!(next(&drain, &seen(Some(0))), Some(Stage::Drained));
    assert_eq!(next(&drain, &seen(Some(1))), None);
    assert_eq!(next(&drain, &over), Some(Stage::Drained));
    assert_eq!(next(&drain, &Seen { in_stage: Duration::ZERO, ..over }), None);
    assert_eq!(next(&drain, &Seen { announced: true, ..over }), None);
}

/// A world that follows what is committed: the speaker a while after, or not at all for a time.
#[derive(Clone, Debug)]
struct Tick {
    step: Duration,
    connections: Option<u64>,
    comes: bool,
    speaker: bool,
}

prop_compose! {
    fn tick()(
        millis in 1u64..4_000,
        connections in prop::option::weighted(0.9, 0u64..4),
        comes in prop::bool::weighted(0.3),
        speaker in prop::bool::weighted(0.9),
    ) -> Tick {
        Tick { step: Duration::from_millis(millis), connections, comes, speaker }
    }
}

proptest! {
    /// In an operator's words: the stages come in order, none before its time; a VIP that may be announced is never
    /// unbound; and when the time is over and the speaker is there, it is drained in two looks and a second.
    #[test]
    fn a_drain_goes_forward_in_order_and_ends(ticks in prop::collection::vec(tick(), 1..80), max in 0u32..3) {
        let (mut drain, mut announced) = (drain(Stage::Deprefer, max), true);
        let (mut now, mut began, mut noise) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        let deadline = 60 * S;
        let quiet_end = (0..4).map(|_| Tick { step: 61 * S, connections: None, comes: true, speaker: true });
        for tick in ticks.into_iter().chain(quiet_end) {
            now += tick.step;
            if tick.comes || !tick.speaker {
                noise = now;
            }
            if tick.speaker {
                announced = drain.stage == Stage::Deprefer;
            }
            let seen = Seen {
                left: deadline.saturating_sub(now),
                in_stage: now.saturating_sub(began),
                quiet: now.saturating_sub(noise.max(began)),
                connections: tick.connections,
                announced: announced || !tick.speaker,
            };
            let Some(stage) = next(&drain, &seen) else { continue };
            let few = tick.connections.is_some_and(|n| n <= max.into());
            match (drain.stage, stage) {
                (Stage::Deprefer, Stage::Withdrawn) => prop_assert!(now >= deadline || (few && seen.quiet >= SETTLE)),
                (Stage::Withdrawn, Stage::Drained) => {
                    prop_assert!(!announced && tick.speaker && seen.in_stage >= GRACE);
                    prop_assert!(now >= deadline || few);
                }
                other => prop_assert!(false, "{:?}", other),
            }
            drain.stage = stage;
            began = now;
        }
        prop_assert_eq!(drain.stage, Stage::Drained);
    }
}
