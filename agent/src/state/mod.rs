//! The desired state: what it is (`model`) and how it survives (`log`).

mod drain;
mod log;
mod model;

pub use drain::{Drain, Stage};
pub use log::{Entry, Log, LogError};
pub use model::{
    Change, Desired, Firewall, FirewallRule, FixedIp, Frontend, HostRoute, NetworkPlug, Plug, Protocol, Registration,
    Server, Vip, VipMode,
};
