//! The API as a client meets it: a real agent in the lab, called over mutual TLS, and `ip -j` to say what it did.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]
#![allow(clippy::doc_markdown, reason = "ToR is a word here, not code")]

mod certificates;
mod distributor;
mod plug;
mod refusals;
mod registrations;
mod start;
mod stock;
mod support;
mod together;
mod unplug;
