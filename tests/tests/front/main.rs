//! The front door of a real agent: its configuration replaced while it runs, its certificate rotated, and clients that
//! send too much, too slowly or nonsense.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]
#![allow(clippy::doc_markdown, reason = "ToR is a word here, not code")]

mod anything;
mod bodies;
mod config;
mod cuts;
mod ramfs;
mod reload;
mod segments;
mod support;
