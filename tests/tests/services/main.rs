//! Both backends of `services` keep one contract: the same functions are run over each, on real haproxy, in a machine
//! made for it. This program is also what runs there: the tests of `contract` are ignored out here.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]

mod contract;
mod direct;
mod faults;
mod inside;
mod ping;
mod shipped;
mod systemd;
mod units;
