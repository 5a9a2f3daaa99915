//! Listeners for UDP and SCTP: each is a keepalived of its own that sets up the kernel's IPVS.

pub mod config;
pub mod files;
mod health;
pub mod table;

pub use health::{Health, Pool, Stats, health, judge};
