//! `amphoractl` and the socket it talks to, on a live amphora.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]
#![allow(clippy::doc_markdown, reason = "ToR is a word here, not code")]

mod bundle;
mod commands;
mod pages;
mod said;
#[path = "../lifecycle/support.rs"]
#[allow(dead_code, reason = "the other tests' amphora; these need less of it")]
mod site;
mod socket;
mod unregistered;
