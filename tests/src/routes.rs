//! What a kernel's routing table holds, and when it changed.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::error::{Error, Result, io};
use crate::place::{Place, command};
use crate::process::Proc;

/// The next hops of exactly `prefix` in the main table, sorted; none where there is no route.
pub fn next_hops(place: &Place, prefix: IpNet) -> Result<Vec<IpAddr>> {
    Ok(look(place, "exact", prefix)?.into_iter().next().map(|(_, hops)| hops).unwrap_or_default())
}

/// Every route of the main table inside `prefix`: its destination's address, and its next hops, sorted.
pub fn inside(place: &Place, prefix: IpNet) -> Result<Vec<(IpAddr, Vec<IpAddr>)>> {
    look(place, "root", prefix)
}

fn look(place: &Place, how: &str, prefix: IpNet) -> Result<Vec<(IpAddr, Vec<IpAddr>)>> {
    let family = if prefix.addr().is_ipv6() { "-6" } else { "-4" };
    let text = place.run(["ip", "-j", family, "route", "show", how, &prefix.to_string()])?;
    let parse = |text: &str| Error::Parse { what: "ip -j route".into(), text: text.into() };
    let routes: Value = serde_json::from_str(&text).map_err(|_| parse(&text))?;
    let mut found: BTreeMap<IpAddr, Vec<IpAddr>> = BTreeMap::new();
    for route in routes.as_array().into_iter().flatten() {
        let destination = route["dst"].as_str().unwrap_or_default();
        let Ok(destination) = destination.split('/').next().unwrap_or_default().parse() else { continue };
        // IPv6 may have a line for each next hop.
        let hops = found.entry(destination).or_default();
        let several = route["nexthops"].as_array().into_iter().flatten();
        for hop in several.chain(std::iter::once(route)) {
            // `via` has the gateway when its family is not the prefix's (RFC 5549).
            if let Some(gateway) = hop["gateway"].as_str().or_else(|| hop["via"]["host"].as_str()) {
                hops.push(gateway.parse().map_err(|_| parse(gateway))?);
            }
        }
    }
    for hops in found.values_mut() {
        hops.sort();
    }
    Ok(found.into_iter().collect())
}

/// A change of a routing table.
#[derive(Clone, Debug)]
pub struct RouteEvent {
    /// When this program read it: well under a millisecond after the kernel said it.
    pub at: Instant,
    /// The line of `ip monitor route`; `Deleted ...` for a removal.
    pub line: String,
}

/// Follows a routing table. Start it before what it is to see.
#[derive(Debug)]
pub struct RouteWatch {
    monitor: Proc,
    events: Receiver<RouteEvent>,
}

impl RouteWatch {
    /// Follows both families' tables.
    pub fn start(place: &Place) -> Result<Self> {
        // stdbuf: into a pipe, ip would otherwise keep lines to itself until it has a block of them.
        let mut program = command(["stdbuf", "-oL", "ip", "-o", "monitor", "route"]);
        let (reader, writer) = std::io::pipe().map_err(io("pipe"))?;
        let errors = writer.try_clone().map_err(io("pipe"))?;
        let monitor = place.spawn_into("ip-monitor", program.stdout(writer).stderr(errors))?;
        drop(program); // it holds the writing ends
        let (sender, events) = channel();
        thread::spawn(move || {
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                if sender.send(RouteEvent { at: Instant::now(), line }).is_err() {
                    return;
                }
            }
        });
        let watch = Self { monitor, events };
        watch.wait_until_listening(place)?;
        Ok(watch)
    }

    /// The next event that `wanted` accepts; others before it are dropped.
    ///
    /// # Errors
    /// [`Error::Deadline`].
    pub fn wait(&self, what: &str, within: Duration, mut wanted: impl FnMut(&str) -> bool) -> Result<RouteEvent> {
        let deadline = Instant::now() + within;
        let mut last = String::from("no change at all");
        loop {
            match self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(event) if wanted(&event.line) => return Ok(event),
                Ok(event) => last = event.line,
                Err(RecvTimeoutError::Timeout) => return Err(Error::Deadline { what: what.into(), within, last }),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::Deadline { what: what.into(), within, last: "ip monitor ended".into() });
                }
            }
        }
    }

    /// Every event so far that nobody waited for.
    #[must_use]
    pub fn so_far(&self) -> Vec<RouteEvent> {
        self.events.try_iter().collect()
    }

    /// Fails when it follows no more, for then "no change" means nothing.
    ///
    /// # Errors
    /// [`Error::Missing`] when `ip monitor` has ended.
    pub fn still_follows(&self) -> Result<()> {
        if self.monitor.is_running() { Ok(()) } else { Err(Error::Missing("`ip monitor route` has ended".into())) }
    }

    /// Changes a route of our own until the monitor tells of it.
    fn wait_until_listening(&self, place: &Place) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            place.ip("route add 127.99.99.99/32 dev lo\nroute del 127.99.99.99/32 dev lo")?;
            let told = self.wait("ip monitor listens", Duration::from_millis(50), |line| {
                line.starts_with("Deleted") && line.contains("127.99.99.99")
            });
            if told.is_ok() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return told.map(drop);
            }
        }
    }
}

impl Drop for RouteWatch {
    fn drop(&mut self) {
        let _ = self.monitor.kill(Signal::SIGKILL); // its node may have ended it already
    }
}
