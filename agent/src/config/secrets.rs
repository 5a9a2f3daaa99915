//! What the files call a secret, whether or not they can be used as a configuration.
//!
//! For those who take secrets out of texts that leave the machine: the agent may still run with what a file said before it
//! was broken, and a line that is no INI may hold a password all the same. So nothing is parsed here but `key = value`.

use std::{collections::BTreeSet, path::Path};

use super::{Config, Sources, ini, sources::read_bounded};

/// A key that has one of these in it names a secret, or with `_file` at its end the file of one.
const NAMES: [&str; 5] = ["password", "passwd", "passphrase", "secret", "heartbeat_key"];
/// A file of a secret is not longer, in bytes.
const MAX_SECRET: u64 = 4096;

/// Each secret the files have, in every form it can have in them: as written, without quotes, and with `$` for what stands
/// for it. Longest first, for one may be a part of another.
#[must_use]
pub fn secrets(sources: &Sources) -> Vec<String> {
    let mut found: BTreeSet<String> = sources.texts().iter().flat_map(|text| written(text)).collect();
    // Where it can be read, what references came to.
    if let Ok(config) = Config::load(sources) {
        let passwords = config.bgp.iter().flat_map(|bgp| &bgp.peers).filter_map(|peer| peer.peer.password.as_ref());
        found.extend(passwords.map(|password| password.reveal().to_owned()));
        found.extend(config.heartbeat.key.as_ref().map(|key| key.reveal().to_owned()));
    }
    found.remove("");
    let mut found: Vec<_> = found.into_iter().collect();
    found.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    found
}

fn written(text: &str) -> Vec<String> {
    let (mut found, mut of_a_secret) = (Vec::new(), false);
    for line in text.lines() {
        let continued = line.starts_with([' ', '\t']);
        if continued && of_a_secret {
            found.extend(forms(line.trim()));
        }
        let Some((key, value)) = line.split_once(['=', ':']) else { continue };
        let (key, value) = (key.trim().to_lowercase(), value.trim());
        let named = NAMES.iter().any(|name| key.contains(name));
        of_a_secret = named || (continued && of_a_secret);
        if !named {
            continue;
        }
        if key.ends_with("_file") {
            let bytes = forms(value).iter().find_map(|path| read_bounded(Path::new(path), MAX_SECRET).ok());
            found.extend(
                bytes
                    .iter()
                    .flat_map(|bytes| String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect::<Vec<_>>()),
            );
        } else {
            found.extend(forms(value));
        }
    }
    found
}

/// A value as it stands there, and what it means.
fn forms(value: &str) -> Vec<String> {
    let unquoted = ini::unquote(value);
    let meant = unquoted.replace("\\$", "$").replace("$$", "$");
    vec![value.to_owned(), unquoted.to_owned(), meant]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Flag;

    #[test]
    fn they_are_found_in_files_that_are_no_configuration() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("tor.md5"), "from-a-file\n").unwrap();
        let text = format!(
            "no section\nheartbeat_key: \"quo ted\"\n[health_manager\nHeartbeat_Key = cash$$\n[bgp_peer:x]\nauth_password = one\n \
             two\npeer_ip = no secret\n more\nauth_password_file = {}\nauth_password_file=/no/such\nvip_mode = sideways\n",
            path("tor.md5").display()
        );
        std::fs::write(path("a.conf"), text).unwrap();
        let sources = Sources::new(vec![Flag::Directory(directory.path().to_owned())], &path("none"));
        assert!(Config::load(&sources).is_err());
        let found = secrets(&sources);
        for secret in ["quo ted", "cash$", "cash$$", "one", "two", "from-a-file"] {
            assert!(found.iter().any(|one| one == secret), "{secret}: {found:?}");
        }
        assert!(!found.iter().any(|one| ["no secret", "more", "sideways"].contains(&one.as_str())), "{found:?}");
        assert!(found.is_sorted_by_key(|secret| std::cmp::Reverse(secret.len())), "{found:?}");
    }
}
