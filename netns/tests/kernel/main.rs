//! The crate against the real kernel: every test in namespaces of its own, all in parallel, none without root.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests too")]

mod addresses;
mod links;
mod namespaces;
mod routes;
mod rules;
mod silence;
mod support;
mod watching;
