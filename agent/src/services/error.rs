//! What can go wrong with a service.

use std::io;

use super::ServiceName;

/// Why a call on a service failed. Cloned for every caller that joined the same job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// It has not been installed.
    #[error("no service {0} is installed")]
    Unknown(ServiceName),
    /// A reload of what does not run. The text is systemctl's, for Octavia knows it.
    #[error("{0}.service is not active, cannot reload.")]
    NotActive(ServiceName),
    /// systemd has an opposite job of somebody else's for it. The text is systemctl's, for Octavia knows it.
    #[error("Job is already running for {0}.service")]
    JobRunning(ServiceName),
    /// A command that must succeed before a start or reload did not; nothing was started or signalled.
    #[error("{name}: the check failed: {text}")]
    Check {
        /// Whose.
        name: ServiceName,
        /// What it said, or how it ended.
        text: String,
    },
    /// It did not start, reload or stop.
    #[error("{name} {what}: {text}")]
    Failed {
        /// Which.
        name: ServiceName,
        /// `did not start`, `did not reload`, `did not stop`.
        what: &'static str,
        /// How it ended, and the last of what it said.
        text: String,
    },
    /// It did not become ready, or did not end, in its time.
    #[error("{name} {what} in time{}{text}", if text.is_empty() { "" } else { ": " })]
    TimedOut {
        /// Which.
        name: ServiceName,
        /// As in [`ServiceError::Failed`].
        what: &'static str,
        /// The last of what it said.
        text: String,
    },
    /// The call itself, or a file or process of the backend's.
    #[error("cannot {what} {name}: {text}")]
    Backend {
        /// Which.
        name: ServiceName,
        /// What was tried, as a verb.
        what: &'static str,
        /// Why not.
        text: String,
    },
}

impl ServiceError {
    /// What a service said of its failure, without our words: for the `details` of an answer.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Check { text, .. } | Self::Failed { text, .. } | Self::TimedOut { text, .. } if !text.is_empty() => {
                text.clone()
            }
            other => other.to_string(),
        }
    }

    /// For `map_err`: what could not be done to which service.
    pub(super) fn io(name: &ServiceName, what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Backend { name: name.clone(), what, text: error.to_string() }
    }
}
