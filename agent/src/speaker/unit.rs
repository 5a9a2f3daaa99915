//! gobgpd as systemd's: `gobgpd.service`, where that is the one shipped with the agent.
//!
//! systemd starts it anew after a crash, and this asks for it where it does not run: at the agent's start, or after it was
//! told to end. The asking is `systemctl`'s, which needs no bus: the speaker is not to wait for a D-Bus that hangs.

use std::{
    io,
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};

use tokio::process::Command;

use crate::services::systemd::{Shipped, shipped};

/// Its socket is there (`systemd/gobgpd.service`). A `[bgp] speaker` elsewhere is the agent's own to start.
const SOCKET: &str = "/run/gobgpd/gobgpd.sock";
const NAME: &str = "gobgpd";
/// How long systemd may take. It waits a second after a crash by itself.
const PATIENCE: Duration = Duration::from_secs(15);

/// Who may start the gobgpd behind `socket`, on a machine whose services are systemd's.
pub(super) fn owner(socket: &Path) -> Shipped {
    if socket == Path::new(SOCKET) { shipped(NAME) } else { Shipped::Not }
}

/// Whether `gobgpd.service` is who runs the gobgpd behind `socket`.
#[must_use]
pub fn is_units(socket: &Path) -> bool {
    owner(socket) == Shipped::Ours
}

/// Has systemd start it.
///
/// # Errors
/// What `systemctl` says, or that it could not be run or did not end.
pub(super) async fn start() -> io::Result<()> {
    let mut command = Command::new("systemctl");
    command.args(["start", "gobgpd.service"]).stdin(Stdio::null()).kill_on_drop(true);
    let Output { status, stderr, .. } = tokio::time::timeout(PATIENCE, command.output()).await??;
    if status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&stderr);
    Err(io::Error::other(format!("{} ({status})", said.trim().replace('\n', " "))))
}
