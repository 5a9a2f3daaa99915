//! What `--check-config` finds in the certificates that a configuration names: what `PUT /1.0/certificate` refuses, said of
//! the files on disk, with the option that names each.
//!
//! An agent starts with certificates that nobody will take, for the client decides that, and a controller that replaces
//! them has to reach it.

use std::path::Path;

use super::tls::{TlsError, check_clients_ca, check_identity, read};
use crate::{
    api::error::with_causes,
    config::{Problem, Sources},
};

const SECTION: &str = "amphora_agent";

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// What has to be mended.
    pub problems: Vec<Problem>,
    /// What works and is still worth a word.
    pub warnings: Vec<Problem>,
}

/// Looks at the files that these configuration files name. Of configuration files that cannot be read it says nothing.
#[must_use]
pub fn certificates(sources: &Sources) -> Found {
    let mut found = Found::default();
    let amphora_id = sources.option(SECTION, "amphora_id").map(|(id, _)| id).filter(|id| !id.is_empty());
    let server = |path: &Path| {
        let leaf = check_identity(path, &read(path)?)?;
        let other = amphora_id.filter(|id| !leaf.is_for(id));
        let warning = |id| format!("{}: is not for amphora_id {id}; the controller will refuse it", path.display());
        Ok(other.map(warning).into_iter().collect())
    };
    found.file(sources, "agent_server_cert", server);
    found.file(sources, "agent_server_ca", |path| check_clients_ca(path, &read(path)?));
    found
}

impl Found {
    /// One option that names a file; `check` returns what is worth a word.
    fn file(&mut self, sources: &Sources, key: &str, check: impl FnOnce(&Path) -> Result<Vec<String>, TlsError>) {
        let Some((path, about)) = sources.option(SECTION, key).filter(|(path, _)| !path.is_empty()) else { return };
        let problem = |text| Problem { text, ..about.clone() };
        match check(Path::new(&path)) {
            Ok(warnings) => self.warnings.extend(warnings.into_iter().map(problem)),
            Err(error) => self.problems.push(problem(with_causes(&error))),
        }
    }
}

#[cfg(test)]
mod tests;
