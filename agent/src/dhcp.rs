//! IPv4 addresses by DHCP, for NICs of which the controller names none.
//!
//! `dhcpcd` does it, as a service that outlives the agent: a lease has to be renewed whatever becomes of the agent, and a
//! client of our own would be one more thing between a member and its address. It is the client that Debian installs
//! (ISC's dhclient, which Octavia calls, has had no release since 2022). It sets the address with the lease's lifetime and
//! the routes the server names, but no default route: that is the VIP's NIC's. It writes no other file than its lease.

use std::time::Duration;

use netns::{IfName, Mac};

use crate::{
    kernel::Kernel,
    programs, resolve,
    services::{Service, ServiceError, ServiceName, Services},
    state::Desired,
};

/// How long a plug waits for a lease. A server that is there answers at once, or after it has looked for the address (a
/// second or three).
const LEASE: Duration = Duration::from_secs(20);

/// Octavia's `/sbin/dhclient` is in the same place.
pub(crate) const PROGRAM: &str = "/usr/sbin/dhcpcd";

/// The service of one interface; `None` for a name no service can have, which none of the controller's is.
fn name(interface: &IfName) -> Option<ServiceName> {
    ServiceName::new(&format!("octavia-dhcp-{interface}"))
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

/// At the agent's start: every NIC that is to have a client has one, also one that was taken over from another agent or
/// whose client gave up while the NIC was not there yet.
pub async fn resume(services: Services, kernel: Kernel, desired: Desired) {
    for (mac, interface) in desired.nics() {
        // A lease that somebody else's client keeps is left to it.
        if !wanted(mac, &desired) || kernel.has_lease(mac).await {
            continue;
        }
        if let Err(error) = set(&services, interface, true).await {
            tracing::warn!(%interface, error = &error as &dyn std::error::Error, "no DHCP; plug the NIC anew");
        }
    }
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
