//! News from the kernel, as hints to read again.
//!
//! What is told is only *what kind* of thing changed. Hints not yet taken are folded together, so that a slow reader
//! costs no memory, and when the kernel could not keep all its events for us ([`Signal::EventsLost`]), everything may
//! have changed.

use std::io;

use futures_util::{Stream, StreamExt as _, stream};
use rtnetlink::{
    MulticastGroup,
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::RouteNetlinkMessage,
};
use tokio::{sync::watch, task::JoinHandle};

use crate::{Error, Network, Result};

/// A kind of thing in the kernel's network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// A link came, went, or changed.
    Link,
    /// An address came, went, or changed.
    Address,
    /// A route came or went.
    Route,
    /// A rule came or went.
    Rule,
}

/// What a watcher is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// Something of this kind changed since the last time this was said.
    Changed(Change),
    /// Events were lost; read everything again.
    EventsLost,
}

const GROUPS: [MulticastGroup; 7] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
];

/// Everything that can be said; a loss first, for it says the rest as well.
const SIGNALS: [Signal; 5] = [
    Signal::EventsLost,
    Signal::Changed(Change::Link),
    Signal::Changed(Change::Address),
    Signal::Changed(Change::Route),
    Signal::Changed(Change::Rule),
];

/// How often each of [`SIGNALS`] was given.
type Counts = [u64; SIGNALS.len()];

impl Network {
    /// Watches links, addresses, routes and rules of this namespace. What happens after this call is told, so whoever
    /// reads the state after it misses nothing. The stream ends only if the netlink socket gives out.
    pub fn watch(&self) -> Result<impl Stream<Item = Signal> + Send + Unpin + use<>> {
        let fail = |e| Error::io("watch", self.namespace().label(), e);
        let runtime = tokio::runtime::Handle::try_current().map_err(|e| fail(io::Error::other(e)))?;
        let open = || {
            let _reactor = runtime.enter();
            rtnetlink::new_multicast_connection(&GROUPS)
        };
        let (connection, handle, mut events) = self.namespace().run(open)?.map_err(fail)?;
        let (counts, told) = watch::channel(Counts::default());
        let count = async move {
            let _handle = handle; // without one the connection may close
            while let Some((message, _)) = events.next().await {
                if let Some(which) = signal(&message).and_then(|s| SIGNALS.iter().position(|other| *other == s)) {
                    counts.send_modify(|counts| counts[which] += 1);
                }
            }
        };
        let pump = runtime.spawn(async move {
            tokio::select! { () = connection => {}, () = count => {} }
        });
        Ok(signals(Watcher { told, seen: Counts::default(), _pump: EndsWithUs(pump) }).boxed())
    }
}

struct Watcher {
    told: watch::Receiver<Counts>,
    seen: Counts,
    _pump: EndsWithUs,
}

struct EndsWithUs(JoinHandle<()>);

impl Drop for EndsWithUs {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn signals(watcher: Watcher) -> impl Stream<Item = Signal> + Send {
    stream::unfold(watcher, |mut watcher| async move {
        loop {
            let counts = *watcher.told.borrow_and_update();
            if let Some(which) = (0..SIGNALS.len()).find(|&i| counts[i] != watcher.seen[i]) {
                if SIGNALS[which] == Signal::EventsLost {
                    watcher.seen = counts;
                } else {
                    watcher.seen[which] = counts[which];
                }
                return Some((SIGNALS[which], watcher));
            }
            watcher.told.changed().await.ok()?;
        }
    })
}

fn signal(message: &NetlinkMessage<RouteNetlinkMessage>) -> Option<Signal> {
    use RouteNetlinkMessage as Msg;
    match &message.payload {
        NetlinkPayload::Overrun(_) => Some(Signal::EventsLost),
        NetlinkPayload::InnerMessage(message) => Some(Signal::Changed(match message {
            Msg::NewLink(_) | Msg::DelLink(_) => Change::Link,
            Msg::NewAddress(_) | Msg::DelAddress(_) => Change::Address,
            Msg::NewRoute(_) | Msg::DelRoute(_) => Change::Route,
            Msg::NewRule(_) | Msg::DelRule(_) => Change::Rule,
            _ => return None,
        })),
        _ => None,
    }
}
