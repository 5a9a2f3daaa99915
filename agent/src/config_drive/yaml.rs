//! The part of YAML that a cloud-config of Octavia's needs, and no more: mappings and lists by indentation, plain and quoted
//! texts of one line, and literal blocks (`|`).
//!
//! Written here and not taken from a library, because a drive is read by root before anything else runs: what is taken
//! has the structure it has for cloud-init, and everything else (anchors, tags, flow collections, folded or multi-line
//! texts) is an error that names its line. Errors never show the text, which may be a key.
//!
//! A scalar is its text. YAML 1.1, and so cloud-init, reads some plain ones as numbers, booleans or dates (`010`, `1_000`,
//! `yes`); nothing that is used here is one.

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// Nothing after the colon, `~` or `null`.
    Empty,
    /// A scalar.
    Text(String),
    /// A sequence.
    List(Vec<Value>),
    /// A mapping, in its order.
    Map(Vec<(String, Value)>),
    /// What belongs to a key that nobody asked for: its lines as they are, less their indentation.
    Unread(Vec<String>),
}

/// Where the text is not what is taken, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct YamlError {
    /// From 1.
    pub line: usize,
    /// What is wrong, and what to write instead.
    pub problem: &'static str,
}

/// Deeper than any cloud-config.
const DEEPEST: usize = 16;

/// A line without its break; `text` begins after the spaces.
#[derive(Clone, Copy, Debug)]
struct Line<'a> {
    indent: usize,
    text: &'a str,
}

/// Reads a text that is a mapping; of its keys only those that are `used`, so that the others may have all of YAML.
pub(super) fn parse(text: &str, used: fn(&str) -> bool) -> Result<Value, YamlError> {
    let mut lines = Vec::new();
    for (number, line) in text.split('\n').enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        // What PyYAML does not print, it does not read; these three it takes for line breaks.
        let odd = |c: char| c.is_control() && c != '\t' || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}');
        if line.contains(odd) {
            return Err(YamlError { line: number + 1, problem: "a control character; is the file damaged?" });
        }
        let text = line.trim_start_matches(' ');
        lines.push(Line { indent: line.len() - text.len(), text });
    }
    if !text.is_empty() && text.ends_with('\n') {
        lines.pop(); // what follows the last break is no line
    }
    let mut parser = Parser { lines, at: 0, ends_open: !text.ends_with('\n'), used };
    let value = match parser.peek()? {
        None => Value::Empty,
        Some(line) => parser.node(line, 0)?,
    };
    match parser.peek()? {
        None => Ok(value),
        Some(_) => Err(parser.here("indented less than what it belongs to")),
    }
}

struct Parser<'a> {
    lines: Vec<Line<'a>>,
    at: usize,
    /// The last line has no break.
    ends_open: bool,
    /// Whether a key of the text's own mapping is read.
    used: fn(&str) -> bool,
}

impl<'a> Parser<'a> {
    fn here(&self, problem: &'static str) -> YamlError {
        YamlError { line: self.at + 1, problem }
    }

