//! The network as files that other programs read: those of the Python agent, so that its image can be booted again with
//! the same state, and `amphora-interface`.
//!
//! They follow the durable state and are never read back but once, when an agent starts that has no state of its own
//! ([`import`]). `interfaces/ethN.json` and `lo.json` say what is on a link, `plugged_interfaces` which MAC is which
//! name, `nftables-vip.rules` what is let in.

pub mod file;
pub mod import;
mod render;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use crate::{
    config::Paths,
    files::{Directory, Name},
    firewall,
    resolve::Policy,
    state::Desired,
};
use file::{Interface, Kind};
pub(crate) use render::{exploded, masquerades};

/// Octavia's `AMP_NET_DIR_TEMPLATE`.
pub(crate) const DIRECTORY: &str = "/etc/octavia/interfaces";
const PLUGGED: &str = "plugged_interfaces";
pub(crate) const RULES: &str = "nftables-vip.rules";

/// Where the interfaces' files are: `agent_server_network_dir`.
#[must_use]
pub fn directory(paths: &Paths) -> PathBuf {
    paths.network.clone().unwrap_or_else(|| DIRECTORY.into())
}

/// Everything the files are to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    interfaces: BTreeMap<Name, Vec<u8>>,
    plugged: Vec<u8>,
    rules: Option<Vec<u8>>,
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a plain name")
}

/// What the files are to say: a pure function.
#[must_use]
pub fn files(desired: &Desired, policy: &Policy) -> Files {
    let mut files = Files { rules: firewall::ruleset(desired).map(|r| r.text().into()), ..Files::default() };
    let mut nics: BTreeMap<_, _> = desired.networks.values().map(|n| (n.mac, render::port(n))).collect();
    // A NIC that is both is the VIP's.
    nics.extend(desired.plugs.values().map(|p| (p.mac, render::vip(p, desired.networks.get(&p.mac), policy))));
    for (mac, interface) in &nics {
        // An interface may be called what no file is; nothing of the controller's is.
        if let Some(file) = Name::new(&format!("{}.json", interface.name)) {
            files.interfaces.insert(file, interface.to_json());
            files.plugged.extend(format!("{mac} {}\n", interface.name).into_bytes());
        }
    }
    if !nics.is_empty() {
        files.interfaces.insert(name("lo.json"), render::lo(desired).to_json());
    }
    files
}

impl Files {
    /// Makes the files say it. What is left of a NIC that is not plugged any more goes, nothing else.
    pub fn write(&self, paths: &Paths) -> io::Result<()> {
        let path = directory(paths);
        if !self.interfaces.is_empty() {
            let directory = Directory::open_or_make(&path)?;
            for (name, contents) in &self.interfaces {
                replace(&directory, name, contents)?;
            }
        }
        if let Some(directory) = Directory::open(&path)? {
            for name in left_over(&directory, &path, &self.interfaces)? {
                match name.as_str() {
                    "lo.json" => replace(&directory, &name, &render::lo(&Desired::default()).to_json())?,
                    _ => directory.remove(&name)?,
                }
            }
        }
        let Some(base) = Directory::open(&paths.base)? else { return Ok(()) };
        let (plugged, rules) = (name(PLUGGED), name(RULES));
        if !self.plugged.is_empty() || base.read(&plugged)?.is_some() {
            replace(&base, &plugged, &self.plugged)?;
        }
        match &self.rules {
            Some(text) => replace(&base, &rules, text)?,
            // A Python agent's may be there for a VIP that was none of ours.
            None if base.read(&rules)?.is_some_and(|text| firewall::is_ours(&text)) => base.remove(&rules)?,
            None => {}
        }
        Ok(())
    }
}

fn replace(directory: &Directory, name: &Name, contents: &[u8]) -> io::Result<()> {
    if directory.read(name)?.as_deref() == Some(contents) {
        return Ok(());
    }
    directory.replace(name, contents)
}

/// The files of interfaces that nobody asks for any more. One that cannot be read is somebody else's.
fn left_over(directory: &Directory, path: &Path, wanted: &BTreeMap<Name, Vec<u8>>) -> io::Result<Vec<Name>> {
    let mut left = Vec::new();
    for entry in path.read_dir()? {
        let Some(name) = entry?.file_name().to_str().and_then(Name::new) else { continue };
        let Some(interface) = name.as_str().strip_suffix(".json").filter(|_| !wanted.contains_key(&name)) else {
            continue;
        };
        let read = directory.read(&name)?.and_then(|text| Interface::from_json(&text).ok());
        if read.is_some_and(|i| i.name == interface && i.if_type != Kind::Other) {
            left.push(name);
        }
    }
    Ok(left)
}

#[cfg(test)]
mod tests;
