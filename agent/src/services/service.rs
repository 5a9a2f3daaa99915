//! A service as both backends understand it.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::{files::Name, loadbalancers::LbId};

/// The name of a service: of its systemd unit, without `.service`. One path component, as [`Name`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName(String);

impl ServiceName {
    /// The text as a name, if it is one.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        // 255 bytes are a unit's name with its suffix (systemd.unit(5)), and a file's with ours.
        (text.len() <= 200).then(|| Name::new(text)).flatten().map(|name| Self(name.as_str().to_owned()))
    }

    /// `haproxy-<lb>`
    #[must_use]
    pub fn haproxy(lb: &LbId) -> Self {
        Self(format!("haproxy-{lb}"))
    }

    /// `octavia-keepalived`, which does VRRP.
    #[must_use]
    pub fn keepalived() -> Self {
        Self("octavia-keepalived".to_owned())
    }

    /// `octavia-keepalivedlvs-<listener>`
    #[must_use]
    pub fn keepalived_lvs(listener: &LbId) -> Self {
        Self(format!("octavia-keepalivedlvs-{listener}"))
    }

    /// `prometheus-proxy`
    #[must_use]
    pub fn prometheus_proxy() -> Self {
        Self("prometheus-proxy".to_owned())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of a file about this service.
    pub(super) fn file(&self, suffix: &str) -> Name {
        Name::new(&format!("{}{suffix}", self.0)).expect("a service's name leaves room for a suffix")
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ServiceName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::new(&text).ok_or_else(|| format!("`{text}` is no service's name"))
    }
}

impl From<ServiceName> for String {
    fn from(name: ServiceName) -> Self {
        name.0
    }
}

/// The signal by which a program reads its configuration again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReloadSignal {
    /// SIGHUP: keepalived.
    Hup,
    /// SIGUSR2: haproxy's master.
    Usr2,
}

impl ReloadSignal {
    pub(super) fn signal(self) -> Signal {
        match self {
            Self::Hup => Signal::HUP,
            Self::Usr2 => Signal::USR2,
        }
    }
}

/// A long-running program in the namespace `amphora-haproxy`, described once for both backends.
///
/// The main process is the one that is started: the program stays in the foreground. Whatever it leaves behind
/// when it ends is killed. It is started again when it ends without having been stopped, 100 ms later, and given
/// up when it has been started [`Service::START_LIMIT`] times within [`Service::START_INTERVAL`]; a call to start
/// it begins anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// One line for people.
    pub description: String,
    /// The absolute path of the program, and its arguments. No shell, no expansion.
    pub command: Vec<String>,
    /// Commands that must succeed before a reload, and for a start (`haproxy -c`). The direct backend starts what says
    /// when it is ready ([`Service::notify`]) without, and runs them to say what is wrong with one that has ended instead.
    pub checks: Vec<Vec<String>>,
    /// What makes the main process read its configuration again.
    pub reload: ReloadSignal,
    /// Whether a reload that works leaves a new child process behind. haproxy's master does not say when one failed,
    /// it goes on with its old worker; that there is no new one is the only sign.
    pub reload_forks: bool,
    /// Variables besides `PATH` and what the backend sets.
    pub environment: BTreeMap<String, String>,
    /// Whether the main process says `READY=1` when it has started and `RELOADING=1`, `READY=1` around a reload
    /// (`sd_notify(3)`). Without, it has started when it has been executed, and a reload is over when it is told.
    pub notify: bool,
    /// Services that are started before this one when both are, at boot: not a dependency.
    pub after: Vec<ServiceName>,
    /// Services that are started after this one.
    pub before: Vec<ServiceName>,
    /// How many files it may open, `RLIMIT_NOFILE`.
    pub limit_nofile: u64,
    /// How long it may take until it is ready, at a start and at a reload, the checks included.
    pub start_timeout: Duration,
    /// How long it may take to end after SIGTERM before it is killed.
    pub stop_timeout: Duration,
    /// What systemd confines it to. The direct backend confines nothing.
    pub sandbox: Sandbox,
}

/// What a service needs beyond what every service may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// Where it may write besides `/run`, `/tmp` and `/dev`; each need not exist.
    pub writable: Vec<PathBuf>,
    /// Capabilities it keeps, as in capabilities(7): `CAP_NET_ADMIN`.
    pub capabilities: Vec<String>,
    /// Whether it sets sysctls.
    pub kernel_tunables: bool,
    /// Whether it enters namespaces and mounts: keepalived does both where its configuration has a `net_namespace`.
    #[serde(default)]
    pub namespaces: bool,
}

impl Service {
    /// systemd's `StartLimitBurst=`.
    pub const START_LIMIT: u32 = 5;
    /// systemd's `StartLimitIntervalSec=`.
    pub const START_INTERVAL: Duration = Duration::from_secs(10);
    /// systemd's `RestartSec=`.
    pub const RESTART_DELAY: Duration = Duration::from_millis(100);

    /// A service with what is usual: SIGHUP, no checks, no notification, 30 s to start and 20 s
    /// to stop (a caller of the API waits a minute), the
    /// limit on files that Octavia sets.
    #[must_use]
    pub fn new(name: ServiceName, description: &str, command: Vec<String>) -> Self {
        Self {
            name,
            description: description.to_owned(),
            command,
            checks: Vec::new(),
            reload: ReloadSignal::Hup,
            reload_forks: false,
            environment: BTreeMap::new(),
            notify: false,
            after: Vec::new(),
            before: Vec::new(),
            limit_nofile: 2_600_000, // octavia/amphorae/backends/agent/api_server/templates/systemd.conf.j2
            start_timeout: Duration::from_secs(30),
            stop_timeout: Duration::from_secs(20),
            sandbox: Sandbox::default(),
        }
    }
}
