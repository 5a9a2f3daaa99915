//! Samples and what is said of them.

use std::time::Duration;

/// Times of one kind, sorted.
#[derive(Clone, Debug)]
pub(crate) struct Samples(Vec<Duration>);

impl From<Vec<Duration>> for Samples {
    fn from(mut samples: Vec<Duration>) -> Self {
        assert!(!samples.is_empty(), "a figure without samples");
        samples.sort_unstable();
        Self(samples)
    }
}

impl Samples {
    /// The value that `percent` of the samples do not exceed (nearest rank).
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0[rank - 1]
    }

    pub(crate) fn p50(&self) -> Duration {
        self.percentile(50)
    }

    pub(crate) fn p99(&self) -> Duration {
        self.percentile(99)
    }

    pub(crate) fn max(&self) -> Duration {
        *self.0.last().expect("made of at least one")
    }

    pub(crate) fn sum(&self) -> Duration {
        self.0.iter().sum()
    }

    /// Median, the middle half, and how many.
    pub(crate) fn spread(&self) -> String {
        let [low, high] = [25, 75].map(|p| show(self.percentile(p)));
        format!("{} ({low} to {high}, n = {})", show(self.p50()), self.0.len())
    }
}

/// Three digits that mean something.
pub(crate) fn show(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    let (value, unit) = match seconds {
        s if s >= 1.0 => (s, "s"),
        s if s >= 0.001 => (s * 1e3, "ms"),
        s => (s * 1e6, "µs"),
    };
    let digits = if value >= 100.0 { 0 } else { usize::from(value >= 10.0) ^ 1 } + usize::from(value < 100.0);
    format!("{value:.digits$} {unit}")
}

/// How many of `floor` one `measured` is.
pub(crate) fn ratio(measured: Duration, floor: Duration) -> f64 {
    measured.as_secs_f64() / floor.as_secs_f64()
}
