//! The files merged: every option that was written, as text, with its place, and `$` references looked up.
//!
//! This is the configuration as written; [`Config`](super::Config) is the one that cannot be wrong.

use std::{
    borrow::Cow,
    collections::{BTreeMap, btree_map::Entry},
    path::PathBuf,
    sync::Arc,
};

use super::{
    ini::Ini,
    options::{self, Kind},
    problem::Place,
};

/// Bounds what `$` references may cost: references to references grow exponentially.
const MAX_REFERENCES: usize = 1_000;
const MAX_EXPANDED: usize = 64 * 1024;

/// A value and where it was written. Not `Debug`: it may be a secret.
pub(super) struct Value {
    pub(super) text: String,
    pub(super) place: Place,
}

/// A section: where it first appears, and its options; of an option written twice the last holds.
pub(super) struct Section {
    pub(super) place: Place,
    pub(super) options: BTreeMap<String, Value>,
}

/// All files, later ones over earlier ones.
#[derive(Default)]
pub(super) struct Document {
    pub(super) sections: BTreeMap<String, Section>,
    /// The headers in files of a directory (`--config-dir`): nobody but an operator writes those, so a name nobody knows
    /// is a slip, and no newer release's section.
    pub(super) by_hand: Vec<(String, Place)>,
}

impl Document {
    pub(super) fn add(&mut self, file: &Arc<PathBuf>, ini: Ini) {
        let place = |line| Place { file: file.clone(), line };
        for (name, line) in ini.sections {
            let empty = || Section { place: place(line), options: BTreeMap::new() };
            self.sections.entry(normal(&name).into_owned()).or_insert_with(empty);
        }
        for entry in ini.entries {
            let section = self.sections.get_mut(&*normal(&entry.section)).expect("an entry follows its header");
            section.options.insert(entry.key, Value { text: entry.value, place: place(entry.line) });
        }
    }

    /// What a file of a directory holds, over what is there.
    pub(super) fn add_by_hand(&mut self, part: Self) {
        for (name, section) in part.sections {
            self.by_hand.push((name.clone(), section.place.clone()));
            match self.sections.entry(name) {
                Entry::Vacant(vacant) => drop(vacant.insert(section)),
                Entry::Occupied(mut held) => held.get_mut().options.extend(section.options),
            }
        }
    }

    pub(super) fn get(&self, section: &str, key: &str) -> Option<&Value> {
        self.sections.get(section)?.options.get(key)
    }

    /// The text of an option with its references replaced; the default's when it was not written.
    pub(super) fn text(&self, section: &str, key: &str) -> Result<Option<String>, String> {
        let mut search = Search { document: self, path: Vec::new(), left: MAX_REFERENCES };
        search.option(section, key)
    }
}

/// oslo.config compares section names without case, except `DEFAULT`. The name of a peer keeps its case.
pub(super) fn normal(section: &str) -> Cow<'_, str> {
    if section == "DEFAULT" {
        return section.into();
    }
    match section.split_once(':') {
        Some((kind, name)) if kind.eq_ignore_ascii_case("bgp_peer") => format!("bgp_peer:{name}").into(),
        _ => section.to_lowercase().into(),
    }
}

struct Search<'d> {
    document: &'d Document,
    /// The options being looked up, to notice one that needs itself.
    path: Vec<(String, String)>,
    left: usize,
}

impl Search<'_> {
    fn option(&mut self, section: &str, key: &str) -> Result<Option<String>, String> {
        let known = options::find(section, key);
        let written = match self.document.get(section, key) {
            Some(value) => value.text.as_str(),
            None => match known.and_then(|option| option.default) {
                Some(default) => return Ok(Some(default.to_owned())),
                None => return Ok(None),
            },
        };
        let step = (section.to_owned(), key.to_owned());
        if self.path.contains(&step) {
            return Err(format!("the reference ${key} leads back to itself; remove it"));
        }
        self.path.push(step);
        let text = self.expand(section, written)?;
        self.path.pop();
        Ok(Some(text))
    }

    /// Python's `string.Template.safe_substitute` with oslo.config's names, after `\$` became `$$`.
    fn expand(&mut self, section: &str, text: &str) -> Result<String, String> {
        let text = text.replace("\\$", "$$");
        let (mut out, mut rest) = (String::new(), text.as_str());
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                out.push('$');
                rest = after;
            } else if let Some((name, after)) = reference(after) {
                out.push_str(&self.refer(section, name)?);
                rest = after;
            } else {
                out.push('$'); // not a reference: stays as it is
                rest = after;
            }
            if out.len() > MAX_EXPANDED {
                return Err(format!("becomes longer than {MAX_EXPANDED} bytes with its $ references; shorten it"));
            }
        }
        out.push_str(rest);
        Ok(out)
    }

    fn refer(&mut self, section: &str, name: &str) -> Result<String, String> {
        self.left = self.left.checked_sub(1).ok_or("has too many $ references; write the value itself")?;
        // The second of a dotted name finds nothing; oslo.config does not let `DEFAULT` be named either.
        let (group, key) = match name.split_once('.') {
            Some(("DEFAULT", _)) => ("DEFAULT", name),
            Some(dotted) => dotted,
            None => (section, name),
        };
        for (group, key) in [(group, key), ("DEFAULT", name)] {
            let known = options::find(group, key);
            match self.option(group, key)? {
                Some(text) => return known.map_or(Ok(text.clone()), |option| as_python(option.kind, &text)),
                None if known.is_some() => return Ok(String::new()),
                None => {}
            }
        }
        // Without the name: in a password it would be a part of the secret.
        Err("refers by a $ to an option that is not set; set that one, or write $$ for a plain $".to_owned())
    }
}

/// The name after a `$`, bare or in braces, and what follows it.
fn reference(text: &str) -> Option<(&str, &str)> {
    if let Some(inner) = text.strip_prefix('{') {
        let (name, after) = inner.split_once('}')?;
        let (whole, rest) = identifier(name)?;
        return rest.is_empty().then_some((whole, after));
    }
    identifier(text)
}

fn identifier(text: &str) -> Option<(&str, &str)> {
    let first = text.chars().next()?;
    if !(first == '_' || first.is_ascii_alphabetic()) {
        return None;
    }
    let end = text.find(|c: char| !(c == '.' || c == '_' || c.is_ascii_alphanumeric())).unwrap_or(text.len());
    Some(text.split_at(end))
}

/// oslo.config substitutes the converted value, printed by Python.
fn as_python(kind: Kind, text: &str) -> Result<String, String> {
    match kind {
        Kind::Text => Ok(text.to_owned()),
        Kind::Integer => options::integer(text).map(|n| n.map_or(String::new(), |n| n.to_string())),
        Kind::Boolean => options::boolean(text).map(|yes| if yes { "True" } else { "False" }.to_owned()),
        Kind::List => Err("refers to a list; write the value itself".to_owned()),
    }
}

#[cfg(test)]
mod tests;
