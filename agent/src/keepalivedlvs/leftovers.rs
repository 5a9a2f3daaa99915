//! What a keepalived that ended badly leaves in the kernel. It takes its virtual services away itself when it is stopped;
//! one that was killed, or had a service refused in part, does not. Such a service would take clients' packets to nowhere,
//! and have its VIP announced.

use std::{io, path::Path, process::Command, time::Duration};

use netns::Namespace;

use super::{
    config::{self, Protocol},
    files, table,
};
use crate::{child, loadbalancers::LbId};

/// How long `ipvsadm` may take for one service.
const PATIENCE: Duration = Duration::from_secs(5);

/// Takes away what the kernel still has of a listener whose keepalived has ended. Blocks.
///
/// # Errors
/// The system's, or `ipvsadm`'s words.
pub(super) fn clear(base: &Path, id: &LbId, namespace: &Namespace) -> io::Result<()> {
    let Some(text) = files::read(base, id)? else { return Ok(()) };
    let services = config::parse(&String::from_utf8_lossy(&text)).services();
    if services.is_empty() {
        return Ok(());
    }
    let there = table::read(namespace)?;
    for (protocol, at) in services.into_iter().filter(|service| there.contains_key(service)) {
        let option = match protocol {
            Protocol::Udp => "--udp-service",
            Protocol::Sctp => "--sctp-service",
        };
        tracing::warn!(listener = %id, service = %at, "keepalived has left a service of LVS behind; removing it");
        let mut command = Command::new("ipvsadm");
        command.args(["--delete-service", option, &at.to_string()]);
        let ended = child::run(&mut command, Some(namespace), b"", PATIENCE)?;
        if !ended.status.success() && table::read(namespace)?.contains_key(&(protocol, at)) {
            let text = format!("the service of LVS on {at} cannot be removed: {}", ended.text.trim());
            return Err(io::Error::other(text));
        }
    }
    Ok(())
}
