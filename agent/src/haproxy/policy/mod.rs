//! Whether a haproxy.cfg is one that Octavia's templates can produce.
//!
//! haproxy runs programs and scripts, reads any file and opens any socket its configuration names, as root until its
//! workers are there. What tenants type (URLs, header names, cipher lists) is text in that file, and has reached it as
//! directives before (LP#2162101, LP#2162103). So there is a list of what may stand there rather than of what may not:
//! what it does not know, it does not pass. Lines are taken apart as haproxy does it, so no quote or escape hides a word.

mod format;
mod pattern;
mod tables;
mod words;

use std::{fmt, net::IpAddr, path::Path};

pub use words::{Unreadable, words};

use crate::loadbalancers::LbId;
use tables::{Directive, OTHER_SECTIONS, SECTIONS};

/// What a configuration may name.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// Whose configuration.
    pub lb: &'a LbId,
    /// `base_path`
    pub base: &'a Path,
    /// `base_cert_dir`
    pub certs: &'a Path,
    /// The VIPs plugged into this amphora.
    pub vips: &'a [IpAddr],
}

/// A line that Octavia's templates do not write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// From 1 on.
    pub line: usize,
    /// The line's beginning, as text that can be logged.
    pub text: String,
    /// What is wrong with it, and what would be right.
    pub problem: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, `{}`: {}", self.line, self.text, self.problem)
    }
}

/// More than these are not looked for.
pub const MOST: usize = 20;
/// What gives haproxy's workers another user than root. Octavia always writes it.
const USER: [&str; 2] = ["user", "nobody"];
/// How much of a line is shown.
const SHOWN: usize = 80;

/// The lines that Octavia's templates do not write, in their order and at most [`MOST`]; none is fine.
#[must_use]
pub fn judge(text: &str, around: &Surroundings<'_>) -> Vec<Violation> {
    let mut section = Section::None;
    let mut found = Vec::new();
    let mut unprivileged = false;
    for (line, number) in text.split('\n').zip(1..) {
        let problem = match words(line) {
            Ok(words) => {
                unprivileged |= words == USER;
                section.take(&words, around).err()
            }
            Err(unreadable) => Some(unreadable.to_string()),
        };
        if let Some(problem) = problem {
            let shown = line.trim().chars().take(SHOWN).flat_map(char::escape_debug).collect();
            found.push(Violation { line: number, text: shown, problem });
            if found.len() == MOST {
                return found;
            }
        }
    }
    if !unprivileged {
        let problem = format!("has no `{}`, without which haproxy stays root; add it", USER.join(" "));
        found.push(Violation { line: 1, text: "global".to_owned(), problem });
    }
    found
}

/// Where in the file we are.
#[derive(Clone, Copy, Debug)]
enum Section {
    /// Before the first.
    None,
    /// In one that is a violation as a whole, said once.
    Foreign,
    /// In one of Octavia's.
    Known(&'static str, &'static [Directive]),
}

impl Section {
    /// Takes a line's words; says what is wrong with them.
    fn take(&mut self, words: &[String], around: &Surroundings<'_>) -> Result<(), String> {
        let Some(first) = words.first() else { return Ok(()) };
        if let Some((pattern, directives)) =
            SECTIONS.iter().find(|(pattern, _)| pattern.split(' ').next() == Some(first))
        {
            *self = Self::Known(pattern, directives);
            return if pattern::matches(&split(pattern), words, around) {
                Ok(())
            } else {
                Err(format!("Octavia's templates begin that section as `{pattern}`; write it so"))
            };
        }
        if OTHER_SECTIONS.contains(&first.as_str()) {
            *self = Self::Foreign;
            return Err("Octavia's templates have no such section; remove it".to_owned());
        }
        match *self {
            Self::Foreign => Ok(()),
            Self::None => Err("stands before any section; remove it".to_owned()),
            Self::Known(section, directives) => judge_directive(words, section, directives, around),
        }
    }
}

fn judge_directive(
    words: &[String],
    section: &str,
    directives: &[Directive],
    around: &Surroundings<'_>,
) -> Result<(), String> {
    let of_that_name = |d: &&Directive| d.pattern.split(' ').next() == words.first().map(String::as_str);
    let mut nearest = None;
    for directive in directives.iter().filter(of_that_name) {
        match judge_one(words, directive, around) {
            Ok(()) => return Ok(()),
            Err(problem) => nearest = nearest.or(problem),
        }
    }
    if let Some(problem) = nearest {
        return Err(problem);
    }
    let known: Vec<_> = directives.iter().filter(of_that_name).map(|d| format!("`{}`", d.pattern)).collect();
    let section = section.split(' ').next().unwrap_or(section);
    Err(match known.as_slice() {
        [] => format!("Octavia's templates have no such directive in `{section}`; remove it"),
        known => {
            format!("Octavia's templates write that directive in `{section}` as {}; write it so", known.join(" or "))
        }
    })
}

/// `Err` has what is wrong where more than the pattern can be said.
fn judge_one(words: &[String], directive: &Directive, around: &Surroundings<'_>) -> Result<(), Option<String>> {
    if directive.options.is_empty() {
        return if pattern::matches(&split(directive.pattern), words, around) { Ok(()) } else { Err(None) };
    }
    let Some(mut taken) = pattern::begins(directive.pattern, words, around) else {
        return Err(not_a_vip(words, directive, around));
    };
    while taken < words.len() {
        let option = |pattern: &&str| pattern::begins(pattern, &words[taken..], around);
        match directive.options.iter().find_map(option) {
            Some(more) => taken += more,
            None => return Err(Some(no_option(&words[taken], directive))),
        }
    }
    Ok(())
}

fn not_a_vip(words: &[String], directive: &Directive, around: &Surroundings<'_>) -> Option<String> {
    let ip = words.get(1).and_then(|word| pattern::endpoint(word)).filter(|_| directive.pattern == "bind <vip>")?;
    let vips: Vec<_> = around.vips.iter().map(ToString::to_string).collect();
    let plugged = if vips.is_empty() { "none is plugged".to_owned() } else { vips.join(", ") };
    Some(format!("{ip} is no VIP of this amphora ({plugged}); bind a VIP, or plug it first: POST /1.0/plug/vip/{ip}"))
}

fn no_option(word: &str, directive: &Directive) -> String {
    let shown: String = word.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    let name = directive.pattern.split(' ').next().unwrap_or_default();
    let named = |pattern: &&&str| pattern.split(' ').next().is_some_and(|names| names.split('|').any(|n| n == word));
    match directive.options.iter().find(named) {
        Some(pattern) => format!("Octavia's templates write `{shown}` as `{pattern}`; write it so"),
        None => format!("Octavia's templates give `{name}` no option `{shown}`; remove it"),
    }
}

fn split(pattern: &'static str) -> Vec<&'static str> {
    pattern.split(' ').collect()
}

#[cfg(test)]
mod tests;
