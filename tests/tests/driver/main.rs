//! Octavia's own amphora driver against this agent: load balancers through their lives as the controller's flows take
//! them, every method of driver and client, every error it tells apart, and certificates as Octavia has them made.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]
#![allow(clippy::doc_markdown, reason = "ToR is a word here, not code")]

mod certificates;
mod errors;
mod life;
mod site;
