//! The files a haproxy configuration names for its TLS, and which of them are gone.
//!
//! Keys are on a RAM disk (Octavia's certs-ramfs): after a reboot the configuration is there and they are not, haproxy cannot
//! start, and whoever asks is to hear that rather than an exit code. The controller sends them anew when it updates the
//! listener or replaces the amphora.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// The keywords of `bind` and `server` lines that have such a file after them.
const KEYWORDS: [&str; 4] = ["crt", "crt-list", "ca-file", "crl-file"];

/// The files a configuration names for its TLS.
pub(crate) fn named(configuration: &str) -> BTreeSet<PathBuf> {
    let mut files = BTreeSet::new();
    for line in configuration.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        if !matches!(words.first(), Some(&("bind" | "server" | "default-server"))) {
            continue;
        }
        let pairs = words.windows(2).filter(|pair| KEYWORDS.contains(&pair[0]) && pair[1].starts_with('/'));
        files.extend(pairs.map(|pair| PathBuf::from(pair[1])));
    }
    files
}

/// Those of the files that are not there.
pub(crate) fn missing<'a>(files: impl IntoIterator<Item = &'a PathBuf>) -> Vec<&'a Path> {
    files.into_iter().map(PathBuf::as_path).filter(|file| file.try_exists().is_ok_and(|there| !there)).collect()
}

/// What there is to say of them; nothing where none is missing.
pub(crate) fn explain<'a>(files: impl IntoIterator<Item = &'a PathBuf>) -> Option<String> {
    let missing = missing(files);
    let (first, others) = (missing.first()?, missing.len() - 1);
    let others = if others > 0 { format!(" and {others} more files") } else { String::new() };
    Some(format!(
        "its TLS files are gone, as after a reboot: {}{others}; fail the amphora over, or have the controller send them again",
        first.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_binds_and_servers_are_found_and_those_that_are_gone_named() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        let text = format!(
            "frontend a\n    bind 192.0.2.7:443 ssl crt-list {} ca-file {} verify required crl-file {}\n    # bind x crt /no\n\
             backend b\n    server m 192.0.2.9:443 ssl crt {} sni ssl_fc_sni\n    acl crt /neither\n",
            at("a"),
            at("b"),
            at("c"),
            at("d")
        );
        let files = named(&text);
        assert_eq!(files, ["a", "b", "c", "d"].map(|name| PathBuf::from(at(name))).into());
        let said = explain(&files).unwrap();
        assert!(said.contains(&format!("{} and 3 more files; fail", at("a"))), "{said}");
        for name in ["b", "c", "d"] {
            std::fs::write(at(name), "").unwrap();
        }
        assert!(explain(&files).unwrap().contains(&format!("{}; fail", at("a"))));
        std::fs::write(at("a"), "").unwrap();
        assert_eq!(explain(&files), None);
    }
}
