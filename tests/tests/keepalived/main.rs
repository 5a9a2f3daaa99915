//! VRRP and LVS with the real keepalived, configured by Octavia's own templaters and called by its own client.
//!
//! This machine's kernel has no IPVS: what needs it is skipped, and says so.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]
#![allow(clippy::doc_markdown, reason = "ToR is a word here, not code")]

mod boot;
mod crash;
mod judged;
mod lvs;
mod lvs_crash;
mod pair;
mod programs;
mod routed;
mod support;
mod vrrp;
