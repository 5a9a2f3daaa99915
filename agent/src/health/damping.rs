//! Damping: a route that comes and goes costs the fabric more than one that stays away, so after a few failures in a row
//! it has to stay away for a while. As route flap damping (RFC 2439), with figures for one service instead of the
//! Internet: each failure adds a penalty that decays, and while it is too high nothing is announced.

use std::time::{Duration, Instant};

/// After this time half of a penalty is left.
pub const HALF_LIFE: Duration = Duration::from_secs(20);
/// Where it is held back: the third failure in a row, or the fourth within [`HALF_LIFE`].
pub const SUPPRESS: f64 = 2.9;
/// Where it is trusted again.
pub const REUSE: f64 = 1.0;
/// No penalty is higher: 51 s after the last failure everything is forgiven.
pub const CEILING: f64 = 6.0;

/// The penalty of one VIP.
#[derive(Clone, Debug, PartialEq)]
pub struct Damping {
    penalty: f64,
    at: Instant,
    suppressed: bool,
}

impl Damping {
    /// None so far.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { penalty: 0.0, at: now, suppressed: false }
    }

    /// Lets time pass; whether it is held back now.
    pub fn is_suppressed(&mut self, now: Instant) -> bool {
        let halves = now.saturating_duration_since(self.at).as_secs_f64() / HALF_LIFE.as_secs_f64();
        (self.penalty, self.at) = (self.penalty * 0.5_f64.powf(halves), now);
        self.suppressed &= self.penalty > REUSE;
        self.suppressed
    }

    /// Counts a failure.
    pub fn fail(&mut self, now: Instant) {
        self.is_suppressed(now);
        self.penalty = (self.penalty + 1.0).min(CEILING);
        self.suppressed |= self.penalty >= SUPPRESS;
    }

    /// How long it is still held back when nothing else fails; not at all when it is zero.
    #[must_use]
    pub fn left(&self) -> Duration {
        if !self.suppressed {
            return Duration::ZERO;
        }
        HALF_LIFE.mul_f64((self.penalty / REUSE).log2().max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_failure_in_a_row_holds_a_route_back_for_half_a_minute() {
        let start = Instant::now();
        let mut damping = Damping::new(start);
        damping.fail(start);
        damping.fail(start);
        assert!(!damping.is_suppressed(start));
        damping.fail(start);
        assert!(damping.is_suppressed(start));
        let left = damping.left();
        assert!(left > Duration::from_secs(31) && left < Duration::from_secs(32), "{left:?}");
        assert!(damping.is_suppressed(start + Duration::from_secs(31)));
        assert!(!damping.is_suppressed(start + Duration::from_secs(32)));
    }

    #[test]
    fn rare_failures_are_forgotten_and_the_worst_penalty_ends() {
        let start = Instant::now();
        let mut damping = Damping::new(start);
        for minute in 0..60 {
            let now = start + Duration::from_secs(60 * minute);
            damping.fail(now);
            assert!(!damping.is_suppressed(now));
        }
        let now = start + Duration::from_hours(2);
        (0..1000).for_each(|_| damping.fail(now));
        assert!(damping.is_suppressed(now + Duration::from_secs(51)));
        assert!(!damping.is_suppressed(now + Duration::from_secs(52)));
    }
}
