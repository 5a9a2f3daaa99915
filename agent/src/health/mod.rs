//! Whether a VIP of this amphora's is fit to be announced (`announce = listener`).
//!
//! The boundary is here so that judging is apart from looking: [`vip`] decides from readings, without clock or
//! kernel; the rest finds the readings and hands the decisions to the converging task, which alone acts on them.

pub mod damping;
pub mod gate;
pub mod vip;
