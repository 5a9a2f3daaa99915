//! Moments for people: the API's seconds since 1970 as a date, and how long ago that was.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `2026-11-21 17:40:02 UTC`.
pub(super) fn date(seconds: u64) -> String {
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// The same and how long ago that is, or how far ahead: `2026-11-21 17:40:02 UTC (3 min ago)`.
pub(super) fn relative(seconds: u64, now: u64) -> String {
    let (span, which) = if seconds > now { (seconds - now, "ahead") } else { (now - seconds, "ago") };
    format!("{} ({} {which})", date(seconds), rough(Duration::from_secs(span)))
}

/// Now, in seconds since 1970; 0 with a clock before that.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A time span in its largest unit.
pub(super) fn rough(span: Duration) -> String {
    match span.as_secs() {
        seconds @ ..120 => format!("{seconds} s"),
        seconds @ ..7_200 => format!("{} min", seconds / 60),
        seconds @ ..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// The date of a day since 1970-01-01. Years begin in March here, so that the day a leap year has more is its last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // from 0000-03-01
    let (era, of_era) = (days / 146_097, days % 146_097); // 400 years
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    (year + era * 400, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        // date -ud @1709164800 and so on
        assert_eq!(date(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(date(1_709_164_800), "2024-02-29 00:00:00 UTC");
        assert_eq!(date(1_709_251_199), "2024-02-29 23:59:59 UTC");
        assert_eq!(date(4_107_542_400), "2100-03-01 00:00:00 UTC");
        assert_eq!(date(2_556_144_000), "2051-01-01 00:00:00 UTC");
        assert_eq!(relative(100, 40), "1970-01-01 00:01:40 UTC (60 s ahead)");
        assert_eq!(relative(0, 7_260), "1970-01-01 00:00:00 UTC (2 h ago)");
    }
}
