//! Announcements that follow health (`announce = listener`): a real haproxy comes, goes, is reloaded and killed, and the
//! ToR's routing table follows.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]
#![allow(clippy::doc_markdown, reason = "ToR is a word here, not code")]

mod flapping;
mod last_resort;
mod listener;
mod network;
mod quiet;
mod support;