    /// The next line that says something.
    fn peek(&mut self) -> Result<Option<Line<'a>>, YamlError> {
        while let Some(line) = self.lines.get(self.at).copied() {
            if line.text.is_empty() || line.text.starts_with('#') {
                self.at += 1;
                continue;
            }
            if line.text.contains('\t') {
                return Err(self.here("a tab; use spaces (in a literal block it may stand)"));
            }
            return Ok(Some(line));
        }
        Ok(None)
    }

    fn node(&mut self, line: Line<'a>, depth: usize) -> Result<Value, YamlError> {
        if depth > DEEPEST {
            return Err(self.here("nested too deeply"));
        }
        if item(line.text).is_some() { self.list(line.indent, depth) } else { self.map(line.indent, depth) }
    }

    fn map(&mut self, indent: usize, depth: usize) -> Result<Value, YamlError> {
        let mut entries: Vec<(String, Value)> = Vec::new();
        while let Some(line) = self.peek()? {
            if line.indent < indent {
                break;
            }
            if line.indent > indent {
                return Err(self.here("indented more than its neighbours; a text of several lines needs `|`"));
            }
            let Some((key, rest)) = key(line.text) else { return Err(self.here("neither `key:` nor `key: value`")) };
            if entries.iter().any(|(known, _)| known == key) {
                return Err(self.here("a key that is there already"));
            }
            let read = depth > 0 || (self.used)(key);
            let value = if read { self.value(rest, indent, depth, true)? } else { self.unread(rest, indent) };
            entries.push((key.to_owned(), value));
        }
        Ok(Value::Map(entries))
    }

    /// Passes over a key's value: what is indented more, and items and closing brackets that are not.
    fn unread(&mut self, rest: &str, indent: usize) -> Value {
        let mut lines = vec![rest.to_owned()];
        self.at += 1;
        while let Some(line) = self.lines.get(self.at) {
            let belongs = line.indent > indent || item(line.text).is_some() || line.text.starts_with([']', '}']);
            if !belongs && !line.text.is_empty() && !line.text.starts_with('#') {
                break;
            }
            lines.push(line.text.to_owned());
            self.at += 1;
        }
        Value::Unread(lines)
    }

    fn list(&mut self, indent: usize, depth: usize) -> Result<Value, YamlError> {
        let mut items = Vec::new();
        while let Some(line) = self.peek()? {
            if line.indent > indent {
                return Err(self.here("indented more than its neighbours; a text of several lines needs `|`"));
            }
            let Some(rest) = item(line.text).filter(|_| line.indent == indent) else { break };
            if key(rest).is_some() || item(rest).is_some() {
                // A mapping or list that begins on its item's line: its indentation is where it begins.
                let inner = Line { indent: indent + (line.text.len() - rest.len()), text: rest };
                self.lines[self.at] = inner;
                items.push(self.node(inner, depth + 1)?);
            } else {
                items.push(self.value(rest, indent, depth, false)?);
            }
        }
        Ok(Value::List(items))
    }

    /// What follows a key's colon or an item's dash, on its line or below; `indent` is the key's or the dash's.
    fn value(&mut self, rest: &'a str, indent: usize, depth: usize, of_key: bool) -> Result<Value, YamlError> {
        if rest.is_empty() || rest.starts_with('#') {
            self.at += 1;
            return match self.peek()? {
                Some(line) if line.indent > indent => self.node(line, depth + 1),
                // A key's list need not be indented.
                Some(line) if of_key && line.indent == indent && item(line.text).is_some() => {
                    self.list(indent, depth + 1)
                }
                _ => Ok(Value::Empty),
            };
        }
        let value = match rest.as_bytes()[0] {
            b'|' => return self.literal(&rest[1..], indent),
            b'\'' => Value::Text(self.single(&rest[1..])?),
            b'"' => Value::Text(self.double(&rest[1..])?),
            b'>' => return Err(self.here("folded text (`>`) is not taken; use `|`")),
            b'[' | b'{' => return Err(self.here("a collection in brackets is not taken; write one item a line")),
            b'&' | b'*' | b'!' => return Err(self.here("anchors, aliases and tags are not taken")),
            b'%' | b'@' | b'`' | b']' | b'}' | b',' => return Err(self.here("a text that begins so needs quotes")),
            _ => self.plain(rest)?,
        };
        self.at += 1;
        Ok(value)
    }

    fn plain(&self, rest: &str) -> Result<Value, YamlError> {
        let comment = rest.char_indices().find(|(at, c)| *c == '#' && rest[..*at].ends_with(' '));
        let text = comment.map_or(rest, |(at, _)| &rest[..at]).trim_end_matches(' ');
        let begins = |c| text == c || text.strip_prefix(c).is_some_and(|rest| rest.starts_with(' '));
        if text.contains(": ") || text.ends_with(':') || ["-", "?", ":"].into_iter().any(begins) {
            return Err(self.here("a text with a colon or dash like this needs quotes"));
        }
        Ok(match text {
            "~" | "null" | "Null" | "NULL" => Value::Empty,
            text => Value::Text(text.to_owned()),
        })
    }

    /// What follows a closing quote.
    fn ends(&self, rest: &str) -> Result<(), YamlError> {
        let after = rest.trim_start_matches(' ');
        let comment = after.starts_with('#') && after.len() < rest.len();
        if after.is_empty() || comment { Ok(()) } else { Err(self.here("text after the closing quote")) }
    }

    fn single(&self, rest: &str) -> Result<String, YamlError> {
        let (mut text, mut left) = (String::new(), rest);
        loop {
            let (before, after) =
                left.split_once('\'').ok_or_else(|| self.here("the quote is not closed on its line"))?;
            text.push_str(before);
            let Some(doubled) = after.strip_prefix('\'') else {
                self.ends(after)?;
                return Ok(text);
            };
            text.push('\'');
            left = doubled;
        }
    }

    fn double(&self, rest: &str) -> Result<String, YamlError> {
        let mut text = String::new();
        let mut chars = rest.chars();
        loop {
            match chars.next().ok_or_else(|| self.here("the quote is not closed on its line"))? {
                '"' => {
                    self.ends(chars.as_str())?;
                    return Ok(text);
                }
                '\\' => text.push(match chars.next() {
                    Some(c @ ('"' | '\\' | '/')) => c,
                    Some('n') => '\n',
                    Some('t') => '\t',
                    Some('r') => '\r',
                    _ => return Err(self.here("an escape other than \\\\ \\\" \\/ \\n \\r \\t in a quoted text")),
                }),
                c => text.push(c),
            }
        }
    }

    /// A block: its lines as they are, less the indentation of the first.
    fn literal(&mut self, header: &str, indent: usize) -> Result<Value, YamlError> {
        let (flags, comment) = header.split_once(' ').unwrap_or((header, ""));
        let comment = comment.trim_start_matches(' ');
        let (mut chomp, mut given) = (None, None);
        for c in flags.chars() {
            match c {
                '+' | '-' if chomp.is_none() => chomp = Some(c),
                '1'..='9' if given.is_none() => given = c.to_digit(10),
                _ => return Err(self.here("after `|` only `+`, `-` and a digit are taken")),
            }
        }
        if !comment.is_empty() && !comment.starts_with('#') {
            return Err(self.here("text after `|`; it begins on the next line"));
        }
        self.at += 1;
        let first = self.lines[self.at..].iter().position(|line| !line.text.is_empty());
        let blanks = &self.lines[self.at..self.at + first.unwrap_or(self.lines.len() - self.at)];
        let widest = blanks.iter().map(|blank| blank.indent).max().unwrap_or(0);
        let inner = match (given, first.map(|first| self.lines[self.at + first].indent)) {
            (Some(given), _) => indent + given as usize,
            (None, Some(inner)) if inner > indent && widest > inner => {
                return Err(self.here("a blank line that is indented more than the text's first line"));
            }
            (None, Some(inner)) if inner > indent => inner,
            (None, _) => widest.max(indent + 1), // blank lines only
        };
        let (mut text, mut written) = (String::new(), 0);
        while let Some(line) = self.lines.get(self.at) {
            if !line.text.is_empty() && line.indent < inner {
                break;
            }
            text.extend(std::iter::repeat_n(' ', line.indent.saturating_sub(inner)));
            text.push_str(line.text);
            let says = !line.text.is_empty() || line.indent > inner;
            self.at += 1;
            text.push('\n');
            if says {
                written = text.len();
            }
        }
        if self.at == self.lines.len() && self.ends_open {
            // Octavia's text ends with another key, and a person's editor ends the line.
            return Err(YamlError {
                line: self.at,
                problem: "the text ends within a block, without a line break; is it cut short?",
            });
        }
        match chomp {
            Some('+') => {}
            Some(_) => text.truncate(text[..written].trim_end_matches('\n').len()),
            None => text.truncate(written),
        }
        Ok(Value::Text(text))
    }
}

/// What follows the dash of a list's item.
fn item(text: &str) -> Option<&str> {
    let rest = text.strip_prefix('-')?;
    (rest.is_empty() || rest.starts_with(' ')).then(|| rest.trim_start_matches(' '))
}

/// A key and what follows its colon.
fn key(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/')))?;
    let (key, rest) = text.split_at(end);
    let rest = rest.strip_prefix(':')?;
    let follows = rest.is_empty() || rest.starts_with(' ');
    (follows && !key.is_empty() && item(text).is_none()).then(|| (key, rest.trim_start_matches(' ')))
}

#[cfg(test)]
mod tests;
