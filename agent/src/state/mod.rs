//! The desired state: what it is (`model`) and how it survives (`log`).

mod log;
mod model;

pub use log::{Log, LogError};
pub use model::{Change, Desired, Frontend, HostRoute, Plug, Registration, Server, Vip, VipMode};
