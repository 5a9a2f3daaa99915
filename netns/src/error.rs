//! What can go wrong between us and the kernel: one error, whose [`Kind`] a caller can match.

use std::{fmt, io};

use nix::errno::Errno;

/// The result of everything in this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What failed, on what, and why.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {object}: {kind}")]
pub struct Error {
    /// What was tried, as a verb phrase: `add address`.
    pub operation: &'static str,
    /// What it was tried on: `203.0.113.7/32 on link 1`.
    pub object: String,
    /// The answer, to be matched.
    pub kind: Kind,
    /// The kernel's own words, where it is the kernel that refused.
    pub source: Option<io::Error>,
}

/// Why something failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What was named is not there.
    Missing,
    /// The name is taken by something else.
    Exists,
    /// Something is there that differs from what was asked for; it was left alone.
    Conflict {
        /// What is there.
        there: String,
        /// Whether it is ours, so that the caller may delete it first.
        ours: bool,
    },
    /// It carries another owner's mark, and was left alone.
    NotOurs,
    /// Several links answer to one MAC; their names.
    Ambiguous(Vec<String>),
    /// Not root, or without `CAP_NET_ADMIN` or `CAP_SYS_ADMIN`.
    NotPermitted,
    /// No link of that index or name.
    NoDevice,
    /// The gateway is not on a network of this namespace.
    UnreachableGateway,
    /// The link is down, and what was asked for needs it up.
    LinkDown,
    /// In use: kernels before 6.2 answer so when a link that is up is renamed.
    Busy,
    /// The kernel, or this crate before it, takes the values for nonsense; the text says which.
    Invalid(&'static str),
    /// IPv6 duplicate address detection found another owner on the link (RFC 4862 section 5.4).
    DuplicateAddress,
    /// No answer, or not the awaited one, in time.
    TimedOut,
    /// The netlink socket was closed or gave out in the middle of an answer; what the kernel did is not known.
    Disconnected,
    /// Any other answer, as `errno`; zero when it is no kernel's.
    Other(i32),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("it is not there"),
            Self::Exists => f.write_str("the name is taken"),
            Self::Conflict { there, ours: true } => write!(f, "{there} of ours is there"),
            Self::Conflict { there, ours: false } => write!(f, "{there} of another owner is there"),
            Self::NotOurs => f.write_str("it belongs to another owner"),
            Self::Ambiguous(names) => write!(f, "several links have it: {}", names.join(", ")),
            Self::NotPermitted => f.write_str("not permitted; CAP_NET_ADMIN and CAP_SYS_ADMIN are needed"),
            Self::NoDevice => f.write_str("no such link"),
            Self::UnreachableGateway => f.write_str("the gateway is on no network of this namespace"),
            Self::LinkDown => f.write_str("the link is down"),
            Self::Busy => f.write_str("it is in use"),
            Self::Invalid(why) => f.write_str(why),
            Self::DuplicateAddress => f.write_str("another host on the link has it"),
            Self::TimedOut => f.write_str("no answer in time"),
            Self::Disconnected => f.write_str("the netlink socket gave out"),
            Self::Other(_) => f.write_str("the kernel refused"),
        }
    }
}

impl Error {
    pub(crate) fn new(operation: &'static str, object: impl fmt::Display, kind: Kind) -> Self {
        Self { operation, object: object.to_string(), kind, source: None }
    }

    pub(crate) fn io(operation: &'static str, object: impl fmt::Display, source: io::Error) -> Self {
        let kind = match source.raw_os_error() {
            Some(code) => classify(Errno::from_raw(code)),
            None if source.kind() == io::ErrorKind::NotFound => Kind::Missing,
            None => Kind::Other(0),
        };
        Self { operation, object: object.to_string(), kind, source: Some(source) }
    }
}

/// The meanings of `errno` on a netlink request or a file under `/proc/sys/net`, as tried on Linux 6.18: deleting an
/// absent address is `EADDRNOTAVAIL`, an absent route `ESRCH`, an absent rule `ENOENT`, an absent link `ENODEV`.
pub(crate) fn classify(errno: Errno) -> Kind {
    match errno {
        Errno::ENOENT | Errno::ESRCH | Errno::EADDRNOTAVAIL => Kind::Missing,
        Errno::EEXIST => Kind::Exists,
        Errno::EPERM | Errno::EACCES => Kind::NotPermitted,
        Errno::ENODEV | Errno::ENXIO => Kind::NoDevice,
        Errno::ENETUNREACH | Errno::EHOSTUNREACH => Kind::UnreachableGateway,
        Errno::ENETDOWN => Kind::LinkDown,
        Errno::EBUSY => Kind::Busy,
        Errno::EINVAL => Kind::Invalid("the kernel takes it for nonsense"),
        Errno::ETIMEDOUT => Kind::TimedOut,
        other => Kind::Other(other as i32),
    }
}
