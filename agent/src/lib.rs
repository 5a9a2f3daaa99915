//! The agent inside a load-balancer VM (an amphora).

pub mod api;
pub mod config;
pub mod converge;
mod crash;
pub mod deadman;
pub mod files;
pub mod firewall;
pub mod interfaces;
pub mod kernel;
pub mod loadbalancers;
pub mod owner;
pub mod plan;
pub mod programs;
pub mod resolve;
pub mod server;
pub mod speaker;
mod start;
pub mod state;

pub use start::{StartError, run};
