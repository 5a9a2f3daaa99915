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
    collections::{BTreeMap, BTreeSet},
    io,
    path::PathBuf,
};

use crate::{
    config::Paths,
    crash,
    files::{Directory, Name},
    firewall,
    resolve::Policy,
    state::Desired,
};
pub(crate) use render::{exploded, masquerades};

/// Octavia's `AMP_NET_DIR_TEMPLATE`.
pub(crate) const DIRECTORY: &str = "/etc/octavia/interfaces";
const PLUGGED: &str = "plugged_interfaces";
/// Which of the files are this agent's, in its own directory.
const WRITTEN: &str = "interfaces";
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
    /// Makes the files say it. What is left of a NIC that is not plugged any more goes, nothing else: what another agent
    /// has left and could not be taken over is all there is to know of its NIC.
    pub fn write(&self, paths: &Paths) -> io::Result<()> {
        let Some(base) = Directory::open(&paths.base)? else { return Ok(()) };
        let own = base.inner_or_make(&name("amphora-agent"))?;
        let written = written(&own)?;
        let both: BTreeSet<_> = written.iter().chain(self.interfaces.keys()).cloned().collect();
        // Before the first of them is there, and until the last is gone.
        remember(&own, &both)?;
        let path = directory(paths);
        if !self.interfaces.is_empty() {
            let directory = Directory::open_or_make(&path)?;
            for (name, contents) in &self.interfaces {
                replace(&directory, name, contents)?;
            }
        }
        if let Some(directory) = Directory::open(&path)? {
            for name in written.iter().filter(|name| !self.interfaces.contains_key(*name)) {
                match name.as_str() {
                    "lo.json" => replace(&directory, name, &render::lo(&Desired::default()).to_json())?,
                    _ => directory.remove(name)?,
                }
            }
        }
        crash::point("interfaces: files written, the lists not");
        let (plugged, rules) = (name(PLUGGED), name(RULES));
        let before = base.read(&plugged)?;
        if !self.plugged.is_empty() || before.is_some() {
            let others = lines_of_others(&before.unwrap_or_default(), &both);
            replace(&base, &plugged, &[others.as_slice(), &self.plugged].concat())?;
        }
        remember(&own, &self.interfaces.keys().cloned().collect())?;
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

/// The files this agent has written, or taken over and then written, and not removed yet.
fn written(own: &Directory) -> io::Result<BTreeSet<Name>> {
    let text = own.read(&name(WRITTEN))?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&text).lines().filter_map(Name::new).collect())
}

fn remember(own: &Directory, files: &BTreeSet<Name>) -> io::Result<()> {
    let text: String = files.iter().flat_map(|file| [file.as_str(), "\n"]).collect();
    if text.is_empty() && own.read(&name(WRITTEN))?.is_none() {
        return Ok(());
    }
    replace(own, &name(WRITTEN), text.as_bytes())
}

/// The lines of `plugged_interfaces` that are about none of these files' interfaces.
fn lines_of_others(text: &[u8], files: &BTreeSet<Name>) -> Vec<u8> {
    let ours = |line: &&[u8]| {
        let line = String::from_utf8_lossy(line);
        let interface = line.split_whitespace().nth(1).and_then(|interface| Name::new(&format!("{interface}.json")));
        interface.is_some_and(|file| files.contains(&file))
    };
    let mut others: Vec<u8> =
        text.split_inclusive(|byte| *byte == b'\n').filter(|line| !ours(line)).flatten().copied().collect();
    if others.last().is_some_and(|last| *last != b'\n') {
        others.push(b'\n'); // ours follow
    }
    others
}

#[cfg(test)]
mod tests;
