//! What load balancers' configurations say of how they serve: which VIPs they bind, and with which files.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::loadbalancers::{self, LbId, certificates};

/// What tells a file from the one that was there before: its inode, and when it was last changed.
type Stamp = (u64, i64, i64);

/// What a configuration says.
#[derive(Clone, Debug, Default)]
struct Said {
    addresses: BTreeSet<IpAddr>,
    /// For TLS.
    files: BTreeSet<PathBuf>,
}

/// What each load balancer binds, and needs. Files are read again when they have changed.
#[derive(Clone, Debug, Default)]
pub(super) struct Binds(BTreeMap<LbId, (Stamp, Said)>);

impl Binds {
    /// Looks for what has changed. Blocks for as long as the disk does.
    pub(super) fn refresh(mut self, base: &Path) -> io::Result<Self> {
        let names = match loadbalancers::names(base) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            names => names?,
        };
        let mut now = BTreeMap::new();
        for id in names.iter().filter_map(|name| LbId::new(name)) {
            let Ok(about) = file(base, &id).metadata() else { continue };
            let stamp = (about.ino(), about.mtime(), about.mtime_nsec());
            let read = match self.0.remove(&id) {
                Some(known) if known.0 == stamp => known,
                _ => {
                    let text = loadbalancers::configuration(base, &id)?.unwrap_or_default();
                    let text = String::from_utf8_lossy(&text);
                    (stamp, Said { addresses: addresses(&text), files: certificates::named(&text) })
                }
            };
            now.insert(id, read);
        }
        Ok(Self(now))
    }

    /// The load balancers that bind `vip`.
    pub(super) fn of(&self, vip: IpAddr) -> impl Iterator<Item = &LbId> {
        self.0.iter().filter(move |(_, (_, said))| said.addresses.contains(&vip)).map(|(id, _)| id)
    }

    /// Why a load balancer cannot start, where that is for its files.
    pub(super) fn missing(&self, lb: &LbId) -> Option<String> {
        certificates::explain(&self.0.get(lb)?.1.files)
    }

    /// All load balancers.
    pub(super) fn all(&self) -> impl Iterator<Item = &LbId> {
        self.0.keys()
    }
}

fn file(base: &Path, id: &LbId) -> PathBuf {
    base.join(id.name().as_str()).join("haproxy.cfg")
}

/// The addresses of the `bind` lines of a configuration. An IPv6 address may stand without brackets, as Octavia renders
/// it: what is behind the last colon is the port.
fn addresses(configuration: &str) -> BTreeSet<IpAddr> {
    let mut found = BTreeSet::new();
    for line in configuration.lines() {
        let mut words = line.split_whitespace();
        let (Some("bind"), Some(places)) = (words.next(), words.next()) else { continue };
        let hosts = places.split(',').filter_map(|place| place.rsplit_once(':').map(|(host, _)| host));
        found.extend(hosts.filter_map(|host| {
            let host = host.split_once('@').map_or(host, |(_, host)| host);
            host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok()
        }));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_however_they_are_written() {
        let text = "frontend a\n    bind 203.0.113.7:80\n    bind 2001:db8:100::7:443 ssl crt-list x\n\
                    frontend b\n  bind [2001:db8:100::8]:80,203.0.113.8:80 v4v6\n  bind ipv4@203.0.113.9:81\n\
                    frontend c\n  bind *:80\n  bind :::81\n  bind /run/x.sock\n  # bind 203.0.113.10:80\n";
        let mut found: Vec<_> = addresses(text).into_iter().map(|ip| ip.to_string()).collect();
        found.retain(|ip| ip != "::");
        assert_eq!(found, ["203.0.113.7", "203.0.113.8", "203.0.113.9", "2001:db8:100::7", "2001:db8:100::8"]);
    }

    #[test]
    fn a_changed_file_is_read_again_and_a_deleted_one_forgotten() {
        let base = tempfile::tempdir().unwrap();
        let directory = base.path().join("lb");
        std::fs::create_dir(&directory).unwrap();
        let write = |text: &str| {
            std::fs::write(directory.join("new"), text).unwrap();
            std::fs::rename(directory.join("new"), directory.join("haproxy.cfg")).unwrap();
        };
        let serves = |binds: &Binds, vip: &str| binds.of(vip.parse().unwrap()).count() == 1;
        write("frontend f\n bind 203.0.113.7:80\n");
        let binds = Binds::default().refresh(base.path()).unwrap();
        assert!(serves(&binds, "203.0.113.7"));
        write("frontend f\n bind 203.0.113.8:80\n");
        let binds = binds.refresh(base.path()).unwrap();
        assert!(serves(&binds, "203.0.113.8") && !serves(&binds, "203.0.113.7"));
        std::fs::remove_file(directory.join("haproxy.cfg")).unwrap();
        assert_eq!(binds.refresh(base.path()).unwrap().all().count(), 0);
        assert_eq!(Binds::default().refresh(&base.path().join("none")).unwrap().all().count(), 0);
    }
}
