//! How long ago gobgpd says something was, on a machine whose clock may be set meanwhile.
//!
//! gobgpd tells times of the wall clock. What follows from them is counted in seconds that have passed: a router keeps
//! what it was promised however the clock is set, and a clock that jumps ahead must not end that promise.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime},
};

/// The wall clock as it was set when the agent began, which goes on without jumps.
#[derive(Debug)]
pub(super) struct Clock {
    wall: SystemTime,
    steady: Instant,
    /// Times that had not come when they were first seen, and when that was.
    ahead: BTreeMap<SystemTime, Instant>,
}

impl Default for Clock {
    fn default() -> Self {
        Self { wall: SystemTime::now(), steady: Instant::now(), ahead: BTreeMap::new() }
    }
}

impl Clock {
    /// The age of what was noted `at` that time; `None` if that has not come yet.
    pub(super) fn age(&self, at: SystemTime) -> Option<Duration> {
        age(at, SystemTime::now(), self.wall + self.steady.elapsed())
    }

    /// The age of what was noted `at` that time. If that has not come yet, the clock was ahead when it was noted and has
    /// been set back: it is as old as this has been known, also once the time comes.
    pub(super) fn age_at_least(&mut self, at: SystemTime) -> Duration {
        match self.age(at) {
            Some(age) if !self.ahead.contains_key(&at) => age,
            _ => self.ahead.entry(at).or_insert_with(Instant::now).elapsed(),
        }
    }

    /// Forgets what is not noted any more.
    pub(super) fn retain(&mut self, is_noted: impl Fn(SystemTime) -> bool) {
        self.ahead.retain(|at, _| is_noted(*at));
    }
}

/// The time was noted before the clock was set or after it. One of the two clocks tells the age; the other is wrong by the
/// jump, which makes it older or a time to come. The younger one ends no promise too soon.
fn age(at: SystemTime, wall: SystemTime, steady: SystemTime) -> Option<Duration> {
    [wall, steady].into_iter().filter_map(|now| now.duration_since(at).ok()).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    #[test]
    fn an_age_is_the_same_whenever_the_clock_is_set_and_to_whatever() {
        let five = Duration::from_secs(5);
        let steady = SystemTime::UNIX_EPOCH + 1000 * DAY;
        for (what, wall) in [("not set", steady), ("ahead", steady + DAY), ("back", steady - DAY)] {
            assert_eq!(age(steady - five, wall, steady), Some(five), "noted before it was set {what}");
            assert_eq!(age(wall - five, wall, steady), Some(five), "noted after it was set {what}");
        }
        assert_eq!(age(steady + DAY, steady, steady), None);
    }

    #[test]
    fn what_was_noted_by_a_clock_that_was_ahead_grows_old_like_all_else() {
        let (mut clock, pause) = (Clock::default(), Duration::from_millis(40));
        let (soon, late) = (SystemTime::now() + Duration::from_secs(1), SystemTime::now() + DAY);
        // The first time of the two comes while it is looked at.
        let mut last = [soon, late].map(|at| clock.age_at_least(at));
        for _ in 0..30 {
            std::thread::sleep(pause);
            let ages = [soon, late].map(|at| clock.age_at_least(at));
            assert!(ages.iter().zip(last).all(|(age, last)| *age >= last + pause), "{ages:?} after {last:?}");
            last = ages;
        }
        clock.retain(|at| at == late);
        assert_eq!(clock.ahead.keys().collect::<Vec<_>>(), [&late]);
    }
}
