//! What can go wrong in the lab. It is a test tool: an error's job is to be read by a person, with the evidence in it.

use std::io;
use std::time::Duration;

/// Anything that kept the lab from doing what a test asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused something.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A command failed or overran its deadline.
    #[error("{node}: `{command}` {outcome}\n{stderr}")]
    Command {
        /// The node it ran in.
        node: String,
        /// The command line.
        command: String,
        /// How it ended.
        outcome: String,
        /// What it wrote to standard error.
        stderr: String,
    },
    /// Something awaited did not happen.
    #[error("{what}: not within {within:?}; last seen: {last}")]
    Deadline {
        /// What was awaited.
        what: String,
        /// How long.
        within: Duration,
        /// The state at the last look.
        last: String,
    },
    /// A program's output is not what the lab knows how to read.
    #[error("cannot read {what}: {text}")]
    Parse {
        /// Whose output.
        what: String,
        /// The output, or what is wrong with it.
        text: String,
    },
    /// What should be so is not.
    #[error("not so: {what}; found: {found}")]
    Wrong {
        /// How it should be.
        what: String,
        /// How it is.
        found: String,
    },
    /// A program the lab needs is not there. The text says how to get it.
    #[error("{0}")]
    Missing(String),
    /// No answer from an API, for a reason below HTTP (TCP, TLS, a closed connection).
    #[error("{what}: {reason}")]
    Http {
        /// The request.
        what: String,
        /// What happened, with every cause.
        reason: String,
    },
}

/// The lab's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Turns a system error into ours; for `map_err`.
pub(crate) fn io<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Error {
    move |source| Error::Io { what: what.into(), source: source.into() }
}

/// An error and all its causes on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
