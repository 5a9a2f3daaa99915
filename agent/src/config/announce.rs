//! `[distributor]`, as far as it says when a VIP is announced.

use std::time::Duration;

use super::{Announce, Gates, LastResort, Watermarks, reader::Reader};

const SECTION: &str = "distributor";

/// What makes a VIP of this amphora's announced.
pub(super) fn announce(reader: &mut Reader<'_>) -> Option<Announce> {
    reader.choice(SECTION, "announce", &[("listener", Announce::Listener), ("api", Announce::Api)])
}

/// How its gates are judged.
pub(super) fn gates(reader: &mut Reader<'_>, announce: Option<Announce>) -> Option<Gates> {
    let rise = reader.number(SECTION, "rise", 1_u32, 100);
    let fall = reader.number(SECTION, "fall", 1_u32, 100);
    let interval = reader.number(SECTION, "check_interval", 100_u64, 60_000);
    let hold_down = reader.number(SECTION, "hold_down", 0_u64, 3600);
    let resorts = [("withdraw", LastResort::Withdraw), ("worse", LastResort::Worse)];
    let last_resort = reader.choice(SECTION, "last_resort", &resorts);
    let members = members(reader);
    if announce == Some(Announce::Api) && matches!(members, Some(Some(_))) {
        reader.warn(SECTION, "members_low", "does nothing with announce = api: gates are for listeners".to_owned());
    }
    if last_resort == Some(LastResort::Worse) && members == Some(None) {
        reader.problem(SECTION, "last_resort", "`worse` does nothing without members_low; set that too".to_owned());
    }
    Some(Gates {
        rise: rise?,
        fall: fall?,
        interval: Duration::from_millis(interval?),
        hold_down: Duration::from_secs(hold_down?),
        members: members?,
        last_resort: last_resort?,
    })
}

/// The outer `None` is a problem, now noted; the inner one says that members are no gate.
#[expect(clippy::option_option, reason = "every reader's `None` is a problem")]
fn members(reader: &mut Reader<'_>) -> Option<Option<Watermarks>> {
    let low = reader.number(SECTION, "members_low", 0_u8, 100);
    if !reader.written(SECTION, "members_high") {
        return low.map(|low| (low > 0).then_some(Watermarks { low, high: low }));
    }
    let high = reader.number(SECTION, "members_high", 1_u8, 100);
    let (low, high) = (low?, high?);
    if low == 0 {
        reader.problem(SECTION, "members_high", "does nothing without members_low; set that too".to_owned());
        return None;
    }
    if high < low {
        reader.problem(SECTION, "members_high", format!("is lower than members_low; write {low} or more"));
        return None;
    }
    Some(Some(Watermarks { low, high }))
}
