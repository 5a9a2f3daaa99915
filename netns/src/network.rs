//! The netlink socket of one namespace: ask, and know whether the answer was whole.
//!
//! rtnetlink's own requests take a closed socket for the end of an answer, so that a list cut short, or an
//! acknowledgement that never came, looks like success. Here an answer is complete only with the kernel's `NLMSG_DONE`
//! or acknowledgement; a list during which something changed (`NLM_F_DUMP_INTR`) is asked for again; every request has
//! a deadline; and the kernel's own words (`NLMSGERR_ATTR_MSG`) come along with its refusal.

use std::{io, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use nix::errno::Errno;
use rtnetlink::{
    packet_core::{
        ErrorMessage, NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage,
        NetlinkPayload,
    },
    packet_route::{AddressFamily, RouteNetlinkMessage},
    sys::AsyncSocket as _,
};
use tokio::sync::Mutex;

use crate::{Error, Kind, Namespace, Result, error::classify};

/// The kernel answers in microseconds, but for a device whose driver has to be waited for under the kernel's one lock.
const DEADLINE: Duration = Duration::from_secs(20);
const DUMPS_AT_MOST: usize = 20;
/// Before a list is asked for again while the socket still reads out one that nobody waits for any more.
const ABANDONED: Duration = Duration::from_millis(1);

/// The families that addresses, routes and rules are listed for, one list each: `AF_UNSPEC` would bring others along.
pub(crate) const FAMILIES: [AddressFamily; 2] = [AddressFamily::Inet, AddressFamily::Inet6];

/// The links, addresses, routes and rules of one namespace.
#[derive(Clone, Debug)]
pub struct Network {
    handle: rtnetlink::Handle,
    namespace: Namespace,
    /// The kernel writes one list at a time into a socket and answers EBUSY to whoever asks for a second
    /// (`netlink_dump_start`), and many tasks share this one.
    listing: Arc<Mutex<()>>,
}

/// An answer that is not the one hoped for, before it is known what it was about.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) kind: Kind,
    source: Option<io::Error>,
}

impl Refusal {
    pub(crate) fn of(self, operation: &'static str, object: impl std::fmt::Display) -> Error {
        Error { operation, object: object.to_string(), kind: self.kind, source: self.source }
    }
}

impl From<Kind> for Refusal {
    fn from(kind: Kind) -> Self {
        Self { kind, source: None }
    }
}

impl Network {
    pub(crate) fn new(namespace: Namespace) -> Result<Self> {
        let fail = |e| Error::io("open netlink in", namespace.label(), e);
        let runtime = tokio::runtime::Handle::try_current().map_err(|e| fail(io::Error::other(e)))?;
        let open = || {
            let _reactor = runtime.enter();
            let (mut connection, handle, _) = rtnetlink::new_connection()?;
            connection.set_forward_done(true);
            connection.set_forward_ack(true);
            connection.socket_mut().socket_mut().set_ext_ack(true)?;
            connection.socket_mut().socket_mut().set_cap_ack(true)?;
            io::Result::Ok((connection, handle))
        };
        let (connection, handle) = namespace.run(open)?.map_err(fail)?;
        runtime.spawn(connection); // ends with the last clone of the handle
        Ok(Self { handle, namespace, listing: Arc::default() })
    }

    /// The namespace this is the network of.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// One change, acknowledged.
    pub(crate) async fn change(&self, message: RouteNetlinkMessage, flags: u16) -> std::result::Result<(), Refusal> {
        self.ask(message, flags | NLM_F_ACK).await.map(drop)
    }

    /// One thing, acknowledged.
    pub(crate) async fn get(
        &self,
        message: RouteNetlinkMessage,
    ) -> std::result::Result<Vec<RouteNetlinkMessage>, Refusal> {
        self.ask(message, NLM_F_ACK).await.map(|(answer, _)| answer)
    }

    /// One list, whole and consistent.
    pub(crate) async fn dump(
        &self,
        operation: &'static str,
        message: &RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>> {
        let fail = |refusal: Refusal| refusal.of(operation, format!("namespace {}", self.namespace.label()));
        let _listing = self.listing.lock().await;
        for _ in 0..DUMPS_AT_MOST {
            match self.ask(message.clone(), NLM_F_DUMP).await {
                Ok((list, false)) => return Ok(list),
                Ok((_, true)) => {}
                // Whoever asked before has gone in the middle of the answer.
                Err(refusal) if refusal.kind == Kind::Busy => tokio::time::sleep(ABANDONED).await,
                Err(refusal) => return Err(fail(refusal)),
            }
        }
        Err(fail(Kind::Other(Errno::EINTR as i32).into()))
    }

    /// Asks and reads to the end of the answer; the flag tells that the list changed while it was read.
    async fn ask(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> std::result::Result<(Vec<RouteNetlinkMessage>, bool), Refusal> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        let mut answers = self.handle.clone().request(request).map_err(|_| Kind::Disconnected)?;
        let read = async {
            let (mut list, mut interrupted) = (Vec::new(), false);
            while let Some(answer) = answers.next().await {
                interrupted |= answer.header.flags & NLM_F_DUMP_INTR != 0;
                match answer.payload {
                    NetlinkPayload::InnerMessage(message) => list.push(message),
                    NetlinkPayload::Done(done) if done.code < 0 => return Err(refusal(done.code, None)),
                    NetlinkPayload::Error(e) if e.code.is_some() => {
                        return Err(refusal(e.raw_code(), kernels_words(&e, answer.header.flags)));
                    }
                    NetlinkPayload::Done(_) | NetlinkPayload::Error(_) => return Ok((list, interrupted)),
                    _ => break, // an overrun: the rest of the answer is lost
                }
            }
            Err(Kind::Disconnected.into())
        };
        tokio::time::timeout(DEADLINE, read).await.unwrap_or_else(|_| Err(Kind::TimedOut.into()))
    }
}

fn refusal(code: i32, words: Option<String>) -> Refusal {
    let source = io::Error::from_raw_os_error(code.saturating_neg());
    let kind = classify(Errno::from_raw(code.saturating_neg()));
    let source = match words {
        Some(words) => io::Error::new(source.kind(), format!("{source}: {words}")),
        None => source,
    };
    Refusal { kind, source: Some(source) }
}

/// What the kernel says besides the number: attribute 1 (`NLMSGERR_ATTR_MSG`) behind the header of our own request,
/// which `NETLINK_CAP_ACK` keeps to its 16 bytes.
fn kernels_words(error: &ErrorMessage, flags: u16) -> Option<String> {
    if flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let mut attributes = error.header.get(16..)?;
    loop {
        let (head, _) = attributes.split_first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        if u16::from_ne_bytes([head[2], head[3]]) == 1 {
            let text = attributes.get(4..length)?;
            return Some(String::from_utf8_lossy(text).trim_end_matches('\0').to_owned());
        }
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
}
