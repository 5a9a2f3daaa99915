//! A stock `ACTIVE_STANDBY` load balancer that runs active-active by configuration alone (`vip_mode = anycast`,
//! `announce = listener`): the calls are those of Octavia's own driver, and nobody registers anything.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]
#![allow(clippy::doc_markdown, reason = "ToR is a word here, not code")]

mod faults;
mod limit;
mod load;
mod pair;
mod site;
