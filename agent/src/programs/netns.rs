//! `amphora-netns`: makes the namespace `amphora-haproxy`, for the unit of that name.
//!
//! The unit exists so that the namespace is there before every service that lives in it, whether the agent runs or
//! not, and because a sandboxed agent could not make it: its mounts would stay its own.

use std::{ffi::OsString, process::ExitCode};

use netns::{Error, Namespace};

use crate::{api::error::with_causes, kernel::NAMESPACE};

/// haproxy starts at boot before the agent has bound its VIPs. Octavia's image sets these for the whole machine
/// (elements/amphora-agent, sysctl); a namespace begins without.
const NONLOCAL_BIND: [&str; 2] = ["net.ipv4.ip_nonlocal_bind", "net.ipv6.ip_nonlocal_bind"];

pub(super) fn run(_: &[OsString]) -> ExitCode {
    match make() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("amphora-netns: {}", with_causes(&error));
            ExitCode::FAILURE
        }
    }
}

fn make() -> Result<(), Error> {
    let namespace = Namespace::create(NAMESPACE)?;
    for key in NONLOCAL_BIND {
        // Without, services wait for their addresses and nothing else; without a namespace they do not run.
        if let Err(error) = namespace.set_sysctl(key, "1") {
            eprintln!("amphora-netns: {}", with_causes(&error));
        }
    }
    Ok(())
}
