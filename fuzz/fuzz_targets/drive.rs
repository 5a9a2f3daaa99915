//! A config drive of any bytes: what is read must not panic, hang or grow without bound, and every file that would be
//! written is one plain name in one of the directories of the list, whatever the drive says, and NICs' files have nothing
//! but the keys they are made of.
//!
//! The input is meta_data.json, network_data.json, user_data and the contents of a file, with a NUL between each.
#![no_main]

use std::net::IpAddr;

use amphora_agent::config_drive::{Drive, render};
use libfuzzer_sys::fuzz_target;

const DIRECTORIES: [&str; 4] =
    ["/etc/octavia", "/etc/octavia/amphora-agent.conf.d", "/etc/octavia/certs", "/etc/rsyslog.d"];

/// All that a NIC's file may say; anything else in it came from the drive.
const SAID: [&str; 25] = [
    "# From the config drive.",
    "",
    "[Match]",
    "[Link]",
    "[Network]",
    "[Route]",
    "[DHCPv4]",
    "[DHCPv6]",
    "[IPv6AcceptRA]",
    "DHCP=yes",
    "DHCP=ipv4",
    "DHCP=ipv6",
    "DHCP=no",
    "IPv6AcceptRA=yes",
    "IPv6AcceptRA=no",
    "GatewayOnLink=yes",
    "Scope=link",
    "UseMTU=yes",
    "UseDNS=no",
    "UseNTP=no",
    "UseHostname=no",
    "UseDomains=no",
    "WithoutRA=solicit",
    "DHCPv6Client=yes",
    "DHCPv6Client=no",
];

/// Whether a line is one of those, or a key with a value of its own kind.
fn may_be_said(line: &str) -> bool {
    let is_number = |value: &str| value.parse::<u32>().is_ok();
    SAID.contains(&line)
        || line.split_once('=').is_some_and(|(key, value)| match key {
            "MACAddress" => value.len() == 17 && value.bytes().all(|c| c.is_ascii_hexdigit() || c == b':'),
            "MTUBytes" | "Metric" | "RouteMetric" => is_number(value),
            "Gateway" => value.parse::<IpAddr>().is_ok(),
            "Address" | "Destination" => value
                .split_once('/')
                .is_some_and(|(address, length)| address.parse::<IpAddr>().is_ok() && is_number(length)),
            _ => false,
        })
}

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
        assert!(file.lines().all(may_be_said), "{file}");
        assert_eq!(file.matches("MACAddress=").count(), 1, "{file}");
    }
    if let Some(name) = drive.host_name {
        assert!(name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-'), "{name:?}");
    }
});
