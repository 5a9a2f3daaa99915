//! Why an answer may differ, kept by hand: docs/differences.md is written from it.

/// A reason and the cases it is the reason of.
#[derive(Debug)]
pub(crate) struct Reason {
    pub(crate) title: &'static str,
    pub(crate) why: &'static str,
    /// Names of cases; one that ends in `*` means all that start so.
    pub(crate) cases: &'static [&'static str],
}

impl Reason {
    pub(crate) fn covers(&self, case: &str) -> bool {
        self.cases.iter().any(|name| Self::matches(name, case))
    }

    pub(crate) fn matches(name: &str, case: &str) -> bool {
        name.strip_suffix('*').map_or(name == case, |start| case.starts_with(start))
    }
}

pub(crate) const REASONS: &[Reason] = &[];

/// What cannot be compared truthfully, and why.
pub(crate) const NOT_COMPARED: &[(&str, &str)] = &[];
