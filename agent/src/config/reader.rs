//! From text to types, collecting every problem on the way.

use std::{fmt::Display, path::PathBuf};

use super::{
    document::Document,
    options,
    problem::{Place, Problem},
};

/// Reads options out of a [`Document`]; what is wrong becomes a [`Problem`] and `None`.
pub(super) struct Reader<'d> {
    pub(super) document: &'d Document,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

impl Reader<'_> {
    /// The text in effect, default included; `None` when there is none (or it is a problem, now noted).
    pub(super) fn text(&mut self, section: &str, key: &str) -> Option<String> {
        match self.document.text(section, key) {
            Ok(text) => text,
            Err(text) => {
                self.problem(section, key, text);
                None
            }
        }
    }

    /// An option parsed. `None` when it has no value and no default, or is a problem, now noted.
    pub(super) fn read<T, E: Display>(
        &mut self,
        section: &str,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(section, key)?;
        parse(&text).map_err(|error| self.problem(section, key, error.to_string())).ok()
    }

    /// A whole number from `least` to `most`. Written but empty is as not written, as in oslo.config.
    pub(super) fn number<T>(&mut self, section: &str, key: &str, least: T, most: T) -> Option<T>
    where
        T: Copy + Display + PartialOrd + TryFrom<i64>,
    {
        self.number_or(section, key, (least, most), &format!("not a whole number from {least} to {most}"))
    }

    /// The same, with words of its own for what is none.
    pub(super) fn number_or<T>(&mut self, section: &str, key: &str, (least, most): (T, T), wrong: &str) -> Option<T>
    where
        T: Copy + PartialOrd + TryFrom<i64>,
    {
        let default = options::find(section, key).and_then(|option| option.default);
        self.read(section, key, |text| {
            let text = if text.trim().is_empty() { default.unwrap_or_default() } else { text };
            let range = || wrong.to_owned();
            let number = options::integer(text).map_err(|_| range())?;
            let inside = |n: &T| (least..=most).contains(n);
            number.map(|n| T::try_from(n).ok().filter(inside).ok_or_else(range)).transpose()
        })
        .flatten()
    }

    pub(super) fn boolean(&mut self, section: &str, key: &str) -> Option<bool> {
        self.read(section, key, options::boolean)
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&mut self, section: &str, key: &str, words: &[(&str, T)]) -> Option<T> {
        self.read(section, key, |text| {
            let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
            found.ok_or_else(|| {
                let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
                format!("`{text}` is none of {}", words.join(", "))
            })
        })
    }

    /// A list; each bad element is a problem of its own.
    pub(super) fn list<T>(
        &mut self,
        section: &str,
        key: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let text = self.text(section, key)?;
        let (mut values, mut good) = (Vec::new(), true);
        for element in options::list(&text) {
            match parse(element) {
                Ok(value) => values.push(value),
                Err(error) => {
                    self.problem(section, key, error);
                    good = false;
                }
            }
        }
        good.then_some(values)
    }

    /// A path that is not empty.
    pub(super) fn path(&mut self, section: &str, key: &str) -> Option<PathBuf> {
        self.read(section, key, |text| {
            if text.is_empty() { Err("is empty; name a file or directory") } else { Ok(PathBuf::from(text)) }
        })
    }

    /// Notes a problem unless the option was written: for what has no default.
    pub(super) fn require(&mut self, section: &str, key: &str, why: &str) {
        if !self.written(section, key) {
            self.problem(section, key, format!("is required{why}"));
        }
    }

    pub(super) fn written(&self, section: &str, key: &str) -> bool {
        self.document.get(section, key).is_some()
    }

    pub(super) fn problem(&mut self, section: &str, key: &str, text: String) {
        let problem = self.at(section, key, text);
        self.problems.push(problem);
    }

    pub(super) fn warn(&mut self, section: &str, key: &str, text: String) {
        let warning = self.at(section, key, text);
        self.warnings.push(warning);
    }

    pub(super) fn at(&self, section: &str, key: &str, text: String) -> Problem {
        let place = self.place(section, key);
        Problem { place, section: Some(section.to_owned()), key: Some(key.to_owned()), text }
    }

    pub(super) fn at_section(&self, section: &str, text: String) -> Problem {
        Problem { key: None, ..self.at(section, "", text) }
    }

    pub(super) fn section_problem(&mut self, section: &str, text: String) {
        let problem = self.at_section(section, text);
        self.problems.push(problem);
    }

    /// The line of the option, else of its section.
    pub(super) fn place(&self, section: &str, key: &str) -> Option<Place> {
        let section = self.document.sections.get(section)?;
        Some(section.options.get(key).map_or(&section.place, |value| &value.place).clone())
    }
}
