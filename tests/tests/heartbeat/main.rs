//! Heartbeats: what Octavia's receiver makes of them, what Octavia's agent would have said, and that they come in time.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]

mod calm;
mod golden;
mod prometheus;
mod site;
mod time;
