//! Draining: clients go to the other amphorae, the old ones end by themselves, and nobody is lost on the way.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]
#![allow(clippy::doc_markdown, reason = "ToR is a word here, not code")]

mod all;
mod cancel;
mod clients;
mod foreign;
mod one;
mod support;
