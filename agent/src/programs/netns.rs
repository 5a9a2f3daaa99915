//! `amphora-netns`: makes the namespace `amphora-haproxy` and sets its sysctls, for the unit of that name.
//!
//! The unit exists so that the namespace is there before every service that lives in it, whether the agent runs or
//! not, and because a sandboxed agent could not make it: its mounts would stay its own.

use std::{ffi::OsString, process::ExitCode};

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
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("amphora-netns: {}", with_causes(&error));
            ExitCode::FAILURE
        }
    }
}
