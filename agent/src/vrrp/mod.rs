//! VRRP by keepalived, which moves the VIP between the two amphorae of an `ACTIVE_STANDBY` load balancer.
//!
//! Where every VIP is routed (`vip_mode` `anycast` or `noarp`) there is nothing to move: configurations are taken and
//! kept, and no keepalived is started. The stock controller then still says `vrrp/stop` to silence an amphora, so that
//! is a part of the durable state: see [`crate::state::Change::Silence`].

mod resume;
pub mod scripts;

use std::{
    io,
    path::{Path, PathBuf},
};

pub use resume::resume;

use crate::{
    crash,
    files::{Directory, Name},
    keepalived, loadbalancers,
    services::{Service, ServiceName, Services},
    state::{Desired, VipMode},
};

const CONFIGURATION: &str = "octavia-keepalived.conf";
const PID: &str = "octavia-keepalived.pid";
const CHILD_PID: &str = "octavia-keepalived.vrrp.pid";

/// Whether all VIPs of this amphora are routed to it; before the first plug the configured mode tells.
#[must_use]
pub fn is_routed(desired: &Desired, default_mode: VipMode) -> bool {
    let mut plugs = desired.plugs.values().map(|plug| plug.mode).peekable();
    let routed = |mode: VipMode| mode != VipMode::Interface;
    if plugs.peek().is_some() { plugs.all(routed) } else { routed(default_mode) }
}

/// Stores a configuration and what it needs, all of it durably.
///
/// # Errors
/// The system's. What was there is there, or is the new one.
pub fn store(base: &Path, configuration: &[u8]) -> io::Result<()> {
    scripts::write_check_script(base)?;
    scripts::update(base, None)?;
    crash::point("vrrp: scripts written");
    // Last: heartbeats stop while there is a configuration and no keepalived.
    directory(base)?.replace(&name(CONFIGURATION), configuration)
}

/// Whether a configuration has been stored.
#[must_use]
pub fn is_configured(base: &Path) -> bool {
    base.join("vrrp").join(CONFIGURATION).is_file()
}

/// Whether the keepalived of the pid file runs. Blocks for the time of a file read.
///
/// # Errors
/// The system's, where the file is there and cannot be read.
pub fn is_running(base: &Path) -> io::Result<bool> {
    let pid = Directory::open(&base.join("vrrp"))?.map(|d| d.read(&name(PID))).transpose()?.flatten();
    Ok(pid.is_some_and(|pid| loadbalancers::is_running(&pid)))
}

/// keepalived as a service of `services`. `facility` is the number of `LOG_LOCAL` for the amphora's own logs.
#[must_use]
pub fn service(services: &Services, base: &Path, facility: u8) -> Service {
    let (vrrp, pids) = (base.join("vrrp"), [("-p", base.join("vrrp").join(PID)), ("-r", child_pid(base))]);
    // haproxy's own services name this one as started after them.
    let service = keepalived::service(
        ServiceName::keepalived(),
        "VRRP by keepalived",
        &vrrp.join(CONFIGURATION),
        facility,
        &pids,
    );
    Service { notify: keepalived::notifies(services), ..service }
}

/// The pid file of keepalived's child that speaks VRRP.
#[must_use]
pub fn child_pid(base: &Path) -> PathBuf {
    base.join("vrrp").join(CHILD_PID)
}

fn directory(base: &Path) -> io::Result<Directory> {
    Directory::open_or_make(base)?.inner_or_make_open(&name("vrrp"))
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a literal")
}

/// Where the configuration is.
#[must_use]
pub fn configuration(base: &Path) -> PathBuf {
    base.join("vrrp").join(CONFIGURATION)
}
