use std::{path::PathBuf, time::Duration};

use tonic::{Code, Status};

use crate::Invalid;

/// Why the speaker did not do what it was asked.
///
/// gobgpd answers nearly every refusal with the gRPC code UNKNOWN and a sentence, so [`Error::Refused`]
/// carries the sentence. None of gobgpd's sentences repeats a password.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answers on the socket. Try again later.
    #[error("the speaker does not answer on {}: {why}", .socket.display())]
    Unreachable {
        /// Where it should be.
        socket: PathBuf,
        /// The kernel's word.
        why: String,
    },
    /// The deadline passed. The call may have had its effect or not: read back.
    #[error("the speaker took longer than {after:?} to {what}")]
    Slow {
        /// The call.
        what: &'static str,
        /// The deadline.
        after: Duration,
    },
    /// Others than the owner can reach the socket; it gives full control over our routes.
    #[error("{} must be for its owner alone: {why}", .path.display())]
    Insecure {
        /// The socket or its folder.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Something answers that is no gobgpd 3.10 or later.
    #[error("not a gobgpd we can speak to: {0}")]
    WrongDaemon(String),
    /// The daemon has not been told its AS yet: it is freshly started, maybe behind our back.
    #[error("the speaker is freshly started and has no configuration")]
    NotStarted,
    /// gobgpd said no.
    #[error("the speaker refused to {what}: {why}")]
    Refused {
        /// The call, with its prefix or peer.
        what: String,
        /// Its words.
        why: String,
    },
    /// The daemon ended, or the connection to it. The call may have had its effect or not.
    #[error("the speaker went away: {0}")]
    Lost(String),
    /// The configuration contradicts itself; nothing was sent.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

impl Error {
    /// The meaning of a gRPC status. `what` completes "refused to …".
    pub(crate) fn from_status(status: &Status, socket: &std::path::Path, what: &str) -> Self {
        let why = || {
            // tonic's own failures say "transport error"; the cause is in the sources
            let mut text = status.message().to_owned();
            let mut source = std::error::Error::source(status);
            while let Some(cause) = source {
                text = cause.to_string();
                source = cause.source();
            }
            text
        };
        let from_here = std::error::Error::source(status).is_some();
        match status.code() {
            Code::Unavailable if connecting(status) => Self::Unreachable { socket: socket.into(), why: why() },
            Code::Unavailable | Code::Cancelled => Self::Lost(why()),
            _ if from_here => Self::Lost(why()),
            Code::Unimplemented => Self::WrongDaemon(why()),
            _ if status.message().contains("hasn't started yet") => Self::NotStarted,
            _ => Self::Refused { what: what.to_owned(), why: why() },
        }
    }
}

/// Whether the failure is the kernel's answer to `connect`.
fn connecting(status: &Status) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied};
    let mut source = std::error::Error::source(status);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            return matches!(io.kind(), NotFound | ConnectionRefused | PermissionDenied);
        }
        source = cause.source();
    }
    false
}
