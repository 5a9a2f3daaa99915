//! IPv4 addresses by DHCP, for NICs of which the controller names none.
//!
//! `dhcpcd` does it, as a service that outlives the agent: a lease has to be renewed whatever becomes of the agent, and a
//! client of our own would be one more thing between a member and its address. It is the client that Debian installs
//! (ISC's dhclient, which Octavia calls, has had no release since 2022). It sets the address with the lease's lifetime and
//! the routes the server names, but no default route: that is the VIP's NIC's. It writes no other file than its lease.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path, sync::Arc, time::Duration};

use netns::{IfName, Mac, Namespace};

use crate::{
    kernel::Kernel,
    owner::Shared,
    programs, resolve,
    services::{Service, ServiceError, ServiceName, Services},
    state::Desired,
};

/// How long a plug waits for a lease. A server that is there answers at once, or after it has looked for the address (a
/// second or three).
const LEASE: Duration = Duration::from_secs(20);

/// Octavia's `/sbin/dhclient` is in the same place.
pub(crate) const PROGRAM: &str = "/usr/sbin/dhcpcd";

/// How the names of the services start; an interface's name follows.
const SERVICES: &str = "octavia-dhcp-";

/// The service of one interface; `None` for a name no service can have, which none of the controller's is.
fn name(interface: &IfName) -> Option<ServiceName> {
    ServiceName::new(&format!("{SERVICES}{interface}"))
}

fn service(name: ServiceName, interface: &IfName) -> Service {
    let own = programs::own_path().to_string_lossy().into_owned();
    let command = vec![own, "dhcp-client".to_owned(), interface.to_string()];
    let mut service = Service::new(name, &format!("DHCP on {interface}, for Octavia"), command);
    service.sandbox.writable = vec!["/var/lib/dhcpcd".into()];
    service.sandbox.capabilities =
        ["NET_ADMIN", "NET_RAW", "NET_BIND_SERVICE", "SYS_CHROOT", "SETUID", "SETGID", "CHOWN"]
            .map(|capability| format!("CAP_{capability}"))
            .into();
    service.sandbox.kernel_tunables = true; // promote_secondaries of its interface
    service
}

/// Whether a NIC is to get its IPv4 address by DHCP.
#[must_use]
pub fn wanted(mac: Mac, desired: &Desired) -> bool {
    match desired.plug_on(mac) {
        Some(plug) => resolve::dhcp(plug),
        None => desired.networks.get(&mac).is_some_and(|n| n.fixed_ips.is_empty()),
    }
}

/// Starts the client of an interface, or stops it for good.
pub async fn set(services: &Services, interface: &IfName, wanted: bool) -> Result<(), ServiceError> {
    let Some(name) = name(interface) else { return Ok(()) };
    if !wanted {
        return match services.status(&name).await {
            Err(ServiceError::Unknown(_)) => Ok(()),
            _ => services.remove(&name).await,
        };
    }
    services.install(&service(name.clone(), interface)).await?;
    services.start(&name).await
}

/// Stops the clients of interfaces that nobody wants one for: the call that was to do it may have been cut off.
pub async fn sweep(services: &Services, shared: &Shared) -> Result<(), ServiceError> {
    for service in services.installed() {
        let wanted = |d: &Desired| d.nics().any(|(mac, i)| wanted(mac, d) && name(i).as_ref() == Some(&service));
        if service.as_str().starts_with(SERVICES) && !shared.read(wanted) {
            services.remove(&service).await?;
        }
    }
    Ok(())
}

/// At the agent's start: every NIC that is to have a client has one, also one that was taken over from another agent or
/// whose client gave up while the NIC was not there yet; with `settled`, no other has.
pub async fn resume(services: Services, kernel: Kernel, shared: Arc<Shared>, settled: bool) {
    let desired = shared.read(Clone::clone);
    for (mac, interface) in desired.nics() {
        // A lease alone is no reason: it ends, and whoever got it may have been killed with the agent before this one.
        if !wanted(mac, &desired) || dhclient_runs(interface, kernel.inside().namespace()) {
            continue;
        }
        if let Err(error) = set(&services, interface, true).await {
            tracing::warn!(%interface, error = &error as &dyn std::error::Error, "no DHCP; plug the NIC anew");
        }
    }
    if settled && let Err(error) = sweep(&services, &shared).await {
        tracing::warn!(error = &error as &dyn std::error::Error, "a DHCP client is left that nobody wants");
    }
}

/// Whether a client of the Python agent's looks after an interface: `dhclient`, which has it as an argument.
fn dhclient_runs(interface: &IfName, namespace: &Namespace) -> bool {
    let is_one = |process: &Path| {
        let arguments = fs::read(process.join("cmdline")).unwrap_or_default(); // it may be gone
        let mut arguments = arguments.split(|byte| *byte == 0);
        let program = arguments.next().unwrap_or_default();
        let inside = fs::metadata(process.join("ns/net")).map(|about| format!("{}:{}", about.dev(), about.ino()));
        program.rsplit(|byte| *byte == b'/').next() == Some(b"dhclient")
            && arguments.any(|argument| argument == interface.as_str().as_bytes())
            && inside.is_ok_and(|inside| inside == namespace.identity())
    };
    fs::read_dir("/proc").into_iter().flatten().flatten().any(|entry| is_one(&entry.path()))
}

/// Waits for the lease of a NIC that was just plugged; that there is none yet is logged, and the client goes on asking.
pub async fn wait(kernel: &Kernel, mac: Mac) {
    let leased = async {
        while !kernel.has_lease(mac).await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    if tokio::time::timeout(LEASE, leased).await.is_err() {
        tracing::warn!(%mac, "no DHCP server has answered yet");
    }
}
