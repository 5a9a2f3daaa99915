//! What a machine listens on: every TCP port from every side, and what the machine itself says of each namespace.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use lab::{Place, Result};

use crate::evidence::COMMAND_TIME;
use crate::report::{Report, check};
use crate::serve::Single;
use crate::site::{FAMILIES, now};

/// The API, and BGP, which a ToR may dial.
const MANAGEMENT: &[u16] = &[179, 9443];
/// The listeners of the single machine's load balancer.
const LISTENERS: &[u16] = &[80, 443, 8080];
/// How many connections are tried at a time, and how long one may take.
const AT_A_TIME: usize = 48;
const PATIENCE: Duration = Duration::from_secs(5);
/// How long one address may take.
const LONGEST: Duration = Duration::from_mins(5);

/// Scans every address of the machine from the side it belongs to, and from those it does not.
pub(crate) fn scan(report: &mut Report, single: &mut Single) -> Result<()> {
    let site = &single.site;
    let (vm, vip) = (&single.vm, single.vip);
    let (controller, client, member) = (&site.fabric.controller, &site.fabric.client, &site.nodes[0]);
    let of = |what: &str, ip: IpAddr| format!("{what} {ip}");
    let mut sides: Vec<(String, &Place, IpAddr, &[u16])> = Vec::new();
    for family in FAMILIES {
        sides.push((of("management network:", vm.management(family)), controller, vm.management(family), MANAGEMENT));
        sides.push((of("a client:", vip.of(family)), client, vip.of(family), LISTENERS));
        sides.push((of("the ToR: front-end IP", single.hop(family)), site.tor().node(), single.hop(family), &[]));
    }
    let member_side = IpAddr::from([10, 9, 0, 11]);
    sides.push((of("the members' network:", member_side), member, member_side, &[]));
    for (name, from, to, wanted) in sides {
        let start = now();
        let open = open_ports(from, to)?;
        report.figure(
            &format!("open TCP ports, from {name}"),
            format!("{open:?} of 65535 in {:.0} s", start.elapsed().as_secs_f64()),
        );
        check(
            open.iter().copied().eq(wanted.iter().copied()),
            &format!("{wanted:?} open, from {name}"),
            format!("{open:?}"),
        )?;
    }
    for (namespace, enter) in [("root", ""), ("amphora-haproxy", "ip netns exec amphora-haproxy ")] {
        // Without what follows the address only: no process names that differ from boot to boot.
        let list = format!("{enter}ss -Htulnp | awk '{{ print $1, $5, $7 }}' | sed 's/,pid=.*//' | sort -u");
        let sockets = single.vm.shell().run(&list, COMMAND_TIME)?;
        report.figure(&format!("sockets in {namespace}"), sockets);
    }
    Ok(())
}

/// The TCP ports that take a connection.
///
/// # Errors
/// Where most of them answer nothing at all, so that trying each of them would take hours.
fn open_ports(from: &Place, to: IpAddr) -> Result<BTreeSet<u16>> {
    let (next, open, start) = (AtomicU32::new(1), Mutex::new(BTreeSet::new()), now());
    let try_all = || {
        while let Ok(port) = u16::try_from(next.fetch_add(1, Ordering::Relaxed)) {
            if start.elapsed() > LONGEST {
                return;
            }
            if TcpStream::connect_timeout(&SocketAddr::new(to, port), PATIENCE).is_ok() {
                open.lock().expect("nobody panics with it").insert(port);
            }
        }
    };
    from.within(|| {
        thread::scope(|scope| {
            for _ in 0..AT_A_TIME {
                scope.spawn(try_all);
            }
        });
    })?;
    check(start.elapsed() <= LONGEST, &format!("every TCP port of {to} in {LONGEST:?}"), next.into_inner())?;
    Ok(open.into_inner().expect("nobody panics with it"))
}
