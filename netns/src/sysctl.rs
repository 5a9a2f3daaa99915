//! Sysctls of a namespace, and the few that keep an anycast address quiet.
//!
//! `/proc/sys/net` shows each thread its own namespace, so [`read()`] and [`write()`] belong on a thread inside.

use std::{fs, path::PathBuf};

use crate::{Error, Kind, Namespace, Result};

/// What [`silence`] sets.
const SILENT: [(&str, &str); 4] = [
    ("net.ipv4.conf.all.arp_ignore", "1"),
    ("net.ipv4.conf.default.arp_ignore", "1"),
    ("net.ipv4.conf.all.arp_announce", "2"),
    ("net.ipv4.conf.default.arp_announce", "2"),
];

/// Makes the namespace keep silent about addresses that are on `lo`: to be called before the first is put there.
///
/// - `arp_ignore=1`: an ARP request is answered only for an address of the link it came in by.
/// - `arp_announce=2`: our own ARP requests never carry an anycast address as their sender, from which neighbours
///   would learn it. The kernel otherwise takes the source of the packet that waits.
///
/// Both in `all`, which each link's own value can only raise (the kernel takes the larger), and in `default`, for links
/// to come. IPv6 needs nothing: a neighbour solicitation is answered only for an address of the very link it came in by
/// (`ndisc_recv_ns`), our own solicitations take their source from the link they leave by, and `ndisc_notify`, like
/// `arp_notify`, speaks of a link's own addresses. Tested on the wire, those switched on included. What would break it
/// is an explicit proxy entry for the address (`ip neigh add proxy`), which nothing of ours makes, and an `arp_ignore`
/// of 3 to 7 on a link, whose meaning in the kernel is not "more of the same".
///
/// Answers whether anything had to be changed.
pub fn silence(namespace: &Namespace) -> Result<bool> {
    let mut changed = false;
    for (key, value) in SILENT {
        changed |= namespace.set_sysctl(key, value)?;
    }
    Ok(changed)
}

/// What the sysctls are that [`silence`] sets, for [`unsilence`].
pub fn before_silence(namespace: &Namespace) -> Result<Vec<(String, String)>> {
    SILENT.iter().map(|(key, _)| Ok(((*key).to_owned(), namespace.sysctl(key)?))).collect()
}

/// Takes [`silence`] back: what still has its value gets the one it had `before`; what somebody has set otherwise since
/// then stays, and so does what `before` does not name. Only when no address on `lo` has to be kept silent about.
pub fn unsilence(namespace: &Namespace, before: &[(String, String)]) -> Result<bool> {
    let mut changed = false;
    for (key, value) in SILENT {
        let Some((_, was)) = before.iter().find(|(k, _)| k == key) else { continue };
        if namespace.sysctl(key)? == value {
            changed |= namespace.set_sysctl(key, was)?;
        }
    }
    Ok(changed)
}

/// Whether [`silence`] has nothing left to do.
pub fn is_silent(namespace: &Namespace) -> Result<bool> {
    for (key, value) in SILENT {
        if namespace.sysctl(key)? != value {
            return Ok(false);
        }
    }
    Ok(true)
}

pub(crate) fn read(key: &str) -> Result<String> {
    let path = path_of("read sysctl", key)?;
    let text = fs::read_to_string(path).map_err(|e| Error::io("read sysctl", key, e))?;
    Ok(text.trim_end().to_owned())
}

pub(crate) fn write(key: &str, value: &str) -> Result<bool> {
    let path = path_of("set sysctl", key)?;
    // Several values are shown with tabs between them and may be given with blanks.
    if read(key)?.split_whitespace().eq(value.split_whitespace()) {
        return Ok(false);
    }
    fs::write(path, value).map_err(|e| Error::io("set sysctl", format!("{key}={value}"), e))?;
    Ok(true)
}

fn path_of(operation: &'static str, key: &str) -> Result<PathBuf> {
    let invalid = |why| Error::new(operation, format!("{key:?}"), Kind::Invalid(why));
    let below_net =
        key.strip_prefix("net.").ok_or_else(|| invalid("only sysctls below net. have a network namespace"))?;
    // Where a directory has one entry for each link, only the link's name can have dots.
    let per_link =
        ["ipv4.conf.", "ipv4.neigh.", "ipv6.conf.", "ipv6.neigh."].into_iter().find(|t| below_net.starts_with(t));
    let relative = match per_link.and_then(|table| Some((table, below_net[table.len()..].rsplit_once('.')?))) {
        Some((table, (link, leaf))) => format!("{}{link}/{leaf}", table.replace('.', "/")),
        None => below_net.replace('.', "/"),
    };
    if key.contains(['/', '\0']) || relative.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(invalid("a key is names with dots between"));
    }
    Ok(PathBuf::from("/proc/sys/net").join(relative))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_becomes_a_path_whatever_dots_the_interface_has() {
        for (key, path) in [
            ("net.ipv4.ip_forward", "ipv4/ip_forward"),
            ("net.core.somaxconn", "core/somaxconn"),
            ("net.ipv4.conf.all.arp_ignore", "ipv4/conf/all/arp_ignore"),
            ("net.ipv6.conf.eth0.100.accept_ra", "ipv6/conf/eth0.100/accept_ra"),
            ("net.ipv6.neigh.a...gc_stale_time", "ipv6/neigh/a../gc_stale_time"),
        ] {
            assert_eq!(path_of("read sysctl", key).unwrap(), PathBuf::from("/proc/sys/net").join(path));
        }
        for key in [
            "",
            "net",
            "net.",
            "net..x",
            "kernel.pid_max",
            "net.ipv4.conf...x",
            "net.ipv4.conf.../../x",
            "net./etc/x.y",
            "net.ipv4.conf....x",
        ] {
            let error = path_of("read sysctl", key).unwrap_err();
            assert!(matches!(error.kind, Kind::Invalid(_)), "{key}: {error}");
        }
    }
}
