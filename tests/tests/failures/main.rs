//! What happens when something fails (docs/failures.md): the rows that no other test shows, with what clients see, what the
//! ToR sees, and how long it takes.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]
#![allow(clippy::doc_markdown, reason = "ToR is a word here, not code")]

mod amphora;
mod around;
mod clock;
mod nic;
mod support;
mod table;
mod tor;
