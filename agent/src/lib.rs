//! The agent inside a load-balancer VM (an amphora).

pub mod config;
pub mod server;
mod start;

pub use start::{StartError, run};
