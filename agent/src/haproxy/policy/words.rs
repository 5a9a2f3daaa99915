//! A line of a haproxy.cfg as the words haproxy makes of it.

/// Why a line has no words that could be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// haproxy ends a line at one, or takes it for white space: what is seen is not what is read.
    #[error("has a control character; take it out")]
    Control,
    /// haproxy refuses it.
    #[error("has a quote that does not end; close it")]
    Quote,
    /// haproxy refuses it.
    #[error("has a \\x without two hexadecimal digits; give it two")]
    Hexadecimal,
    /// What it stands for is not in the file.
    #[error("has an environment variable; write what it stands for")]
    Variable,
}

/// The words of a line, quotes and escapes resolved and comments left out, as `parse_line` of haproxy's `src/tools.c`
/// has them. Where haproxy would cut or replace something that an eye does not see, there are none.
///
/// # Errors
/// [`Unreadable`].
pub fn words(line: &str) -> Result<Vec<String>, Unreadable> {
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.chars().any(|c| c.is_ascii_control() && c != '\t') {
        return Err(Unreadable::Control);
    }
    let (mut words, mut word) = (Vec::new(), None);
    let mut quote = None;
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        match (c, quote) {
            ('#', None) => break,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_with(String::new); // which may stay empty
            }
            (c, Some(q)) if c == q => quote = None,
            ('$', Some('"')) => return Err(Unreadable::Variable),
            (' ' | '\t', None) => words.extend(word.take()),
            ('\\', None | Some('"')) => escape(&mut rest, quote.is_some(), word.get_or_insert_with(String::new))?,
            (c, _) => word.get_or_insert_with(String::new).push(c),
        }
    }
    if quote.is_some() {
        return Err(Unreadable::Quote);
    }
    words.extend(word);
    Ok(words)
}

/// What stands behind a backslash. Before anything it has no meaning for, haproxy keeps the backslash.
fn escape(rest: &mut std::str::Chars<'_>, quoted: bool, word: &mut String) -> Result<(), Unreadable> {
    let mut after = rest.clone();
    let meant = match after.next() {
        Some(c @ (' ' | '\\' | '#' | '\'' | '"')) => c,
        Some('$') if quoted => '$',
        Some('n') => '\n',
        Some('r') => '\r',
        Some('t') => '\t',
        Some('x') => {
            let mut digit = || after.next().and_then(|c| c.to_digit(16));
            let (Some(high), Some(low)) = (digit(), digit()) else { return Err(Unreadable::Hexadecimal) };
            let byte = u8::try_from(high << 4 | low).expect("two digits are a byte");
            // haproxy's words end at a NUL, and whatever stands behind it counts for nothing.
            Some(char::from(byte)).filter(|c| *c != '\0').ok_or(Unreadable::Control)?
        }
        _ => {
            word.push('\\');
            return Ok(());
        }
    };
    word.push(meant);
    *rest = after;
    Ok(())
}
