//! haproxy's own judgement of a configuration.

use std::{path::Path, process::Command, time::Duration};

use netns::Namespace;

use super::{Error, edit, service};
use crate::{child, config::Paths};

/// How long haproxy may think. Thousands of servers take it a second; the controller waits for a minute.
const CHECK: Duration = Duration::from_secs(30);

/// Has haproxy read a configuration as its service will run it: that command, in that namespace. What it says is
/// bounded, and nobody else waits for it.
///
/// # Errors
/// [`Error::Refused`], or [`Error::Unchecked`] where it did not get to a judgement.
pub(super) async fn check(
    inside: &Namespace,
    paths: &Paths,
    configuration: &Path,
    amphora_id: &str,
) -> Result<(), Error> {
    let ended = run(Some(inside.clone()), service::check(paths, configuration, amphora_id)).await;
    let ended = ended.map_err(Error::Unchecked)?;
    match ended.status.code() {
        Some(0) => Ok(()),
        Some(_) => Err(Error::Refused(ended.text)),
        None => Err(Error::Unchecked(format!("{}: {}", ended.status, ended.text))),
    }
}

/// haproxy's version; `None` where it does not tell.
pub(super) async fn version(paths: &Paths) -> Option<(u16, u16)> {
    let ended = run(None, vec![paths.haproxy.to_string_lossy().into_owned(), "-v".to_owned()]).await;
    edit::version(&ended.ok()?.text)
}

async fn run(inside: Option<Namespace>, words: Vec<String>) -> Result<child::Ended, String> {
    let ended = tokio::task::spawn_blocking(move || {
        let mut command = Command::new(&words[0]);
        child::run(command.args(&words[1..]), inside.as_ref(), b"", CHECK)
    });
    ended.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())).map_err(|e| e.to_string())
}
