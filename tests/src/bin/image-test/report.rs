//! What the test says while it works, and the table it ends with.

use std::fmt::Display;
use std::thread;
use std::time::{Duration, Instant};

use lab::{Error, Result};

/// How often something that takes long is looked at, and how often that is said.
const LOOKS: Duration = Duration::from_millis(300);
const PROGRESS: Duration = Duration::from_secs(15);

/// The test's voice.
#[derive(Debug)]
pub(crate) struct Report {
    start: Instant,
    /// How long all of it may take.
    limit: Duration,
    scenario: String,
    /// Scenario, what was measured, and the figure.
    figures: Vec<[String; 3]>,
    /// What was not as it should be, where the test went on.
    faults: Vec<String>,
}

impl Report {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { start: Instant::now(), limit, scenario: String::new(), figures: Vec::new(), faults: Vec::new() }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    pub(crate) fn scenario(&mut self, name: &str) {
        name.clone_into(&mut self.scenario);
        self.say(&format!("=== {name}"));
    }

    pub(crate) fn say(&self, text: &str) {
        for line in text.lines() {
            println!("{:7.1} s  {line}", self.start.elapsed().as_secs_f64());
        }
    }

    /// Notes a figure for the table.
    pub(crate) fn figure(&mut self, what: &str, figure: impl Display) {
        let figure = figure.to_string();
        self.say(&format!("{what}: {figure}"));
        self.figures.push([self.scenario.clone(), what.to_owned(), figure]);
    }

    /// Notes what fails the test at its end.
    pub(crate) fn fault(&mut self, what: &str) {
        self.say(&format!("FAULT: {what}"));
        self.faults.push(format!("{}: {what}", self.scenario));
    }

    pub(crate) fn faults(&self) -> &[String] {
        &self.faults
    }

    /// The time there is left for something that may take `most`, before the whole test gives up.
    ///
    /// # Errors
    /// [`Error::Deadline`] when there is none.
    pub(crate) fn left(&self, most: Duration) -> Result<Duration> {
        let left = self.limit.saturating_sub(self.elapsed());
        if left.is_zero() {
            let (what, last) = ("the whole test".to_owned(), format!("{} was under way", self.scenario));
            return Err(Error::Deadline { what, within: self.limit, last });
        }
        Ok(left.min(most))
    }

    /// As [`Report::took`], where it must not have taken longer than `most`.
    ///
    /// # Errors
    /// [`Error::Wrong`] when it has.
    pub(crate) fn took_at_most(&mut self, what: &str, since: Instant, most: Duration) -> Result<()> {
        let took = since.elapsed();
        self.took(what, since);
        check(took <= most, &format!("{what}: within {most:?}"), format!("{took:?}"))
    }

    /// The time that `since` is ago, as a figure.
    pub(crate) fn took(&mut self, what: &str, since: Instant) {
        self.figure(what, format!("{:.1} s", since.elapsed().as_secs_f64()));
    }

    /// Looks until `look` answers `Ok`, saying every now and then that and for what it waits.
    ///
    /// # Errors
    /// [`Error::Deadline`] with what the last look saw.
    pub(crate) fn wait<T, E: Display>(
        &self,
        what: &str,
        within: Duration,
        mut look: impl FnMut() -> Result<T, E>,
    ) -> Result<T> {
        let (start, mut said) = (Instant::now(), Instant::now());
        loop {
            let last = match look() {
                Ok(value) => return Ok(value),
                Err(last) => last.to_string(),
            };
            if start.elapsed() > within {
                return Err(Error::Deadline { what: what.into(), within, last });
            }
            if self.elapsed() > self.limit {
                let what = format!("the whole test, which waits for {what}");
                return Err(Error::Deadline { what, within: self.limit, last });
            }
            if said.elapsed() > PROGRESS {
                said = Instant::now();
                let last = last.lines().last().unwrap_or_default();
                self.say(&format!("  waiting for {what} ({:.0} s): {last}", start.elapsed().as_secs_f64()));
            }
            thread::sleep(LOOKS);
        }
    }

    pub(crate) fn show(&self) {
        let width = |column: usize| self.figures.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let (first, second) = (width(0), width(1));
        println!();
        for [scenario, what, figure] in &self.figures {
            println!("{scenario:first$}  {what:second$}  {}", figure.trim().replace('\n', "; "));
        }
        println!();
    }
}

/// An error for what should be so and is not.
pub(crate) fn wrong(what: &str, found: impl Display) -> Error {
    Error::Wrong { what: what.into(), found: found.to_string() }
}

/// Fails where `holds` is not so.
pub(crate) fn check(holds: bool, what: &str, found: impl Display) -> Result<()> {
    if holds { Ok(()) } else { Err(wrong(what, found)) }
}
