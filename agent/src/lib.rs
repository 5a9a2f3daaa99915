//! The agent inside a load-balancer VM (an amphora).

pub mod config;
