//! The last segment of the calls that start, stop and reload something.

use crate::api::error::{ApiError, Status};

/// What shall be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// `start`
    Start,
    /// `stop`
    Stop,
    /// `reload`
    Reload,
}

impl Action {
    /// By its name in any case, as Octavia's agent takes it.
    pub fn parse(name: &str) -> Result<Self, ApiError> {
        let name = name.to_lowercase();
        let all = [Self::Start, Self::Stop, Self::Reload];
        all.into_iter()
            .find(|action| action.name() == name)
            .ok_or_else(|| ApiError::new(Status::BadRequest, "Invalid Request", format!("Unknown action: {name}")))
    }

    /// Its name in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Reload => "reload",
        }
    }

    /// How Octavia's agent words that it was done: by `ed` at its end, whatever it is.
    #[must_use]
    pub fn done(self) -> &'static str {
        match self {
            Self::Start => "started",
            Self::Stop => "stoped",
            Self::Reload => "reloaded",
        }
    }
}
