//! A config drive of any bytes: what is read must not panic, hang or grow without bound, and every file that would be
//! written is one plain name in one of the directories of the list, whatever the drive says.
//!
//! The input is meta_data.json, network_data.json, user_data and the contents of a file, with a NUL between each.
#![no_main]

use amphora_agent::config_drive::{Drive, render};
use libfuzzer_sys::fuzz_target;

const DIRECTORIES: [&str; 4] =
    ["/etc/octavia", "/etc/octavia/amphora-agent.conf.d", "/etc/octavia/certs", "/etc/rsyslog.d"];

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(4, |byte| *byte == 0);
    let mut next = || parts.next().unwrap_or_default();
    let Ok(drive) = Drive::from_texts(next(), next(), next(), next()) else { return };
    for file in &drive.files {
        let path = file.target.to_string();
        let (directory, name) = path.rsplit_once('/').expect("an absolute path");
        assert!(DIRECTORIES.contains(&directory) && !name.is_empty() && !name.starts_with('.'), "{path:?}");
    }
    for nic in &drive.nics {
        let file = render(nic);
        assert!(file.lines().all(|line| line.is_empty() || line.starts_with(['#', '[']) || line.contains('=')), "{file}");
    }
    if let Some(name) = drive.host_name {
        assert!(name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-'), "{name:?}");
    }
});
