//! ARP silence that can be taken back: what the sysctls were before is noted beside the locks, which a reboot clears
//! with the namespace itself.

use std::{io, path::Path};

use netns::{Error, Kind, Namespace, Network};
use serde::{Deserialize, Serialize};

use crate::files::{Directory, Name};

const DIRECTORY: &str = "/run/amphora-agent";

#[derive(Serialize, Deserialize)]
struct Note {
    /// The namespace it is about; of one that was made anew the note says nothing.
    namespace: String,
    before: Vec<(String, String)>,
}

fn name() -> Name {
    Name::new("before-silence").expect("a plain name")
}

fn failed(doing: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| {
        let kind = Kind::Other(source.raw_os_error().unwrap_or_default());
        Error { operation: doing, object: format!("{DIRECTORY}/{}", name()), kind, source: Some(source) }
    }
}

fn note(namespace: &Namespace) -> io::Result<Option<Note>> {
    let Some(directory) = Directory::open(Path::new(DIRECTORY))? else { return Ok(None) };
    let note = directory.read(&name())?.and_then(|text| serde_json::from_slice::<Note>(&text).ok());
    Ok(note.filter(|n| n.namespace == namespace.identity()))
}

/// Whether it is our doing that the namespace is silent, or half so.
pub(super) fn is_ours(namespace: &Namespace) -> bool {
    note(namespace).is_ok_and(|note| note.is_some())
}

/// Silences; what was there before is noted first.
pub(super) fn begin(namespace: &Namespace) -> Result<bool, Error> {
    // A note that is there is of an attempt that was cut off, and knows better.
    if note(namespace).map_err(failed("read"))?.is_none() {
        let note = Note { namespace: namespace.identity(), before: netns::before_silence(namespace)? };
        let text = serde_json::to_vec(&note).expect("strings");
        let directory = Directory::open_or_make(Path::new(DIRECTORY)).map_err(failed("make"))?;
        directory.replace(&name(), &text).map_err(failed("write"))?;
    }
    netns::silence(namespace)
}

/// Takes it back, unless an address is left on `lo` that is nobody's business on the wire: not only ours count.
pub(super) async fn end(inside: &Network) -> Result<bool, Error> {
    let Some(note) = note(inside.namespace()).map_err(failed("read"))? else { return Ok(false) };
    let links = inside.links().await?;
    let lo = links.iter().find(|l| l.loopback).map(|l| l.index);
    if inside.addresses().await?.iter().any(|a| Some(a.index) == lo && !a.ip.is_loopback()) {
        return Ok(false);
    }
    netns::unsilence(inside.namespace(), &note.before)?;
    let directory = Directory::open(Path::new(DIRECTORY)).map_err(failed("open"))?;
    directory.map_or(Ok(()), |d| d.remove(&name())).map_err(failed("remove"))?;
    Ok(true)
}
