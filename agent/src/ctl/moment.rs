//! Moments for people: the API's seconds since 1970 as a date, and how long ago that was.

use std::time::Duration;

use crate::clock::rfc3339;

/// A date and how long ago that is, or how far ahead: `2026-11-21T17:40:02Z (3 min ago)`.
pub(super) fn relative(seconds: u64, now: u64) -> String {
    let (span, which) = if seconds > now { (seconds - now, "ahead") } else { (now - seconds, "ago") };
    format!("{} ({} {which})", rfc3339(seconds), rough(Duration::from_secs(span)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_ago_is_in_the_largest_unit_that_says_something() {
        assert_eq!(relative(100, 40), "1970-01-01T00:01:40Z (60 s ahead)");
        for (span, text) in [(119, "119 s"), (120, "2 min"), (7_199, "119 min"), (7_200, "2 h"), (172_800, "2 days")] {
            assert_eq!(relative(0, span), format!("1970-01-01T00:00:00Z ({text} ago)"));
        }
    }
}
