//! The tables.

use std::{fmt::Write as _, time::Duration};

use crate::{
    reasons::reason,
    stats::{Samples, ratio, show},
};

/// One line of the table.
#[derive(Debug)]
struct Row {
    figure: String,
    target: String,
    measured: String,
    floor: String,
    ratio: String,
    met: Option<bool>,
    how: String,
}

/// One table: what has been measured so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

/// Both tables.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    /// The agent beside its floors.
    pub(crate) floors: Report,
    /// The agent beside Octavia's Python agent; empty where that is not measured.
    pub(crate) peer: Report,
}

/// What a figure has to keep.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// At most so many times its floor.
    Ratio(f64),
    /// At most so long.
    Time(Duration),
    /// None: it is there to compare with.
    None,
}

impl Report {
    /// A line of times. `measured` and `floor` are compared by `by`, such as [`Samples::p50`].
    pub(crate) fn times(
        &mut self,
        figure: &str,
        target: Target,
        by: fn(&Samples) -> Duration,
        (measured, floor): (&Samples, &Samples),
        how: &str,
    ) {
        let (value, times) = (by(measured), ratio(by(measured), by(floor)));
        let (target, met) = judge(target, value, times);
        let spread =
            |s: &Samples| if by(s) == s.p50() { s.spread() } else { format!("{}; p50 {}", show(by(s)), s.spread()) };
        self.row(figure, target, spread(measured), spread(floor), format!("{times:.2}"), met, how);
    }

    /// A line of two single times.
    pub(crate) fn time(&mut self, figure: &str, target: Target, (measured, floor): (Duration, Duration), how: &str) {
        let times = ratio(measured, floor);
        let (target, met) = judge(target, measured, times);
        self.row(figure, target, show(measured), show(floor), format!("{times:.2}"), met, how);
    }

    /// A line of requests answered in a second, at least so many times as many as `peer`.
    pub(crate) fn rate(&mut self, figure: &str, target: f64, (measured, peer): (f64, f64), how: &str) {
        let times = measured / peer;
        let shown = |rate: f64| format!("{rate:.0} /s");
        let met = Some(times >= target);
        self.row(figure, format!(">= {target}x"), shown(measured), shown(peer), format!("{times:.1}"), met, how);
    }

    /// A line of anything else; `limit` is in the unit of `measured` and `floor`.
    pub(crate) fn amount(
        &mut self,
        figure: &str,
        (target, limit): (&str, Option<f64>),
        (measured, floor): (f64, Option<f64>),
        unit: &str,
        how: &str,
    ) {
        let shown = |v: f64| format!("{v:.2} {unit}");
        let times = floor.map_or_else(|| "-".to_owned(), |floor| format!("{:.2}", measured / floor));
        let floor = floor.map_or_else(|| "-".to_owned(), shown);
        self.row(figure, target.to_owned(), shown(measured), floor, times, limit.map(|l| measured <= l), how);
    }

    #[expect(clippy::too_many_arguments, reason = "one for each column")]
    fn row(
        &mut self,
        figure: &str,
        target: String,
        measured: String,
        floor: String,
        ratio: String,
        met: Option<bool>,
        how: &str,
    ) {
        let verdict = met.map_or("", |met| if met { ": met" } else { ": NOT met" });
        eprintln!("{figure}: {measured}; floor {floor}; ratio {ratio}; target {target}{verdict}");
        self.rows.push(Row { figure: figure.into(), target, measured, floor, ratio, met, how: how.into() });
    }

    /// Whether nothing has been measured.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// How many targets were missed.
    pub(crate) fn missed(&self) -> usize {
        self.rows.iter().filter(|row| row.met == Some(false)).count()
    }

    /// As Markdown, what it is compared to under the heading `floor`; and why what is missed is missed.
    pub(crate) fn table(&self, floor: &str) -> String {
        let mut text =
            format!("| figure | target | measured | {floor} | ratio | met | how |\n|---|---|---|---|---|---|---|\n");
        for row in &self.rows {
            let met = row.met.map_or("-", |met| if met { "yes" } else { "**NO**" });
            let Row { figure, target, measured, floor, ratio, how, .. } = row;
            let _ = writeln!(text, "| {figure} | {target} | {measured} | {floor} | {ratio} | {met} | {how} |");
        }
        let missed: Vec<_> = self.rows.iter().filter(|row| row.met == Some(false)).collect();
        let _ = match missed.len() {
            0 => writeln!(text, "\nNo target is missed."),
            1 => writeln!(text, "\n1 target is missed:\n"),
            number => writeln!(text, "\n{number} targets are missed:\n"),
        };
        for Row { figure, .. } in missed {
            let _ = writeln!(text, "- {figure}: {}", reason(figure).unwrap_or("nobody has found out yet why."));
        }
        text
    }
}

fn judge(target: Target, value: Duration, times: f64) -> (String, Option<bool>) {
    match target {
        Target::Ratio(limit) => (format!("<= {limit}x"), Some(times <= limit)),
        Target::Time(limit) => (format!("<= {}", show(limit)), Some(value <= limit)),
        Target::None => ("-".to_owned(), None),
    }
}
