//! The agent's configuration: oslo.config files in, a value that cannot be wrong out.
//!
//! Octavia's own options are read as its Python agent reads them, unknown ones ignored; our sections
//! (`[distributor]`, `[bgp]`, `[bgp_peer:NAME]`, `[bgp_vip:PREFIX]`) are strict. Everything after this module sees [`Config`] only.

mod announce;
mod attributes;
mod bgp;
mod distributor;
mod document;
pub mod ini;
mod options;
mod password;
mod print;
mod problem;
mod reader;
mod secrets;
mod sources;
mod types;
mod unknown;
mod upstream;

pub use problem::{Place, Problem};
pub use secrets::secrets;
pub use sources::{Flag, Sources};
pub use types::{
    Announce, Api, Bgp, Config, Controller, Distributor, Gates, HaproxyPolicy, Heartbeat, LastResort, Logging, Paths,
    PeerConfig, Role, Runner, Secret, TlsVersion, Topology, VipConfig, VipMode, Watermarks,
};

use document::Document;
use reader::Reader;

impl Config {
    /// Reads and checks everything. A pure function of the files, so a reload is another call.
    ///
    /// # Errors
    /// Every problem found. A file that cannot be parsed hides those of its options.
    pub fn load(sources: &Sources) -> Result<Self, Vec<Problem>> {
        Self::build(&sources.read(None)?)
    }

    /// As [`Config::load`], as if the main file ([`Sources::main`]) had these contents.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_with(sources: &Sources, main: &[u8]) -> Result<Self, Vec<Problem>> {
        Self::build(&sources.read(Some(main))?)
    }

    /// As [`Config::load`], of one file's text; `file` is its name in problems. For tests and fuzzing.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_text(file: &std::path::Path, text: &str) -> Result<Self, Vec<Problem>> {
        let file = std::sync::Arc::new(file.to_owned());
        let ini = ini::parse(text).map_err(|errors| {
            let place = |line| Some(Place { file: file.clone(), line });
            let problem =
                |e: ini::SyntaxError| Problem { place: place(e.line), section: None, key: None, text: e.text.into() };
            errors.into_iter().map(problem).collect::<Vec<_>>()
        })?;
        let mut document = Document::default();
        document.add(&file, ini);
        Self::build(&document)
    }

    fn build(document: &Document) -> Result<Self, Vec<Problem>> {
        let mut reader = Reader { document, problems: Vec::new(), warnings: Vec::new() };
        let logging = upstream::logging(&mut reader);
        let api = upstream::api(&mut reader);
        let paths = upstream::paths(&mut reader);
        let heartbeat = upstream::heartbeat(&mut reader);
        let topology = upstream::topology(&mut reader);
        let amphora_id = reader.text("amphora_agent", "amphora_id").filter(|id| !id.is_empty());
        let distributor = distributor::distributor(&mut reader);
        let peers = bgp::peers(&mut reader);
        let vips = attributes::vips(&mut reader, distributor.as_ref().map_or(&[], |d| &d.allowed_prefixes));
        let bgp = document.sections.contains_key("bgp").then(|| bgp::bgp(&mut reader, peers, vips));
        unknown::refuse(&mut reader);
        if amphora_id.is_none() {
            nameless(&mut reader, heartbeat.as_ref(), distributor.as_ref().filter(|_| bgp.is_some()));
        }
        let Reader { mut problems, warnings, .. } = reader;
        problems.sort_by(|a, b| a.place.cmp(&b.place)); // as an editor goes through the files
        if !problems.is_empty() {
            return Err(problems);
        }
        let config = || {
            Some(Self {
                logging: logging?,
                api: api?,
                paths: paths?,
                heartbeat: heartbeat?,
                topology: topology?,
                amphora_id,
                distributor: distributor?,
                bgp: match bgp {
                    Some(bgp) => Some(bgp?),
                    None => None,
                },
                warnings,
                ignored: ignored(document),
            })
        };
        Ok(config().expect("a part is missing only with a problem noted"))
    }
}

/// What comes of an `amphora_id` that is not set.
fn nameless(reader: &mut Reader<'_>, heartbeat: Option<&Heartbeat>, announcing: Option<&Distributor>) {
    let text = if heartbeat.is_some_and(|beats| !beats.controllers.is_empty()) {
        "is not set: no heartbeat is sent, and the health managers take this amphora for dead"
    } else if announcing.is_some_and(|distributor| distributor.role == Role::Amphora) {
        "is not set: every amphora that is registered is taken for this one"
    } else {
        return;
    };
    reader.warn("amphora_agent", "amphora_id", text.to_owned());
}

/// Options in Octavia's name space that nothing here reads.
fn ignored(document: &Document) -> Vec<Problem> {
    let mut ignored = Vec::new();
    for (section, content) in document.sections.iter().filter(|(section, _)| !distributor::ours(section)) {
        for (key, value) in content.options.iter().filter(|(key, _)| options::find(section, key).is_none()) {
            ignored.push(Problem {
                place: Some(value.place.clone()),
                section: Some(section.clone()),
                key: Some(key.clone()),
                text: "is not read by this agent".to_owned(),
            });
        }
    }
    ignored
}

#[cfg(test)]
mod tests;
