//! `amphora-netns`: makes the namespace `amphora-haproxy`, sets its sysctls and brings its `lo` up, for the unit of that name.
//!
//! The unit exists so that the namespace is there before every service that lives in it, whether the agent runs or
//! not, and because a sandboxed agent could not make it: its mounts would stay its own.

use std::{error::Error, ffi::OsString, process::ExitCode};

use netns::Namespace;

use crate::{
    api::error::with_causes,
    kernel::{NAMESPACE, prepare},
};

pub(super) fn run(_: &[OsString]) -> ExitCode {
    // Nobody else sets up logging for it; a second subscriber is no harm.
    let _ = tracing_subscriber::fmt().with_writer(std::io::stderr).without_time().try_init();
    match Namespace::create(NAMESPACE) {
        Ok(namespace) => {
            prepare(&namespace);
            if let Err(error) = lo_up(&namespace) {
                tracing::warn!(error = with_causes(&*error), "lo is not up; the agent tries it again");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("amphora-netns: {}", with_causes(&error));
            ExitCode::FAILURE
        }
    }
}

/// Before any service starts: without a local address the kernel takes every IPv4 address for a broadcast address
/// (`inet_addr_type`), and IPVS refuses keepalived's members, which keepalived tries once.
fn lo_up(namespace: &Namespace) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let network = namespace.network()?;
        let lo = network.loopback().await?.ok_or("there is no lo")?;
        network.set_up(lo.index).await?;
        Ok(())
    })
}
