//! What the agent tells systemd of itself: `sd_notify(3)`, a datagram of lines to the socket in `NOTIFY_SOCKET`.
//!
//! Without that variable nobody wants to know, and nothing is said. A message that cannot be sent is logged and forgotten:
//! what comes of it (no `READY=1` in time, no `WATCHDOG=1`) is systemd's to judge.

use std::{
    env,
    ffi::{OsStr, OsString},
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

use nix::time::{ClockId, clock_gettime};

/// The way to systemd. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Notify {
    socket: Option<OsString>,
    watchdog: Option<Duration>,
}

impl Notify {
    /// As the environment of this process says.
    #[must_use]
    pub fn from_environment() -> Self {
        let text = |name| env::var(name).ok();
        let watchdog = watchdog(text("WATCHDOG_USEC").as_deref(), text("WATCHDOG_PID").as_deref(), std::process::id());
        Self { socket: env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty()), watchdog }
    }

    #[cfg(test)]
    pub(crate) fn to(socket: impl Into<OsString>, watchdog: Duration) -> Self {
        Self { socket: Some(socket.into()), watchdog: Some(watchdog) }
    }

    /// How soon after one `WATCHDOG=1` systemd wants the next; `None` when it wants none (`sd_watchdog_enabled(3)`).
    #[must_use]
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog.filter(|_| self.socket.is_some())
    }

    /// The agent serves; `status` is one line for people.
    pub fn ready(&self, status: &str) {
        self.say(&format!("READY=1\nSTATUS={status}"));
    }

    /// The configuration is being read again, until [`Notify::ready`].
    pub fn reloading(&self) {
        // Since systemd 253 the time tells this reload from one before it.
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={}\nSTATUS=reading the configuration again", now.as_micros()));
    }

    /// The agent is about to end. It may take its time for it once more.
    pub fn stopping(&self) {
        self.say("STOPPING=1\nWATCHDOG=1\nSTATUS=stopping; VIPs, routes and the speaker stay as they are");
    }

    /// All that has to make progress does.
    pub fn alive(&self) {
        self.say("WATCHDOG=1");
    }

    fn say(&self, text: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = send(socket, text)
        {
            tracing::warn!(%error, socket = %socket.display(), "systemd could not be told: {}", text.replace('\n', ", "));
        }
    }
}

/// A name in the abstract namespace begins with `@`; any other is a path.
fn send(socket: &OsStr, text: &str) -> io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let from = UnixDatagram::unbound()?;
    // systemd may be busy, and its queue full: neither is worth a loop that waits.
    from.set_nonblocking(true)?;
    from.send_to_addr(text.as_bytes(), &address).map(drop)
}

/// What `WATCHDOG_USEC` says, unless `WATCHDOG_PID` says that another process is meant.
fn watchdog(usec: Option<&str>, pid: Option<&str>, own: u32) -> Option<Duration> {
    if pid.is_some_and(|pid| pid.parse() != Ok(own)) {
        return None;
    }
    usec?.parse().ok().filter(|usec| *usec > 0).map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut message = [0; 512];
        let length = socket.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..length]).into_owned()
    }

    #[test]
    fn messages_arrive_by_path_and_by_abstract_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let name = format!("amphora-agent-test-{}", std::process::id());
        let by_name = SocketAddr::from_abstract_name(&name).unwrap();
        for (socket, value) in [
            (UnixDatagram::bind(&path).unwrap(), path.into_os_string()),
            (UnixDatagram::bind_addr(&by_name).unwrap(), format!("@{name}").into()),
        ] {
            let notify = Notify { socket: Some(value), watchdog: None };
            notify.ready("serving");
            assert_eq!(heard(&socket), "READY=1\nSTATUS=serving");
            notify.reloading();
            let said = heard(&socket);
            let at = said.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().split('\n').next().unwrap();
            assert!(at.parse::<u64>().unwrap() > 0, "{said}");
            notify.stopping();
            assert!(heard(&socket).starts_with("STOPPING=1\n"));
            assert_eq!(notify.watchdog(), None);
        }
    }

    #[test]
    fn nobody_there_is_no_fault() {
        Notify { socket: Some("/nowhere/at/all".into()), watchdog: None }.alive();
        Notify::default().alive();
    }

    #[test]
    fn the_watchdog_is_ours_or_nobodys() {
        let second = Some(Duration::from_secs(1));
        assert_eq!(watchdog(Some("1000000"), None, 7), second);
        assert_eq!(watchdog(Some("1000000"), Some("7"), 7), second);
        assert_eq!(watchdog(Some("1000000"), Some("8"), 7), None, "of a parent");
        assert_eq!(watchdog(Some("0"), None, 7), None);
        assert_eq!(watchdog(Some("soon"), None, 7), None);
        assert_eq!(watchdog(None, None, 7), None);
        let deaf = Notify { socket: None, watchdog: second };
        assert_eq!(deaf.watchdog(), None, "nobody to tell");
    }
}
