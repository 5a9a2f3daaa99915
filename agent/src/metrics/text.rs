//! Prometheus' text format 0.0.4 (<https://prometheus.io/docs/instrumenting/exposition_formats>), as far as it is needed here.
//!
//! Written here rather than taken from a crate: nearly every value is read off the agent at the moment of the scrape, for
//! which a registry of live objects is the wrong shape, and `prometheus-client` writes `OpenMetrics` alone.

use std::fmt::{Display, Write as _};

use super::http::Durations;

/// What a metric counts or measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It goes up and down.
    Gauge,
    /// It only goes up, and begins anew with the process.
    Counter,
    /// Observations in buckets.
    Histogram,
}

impl Kind {
    /// As the format and the documentation call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric with `N` labels.
#[derive(Clone, Copy, Debug)]
pub struct Metric<const N: usize> {
    /// With its unit, and `_total` for a counter.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: [&'static str; N],
    /// One sentence.
    pub help: &'static str,
}

/// An exposition in the making.
#[derive(Debug, Default)]
pub struct Text(String);

impl Text {
    /// Writes the samples of a metric: the values of its labels, and its own. One without samples is left out.
    pub fn metric<const N: usize, V: Display>(
        &mut self,
        metric: &Metric<N>,
        samples: impl IntoIterator<Item = ([String; N], V)>,
    ) {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_some() {
            self.head(metric);
        }
        for (values, value) in samples {
            self.sample(metric.name, "", metric.labels.iter().copied().zip(&values), &value);
        }
    }

    /// Writes one value of a metric without labels.
    pub fn value(&mut self, metric: &Metric<0>, value: impl Display) {
        self.metric(metric, [([], value)]);
    }

    /// The same of a value that may not be known.
    pub fn known(&mut self, metric: &Metric<0>, value: Option<impl Display>) {
        self.metric(metric, value.map(|value| ([], value)));
    }

    /// Writes a histogram: the values of its labels, and its observations.
    pub(super) fn histogram<'a, const N: usize>(
        &mut self,
        metric: &Metric<N>,
        samples: impl IntoIterator<Item = ([String; N], &'a Durations)>,
    ) {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_some() {
            self.head(metric);
        }
        for (values, durations) in samples {
            let labels = || metric.labels.iter().copied().zip(&values);
            for (bound, count) in durations.cumulative() {
                self.sample(metric.name, "_bucket", labels().chain([("le", &bound)]), &count);
            }
            self.sample(metric.name, "_sum", labels(), &durations.sum().as_secs_f64());
            self.sample(metric.name, "_count", labels(), &durations.count());
        }
    }

    /// The text.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }

    fn head<const N: usize>(&mut self, metric: &Metric<N>) {
        let Metric { name, kind, help, .. } = metric;
        let help = help.replace('\\', r"\\").replace('\n', r"\n");
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {}\n", kind.name()));
    }

    fn sample<'a>(
        &mut self,
        name: &str,
        suffix: &str,
        labels: impl Iterator<Item = (&'a str, &'a String)>,
        value: &impl Display,
    ) {
        self.line(format_args!("{name}{suffix}"));
        let mut opened = false;
        for (label, of) in labels {
            let before = if opened { ',' } else { '{' };
            opened = true;
            self.line(format_args!("{before}{label}=\"{}\"", escaped(of)));
        }
        self.line(format_args!("{} {value}\n", if opened { "}" } else { "" }));
    }

    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        self.0.write_fmt(text).expect("a String takes everything");
    }
}

fn escaped(value: &str) -> std::borrow::Cow<'_, str> {
    if value.contains(['\\', '"', '\n']) {
        value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n").into()
    } else {
        value.into()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_text_is_the_formats() {
        let mut text = Text::default();
        let one = Metric { name: "a_total", kind: Kind::Counter, labels: ["x", "y"], help: "Lines\nand \\." };
        text.metric(&one, [(["q\"\\".to_owned(), "n\n".to_owned()], 1), ([String::new(), "é".to_owned()], 2)]);
        text.value(&Metric { name: "b", kind: Kind::Gauge, labels: [], help: "B." }, 0.5);
        text.known(&Metric { name: "c", kind: Kind::Gauge, labels: [], help: "C." }, None::<u8>);
        let mut durations = Durations::default();
        [1, 20, 70_000].map(Duration::from_millis).into_iter().for_each(|took| durations.observe(took));
        let timed = Metric { name: "d_seconds", kind: Kind::Histogram, labels: ["r"], help: "D." };
        text.histogram(&timed, [(["/".to_owned()], &durations)]);
        let text = text.into_string();
        let (plain, histogram) = text.split_once("# HELP d_seconds").unwrap();
        assert_eq!(
            plain,
            r#"# HELP a_total Lines\nand \\.
# TYPE a_total counter
a_total{x="q\"\\",y="n\n"} 1
a_total{x="",y="é"} 2
# HELP b B.
# TYPE b gauge
b 0.5
"#
        );
        assert!(histogram.contains("\nd_seconds_bucket{r=\"/\",le=\"0.005\"} 1\n"), "{histogram}");
        assert!(histogram.contains("\nd_seconds_bucket{r=\"/\",le=\"0.025\"} 2\n"), "{histogram}");
        assert!(histogram.contains("\nd_seconds_bucket{r=\"/\",le=\"60\"} 2\n"), "{histogram}");
        assert!(histogram.contains("\nd_seconds_bucket{r=\"/\",le=\"+Inf\"} 3\n"), "{histogram}");
        assert!(histogram.ends_with("\nd_seconds_sum{r=\"/\"} 70.021\nd_seconds_count{r=\"/\"} 3\n"), "{histogram}");
    }
}
