//! Whether words are what a line of the tables says.

use std::{net::IpAddr, path::Path};

use super::{Surroundings, format::is_format};

/// Whether these are the words of a pattern, and no others.
pub(super) fn matches(pattern: &[&str], words: &[String], around: &Surroundings<'_>) -> bool {
    let Some((first, others)) = pattern.split_first() else { return words.is_empty() };
    if let Some(opening) = first.strip_prefix('[') {
        let end = pattern.iter().position(|p| p.ends_with(']')).unwrap_or(0);
        let mut with = pattern.to_vec();
        with[0] = opening;
        with[end] = with[end].trim_end_matches(']');
        return matches(&pattern[end + 1..], words, around) || matches(&with, words, around);
    }
    if let Some(each) = first.strip_suffix("...") {
        return !words.is_empty() && words.iter().all(|word| fits(each, word, around));
    }
    words.split_first().is_some_and(|(word, rest)| fits(first, word, around) && matches(others, rest, around))
}

/// Where `words` begin with a pattern that leaves nothing out: how many are its own.
pub(super) fn begins(pattern: &str, words: &[String], around: &Surroundings<'_>) -> Option<usize> {
    let mut count = 0;
    for one in pattern.split(' ') {
        fits(one, words.get(count)?, around).then_some(())?;
        count += 1;
    }
    Some(count)
}

/// Whether a word is one of the alternatives.
pub(super) fn fits(alternatives: &str, word: &str, around: &Surroundings<'_>) -> bool {
    alternatives.split('|').any(|one| match class_in(one) {
        None => one == word,
        Some((before, class, after)) => {
            let inner = word.strip_prefix(before).and_then(|word| word.strip_suffix(after));
            inner.is_some_and(|inner| is(class, inner, around))
        }
    })
}

/// The class a word of a pattern has in it, with what is before and after.
pub(super) fn class_in(one: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = one.split_once('<')?;
    let (class, after) = rest.split_once('>')?;
    Some((before, class, after))
}

/// Whether a word is of a class. There are no others: a test looks through the tables.
pub(super) fn is(class: &str, word: &str, around: &Surroundings<'_>) -> bool {
    let of = |more: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c));
    let number = |text: &str| !text.is_empty() && text.len() <= 10 && text.bytes().all(|b| b.is_ascii_digit());
    match class {
        "word" => true,
        "digit" => matches!(word.as_bytes(), [b'0'..=b'7']),
        "number" => number(word),
        "time" => number(word.trim_end_matches(['u', 'm', 's', 'h', 'd'])),
        "size" => number(word.trim_end_matches(['k', 'm', 'g'])),
        "id" => of("-_.:"),
        "rule" => is("id", word.strip_prefix('!').unwrap_or(word), around),
        // RFC 9110 section 5.6.2, with what Octavia lets pass and escapes besides. A parenthesis would end the argument,
        // and a converter could follow.
        "token" => of("!#$%&'*+-.^_`|~,;"),
        "ciphers" => of("-+!:@=_.,"),
        "alpn" => of("-./,_"),
        "hsts" => is_hsts(word),
        "format" => is_format(word),
        // `DOMAIN_NAME_REGEX` of `octavia/common/constants.py`. haproxy would take more for a log format.
        "domain" => of("-_."),
        "address" => word.parse::<IpAddr>().is_ok(),
        "endpoint" => endpoint(word).is_some(),
        "peer" => endpoint(word).is_some_and(|ip| !ip.is_unspecified()),
        "vip" => endpoint(word).is_some_and(|ip| around.vips.contains(&ip)),
        "socket" => Path::new(word) == around.base.join(format!("{}.sock", around.lb)),
        "state" => Path::new(word) == around.base.join(around.lb.to_string()).join("servers-state"),
        "certificate" => is_certificate(word, around),
        _ => false,
    }
}

/// The address in `ADDRESS:PORT`. Octavia writes IPv6 addresses without brackets; haproxy takes the last colon.
pub(super) fn endpoint(word: &str) -> Option<IpAddr> {
    let (address, port) = word.rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    address.parse().ok()
}

/// A file in the load balancer's own folder of certificates, or that folder with its slash (Octavia before 2020).
fn is_certificate(word: &str, around: &Surroundings<'_>) -> bool {
    let folder = format!("{}/{}/", around.certs.display(), around.lb);
    word.strip_prefix(&folder).is_some_and(|name| !name.contains('/') && name != "." && name != "..")
}

/// `max-age=N;`, ` includeSubDomains;` and ` preload;`.
fn is_hsts(word: &str) -> bool {
    let Some((age, others)) = word.strip_prefix("max-age=").and_then(|rest| rest.split_once(';')) else { return false };
    let others = others.strip_prefix(" includeSubDomains;").unwrap_or(others);
    !age.is_empty() && age.bytes().all(|b| b.is_ascii_digit()) && matches!(others, "" | " preload;")
}
