//! The firewall's table in `amphora-haproxy`, by the `nft` program: one transaction on its standard input.

use std::{io, process::Command, time::Duration};

use netns::{Error, Kind, Namespace};

use crate::{
    child::{self, Ended},
    firewall,
};

/// It takes milliseconds; more is a kernel that does not answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// The mark of the table that is there; `None` without one.
pub(super) async fn look(namespace: &Namespace) -> Result<Option<String>, Error> {
    let ended = nft(namespace, &["list", "table", "inet", firewall::TABLE], "").await?;
    if ended.status.success() {
        return Ok(Some(firewall::mark_of(&ended.text)));
    }
    if ended.text.contains("No such file or directory") {
        return Ok(None);
    }
    Err(refused("list the firewall of", &ended))
}

/// Applies one transaction.
pub(super) async fn apply(namespace: &Namespace, text: &str) -> Result<bool, Error> {
    let ended = nft(namespace, &["-f", "-"], text).await?;
    if ended.status.success() { Ok(true) } else { Err(refused("set the firewall of", &ended)) }
}

async fn nft(namespace: &Namespace, arguments: &[&str], input: &str) -> Result<Ended, Error> {
    let (namespace, input) = (namespace.clone(), input.to_owned());
    let mut command = Command::new("nft");
    command.args(arguments);
    let run = move || child::run(&mut command, Some(&namespace), input.as_bytes(), DEADLINE);
    let ended = tokio::task::spawn_blocking(run).await.map_err(io::Error::other).flatten();
    ended.map_err(|source| Error {
        operation: "run",
        object: "nft".to_owned(),
        kind: Kind::Other(source.raw_os_error().unwrap_or_default()),
        source: Some(source),
    })
}

fn refused(operation: &'static str, ended: &Ended) -> Error {
    let source = Some(io::Error::other(ended.text.trim().to_owned()));
    Error { operation, object: super::NAMESPACE.to_owned(), kind: Kind::Other(0), source }
}
