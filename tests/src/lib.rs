//! The lab: a fabric of namespaces with real routers, BGP speakers and load balancers, as a library. Tests, benches and
//! the demo are programs on it.
//!
//! A [`Node`] is a machine made of namespaces. Nothing of this machine is touched but `target/lab`: links are made inside
//! the nodes, files are written to overlays. A lab ends completely when it is dropped, and also when its program is
//! killed. Tests that fail must panic (`unwrap`): then the lab shows its logs and keeps them.
//!
//! ```no_run
//! use lab::{Fabric, Family, Options, TorKind, addresses, traffic};
//!
//! let fabric = Fabric::new("example", &Options::new(TorKind::Frr)).unwrap();
//! fabric.write_configs(Family::V4).unwrap();
//! let (amphora, vip) = (&fabric.amphorae[0], addresses::vip(7));
//! amphora.start_agent(&[]).unwrap();
//! let (mut api, _) = amphora.wait_api(std::time::Duration::from_secs(5)).unwrap();
//! api.plug_vip(vip.v4.into(), &amphora.plug_body(vip)).unwrap().success().unwrap();
//! amphora.start_haproxy(&[vip.v4.into(), vip.v6.into()], 80).unwrap();
//! api.register(amphora.id(), vip.v4.into(), amphora.frontend(Family::V4), None).unwrap().success().unwrap();
//! println!("{}", traffic::connect(&fabric.client, (vip.v4, 80).into(), 300).unwrap());
//! ```

#![allow(clippy::doc_markdown, reason = "ToR is a word here, not code")]
#![allow(clippy::missing_panics_doc, reason = "each expect states what always holds")]
#![allow(clippy::format_push_string, clippy::format_collect, reason = "configurations read better than they run")]

use std::sync::{Mutex, MutexGuard, PoisonError};

pub mod addresses;
pub mod amphora;
pub mod api;
pub mod balancers;
pub mod bare;
mod calls;
pub mod capture;
pub mod controller;
pub mod error;
pub mod fabric;
pub mod frames;
pub mod heartbeats;
pub mod load;
pub mod net;
pub mod node;
pub mod nspawn;
pub mod octavia;
pub mod peer;
pub mod picture;
pub mod pki;
pub mod place;
pub mod process;
pub mod routes;
pub mod speaker;
pub mod tor;
pub mod traffic;
pub mod vm;
pub mod wait;
pub mod walk;
pub mod workdir;
pub mod wreck;

pub use addresses::{Dual, Family};
pub use amphora::Amphora;
pub use api::{Api, Reply};
pub use capture::Capture;
pub use controller::Controller;
pub use error::{Error, Result};
pub use fabric::{Fabric, Options};
pub use load::Load;
pub use node::Node;
pub use nspawn::Machine;
pub use peer::Peer;
pub use place::{Place, command};
pub use process::Proc;
pub use speaker::Gobgpd;
pub use tor::{Neighbours, Tor, TorKind, TorOptions};
pub use vm::Vm;
pub use wait::wait_for;
pub use walk::Walk;
pub use workdir::Workdir;
pub use wreck::Wreck;

/// Locks a mutex whose value is whole at any time, so that a panic elsewhere does not matter.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says that a test did not run, on a line of its own that a summary can count: `SKIPPED: test: reason`. For the two
/// things a machine may lack, a gobgpd 4.x and Octavia itself; everything else that is missing is a failure.
pub fn skipped(test: &str, reason: &str) {
    use std::io::Write;
    // Not eprintln: the test harness swallows that where the test passes. One write, and a line's end before it: the
    // harness may be in the middle of a line.
    let line = format!("\nSKIPPED: {test}: {reason}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}
