//! The INI dialect of oslo.config, as its parser (not its manual) has it.
//!
//! Written by hand because every INI crate differs from it in something the stock controller or an
//! operator may write: continuation lines, one pair of quotes stripped, `:` as well as `=`, and
//! comments only at the start of a line. `golden/oslo.json` holds oslo.config's own answers.

use std::fmt;

/// A `key = value`, with continuation lines joined by newlines.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// The section it stands in, as written.
    pub section: String,
    /// The key, as written: keys are case-sensitive.
    pub key: String,
    /// The value without the outer quotes, before `$` interpolation.
    pub value: String,
    /// The line of the key, from 1.
    pub line: usize,
}

/// Without the value: it may be a secret.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: [{}] {} = ***", self.line, self.section, self.key)
    }
}

/// One file, parsed: nothing merged, nothing interpreted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ini {
    /// Section headers in order, with their lines.
    pub sections: Vec<(String, usize)>,
    /// Assignments in order.
    pub entries: Vec<Entry>,
}

/// A line that is not INI. Never holds the line's text: it may be a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it, and the fix.
    pub text: &'static str,
}

const NO_ASSIGNMENT: &str = "neither `key = value`, `[section]` nor a comment; write one of these";
const NO_KEY: &str = "there is no key before the `=` or `:`; name one";
const NO_SECTION: &str = "a section must be started before the first option; put [DEFAULT] above it";
const NO_BRACKET: &str = "a section header must end with `]`, with nothing after it";
const NO_NAME: &str = "the section has no name; write one between the brackets";
const NO_START: &str = "an indented line continues an option, and there is none above; remove the indentation";

/// Parses one file. Reports every bad line, where oslo.config stops at the first.
///
/// # Errors
/// The lines that are not INI.
pub fn parse(text: &str) -> Result<Ini, Vec<SyntaxError>> {
    let mut ini = Ini::default();
    let mut errors = Vec::new();
    let mut section: Option<String> = None;
    let mut open = Open::Nothing;
    for (index, line) in lines(text).enumerate() {
        let at = index + 1;
        let line = line.trim_end_matches(is_space);
        let mut error = |text| errors.push(SyntaxError { line: at, text });
        if line.is_empty() {
            open = Open::Nothing;
        } else if line.starts_with([' ', '\t']) {
            match open {
                Open::Nothing => error(NO_START),
                Open::Skipped => {} // belongs to a line already reported
                Open::Entry => {
                    if let Some(entry) = ini.entries.last_mut() {
                        entry.value.push('\n');
                        entry.value.push_str(line.trim_start_matches(is_space));
                    }
                }
            }
        } else if let Some(name) = line.strip_prefix('[') {
            open = Open::Nothing;
            match name.strip_suffix(']') {
                None => error(NO_BRACKET),
                Some("") => error(NO_NAME),
                Some(name) => {
                    ini.sections.push((name.to_owned(), at));
                    section = Some(name.to_owned());
                }
            }
        } else if line.starts_with(['#', ';']) {
            open = Open::Nothing;
        } else {
            let entry = split(line).and_then(|(key, value)| {
                let section = section.clone().ok_or(NO_SECTION)?;
                Ok(Entry { section, key: key.to_owned(), value: value.to_owned(), line: at })
            });
            match entry {
                Ok(entry) => {
                    ini.entries.push(entry);
                    open = Open::Entry;
                }
                Err(text) => {
                    error(text);
                    open = Open::Skipped;
                }
            }
        }
    }
    if errors.is_empty() { Ok(ini) } else { Err(errors) }
}

/// What an indented line would continue.
enum Open {
    Nothing,
    Entry,
    Skipped,
}

fn split(line: &str) -> Result<(&str, &str), &'static str> {
    let (key, value) = line.split_once(['=', ':']).ok_or(NO_ASSIGNMENT)?;
    let (key, value) = (key.trim_matches(is_space), value.trim_matches(is_space));
    if key.is_empty() {
        return Err(NO_KEY);
    }
    Ok((key, unquote(value)))
}

/// One pair of equal quotes goes; a lone quote is a pair with itself, as oslo.config has it.
pub(super) fn unquote(value: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(inner) = value.strip_prefix(quote) {
            if inner.is_empty() {
                return inner;
            }
            return inner.strip_suffix(quote).unwrap_or(value);
        }
    }
    value
}

/// Writes a value so that [`parse`] reads it back; the inverse for every value it can return.
#[must_use]
pub fn quote(value: &str) -> String {
    let (first, rest) = value.split_once('\n').unwrap_or((value, ""));
    let bare = first.trim_matches(is_space) == first && !first.starts_with(['"', '\'']);
    let mut out = if bare { first.to_owned() } else { format!("\"{first}\"") };
    if value.contains('\n') {
        for line in rest.split('\n') {
            out.push_str("\n    ");
            out.push_str(line);
        }
    }
    out
}

/// Python's universal newlines: `\n`, `\r\n` and `\r` end a line.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n').flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'))
}

/// Python's `str.isspace`, which has four control characters more than Unicode's `White_Space`.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

#[cfg(test)]
mod tests;
