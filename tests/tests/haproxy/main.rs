//! Load balancers on a real haproxy: what the agent does with configurations, processes and files, and what clients
//! notice of it.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]

mod client;
mod kill;
mod life;
mod load;
mod policy;
mod support;
mod upgrade;
mod upload;
