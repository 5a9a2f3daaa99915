//! The agent inside a load-balancer VM (an amphora).

pub mod api;
pub mod child;
pub mod clock;
pub mod config;
pub mod config_drive;
pub mod converge;
mod crash;
pub mod ctl;
pub mod deadman;
pub mod dhcp;
pub mod drain;
pub mod files;
pub mod firewall;
pub mod haproxy;
pub mod health;
pub mod heartbeat;
pub mod interfaces;
pub mod keepalived;
pub mod keepalivedlvs;
pub mod kernel;
pub mod loadbalancers;
pub mod metrics;
pub mod owner;
pub mod plan;
pub mod programs;
pub mod prometheus;
pub mod ramfs;
pub mod reload;
pub mod resolve;
pub mod server;
pub mod services;
pub mod speaker;
mod start;
pub mod state;
pub mod vrrp;

pub use start::{StartError, run};
