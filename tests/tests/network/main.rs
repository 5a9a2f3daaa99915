//! Member networks and what goes with them, on the real kernel.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]

mod dhcp;
mod files;
mod masquerade;
mod plug;
mod program;
mod rules;
mod support;
mod sysctls;
