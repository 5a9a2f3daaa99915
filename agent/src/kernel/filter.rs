//! The firewall's table in `amphora-haproxy`, by the `nft` program: one transaction on its standard input.

use std::{
    io,
    process::{Command, Output, Stdio},
    time::Duration,
};

use netns::{Error, Kind, Namespace};

use crate::firewall;

/// It takes milliseconds; more is a kernel that does not answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// The mark of the table that is there; `None` without one.
pub(super) async fn look(namespace: &Namespace) -> Result<Option<String>, Error> {
    let output = nft(namespace, &["list", "table", "inet", firewall::TABLE], "").await?;
    if output.status.success() {
        return Ok(Some(firewall::mark_of(&String::from_utf8_lossy(&output.stdout))));
    }
    if String::from_utf8_lossy(&output.stderr).contains("No such file or directory") {
        return Ok(None);
    }
    Err(refused("list the firewall of", &output))
}

/// Applies one transaction.
pub(super) async fn apply(namespace: &Namespace, text: &str) -> Result<bool, Error> {
    let output = nft(namespace, &["-f", "-"], text).await?;
    if output.status.success() { Ok(true) } else { Err(refused("set the firewall of", &output)) }
}

async fn nft(namespace: &Namespace, arguments: &[&str], input: &str) -> Result<Output, Error> {
    let (namespace, input) = (namespace.clone(), input.to_owned());
    let mut command = Command::new("nft");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = namespace.spawn(&mut command)?;
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    let work = tokio::task::spawn_blocking(move || {
        use std::io::Write as _;
        let mut child = child;
        let sent = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes()));
        let output = child.wait_with_output()?;
        // What it has to say about input that it did not read to its end matters more than that.
        if output.status.success() { sent.map(|()| output) } else { Ok(output) }
    });
    let failed = |source: io::Error| Error {
        operation: "run",
        object: "nft".to_owned(),
        kind: Kind::Other(source.raw_os_error().unwrap_or_default()),
        source: Some(source),
    };
    match tokio::time::timeout(DEADLINE, work).await {
        Ok(Ok(output)) => output.map_err(failed),
        Ok(Err(join)) => Err(failed(io::Error::other(join))),
        Err(_) => {
            // Not reaped yet, for the thread above still waits for it.
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            Err(Error { operation: "run", object: "nft".to_owned(), kind: Kind::TimedOut, source: None })
        }
    }
}

fn refused(operation: &'static str, output: &Output) -> Error {
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let source = Some(io::Error::other(said));
    Error { operation, object: crate::kernel::NAMESPACE.to_owned(), kind: Kind::Other(0), source }
}
