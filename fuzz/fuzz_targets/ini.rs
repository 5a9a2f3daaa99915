//! A configuration file of any bytes: parsing, `$` references and checking must not panic, hang or grow without bound,
//! and what is accepted must print as something that is accepted and prints the same.
#![no_main]

use std::path::Path;

use amphora_agent::config::{Config, ini};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(parsed) = ini::parse(text) {
        for entry in &parsed.entries {
            let again =
                ini::parse(&format!("[s]\n{} = {}\n", "key", ini::quote(&entry.value))).expect("a quoted value");
            assert_eq!(again.entries[0].value, entry.value);
        }
    }
    // A password file could name any file of this machine.
    if text.contains("auth_password_file") {
        return;
    }
    if let Ok(config) = Config::from_text(Path::new("fuzz.conf"), text) {
        let printed = config.to_string();
        let again = Config::from_text(Path::new("printed.conf"), &printed).expect("what is printed is read");
        assert_eq!(again.to_string(), printed);
    }
});
