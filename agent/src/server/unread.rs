//! A request's body that remembers whether it was read to its end.
//!
//! An answer that comes before that (too large, no such URL) is followed by the end of the connection, which then has to
//! take what is still being sent ([`super::stream::Stream::drain`]).

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::slots::Slot;

#[derive(Debug)]
pub(super) struct Unread {
    body: Incoming,
    slot: Arc<Slot>,
}

impl Unread {
    pub(super) fn new(body: Incoming, slot: Arc<Slot>) -> Self {
        slot.set_unread(false);
        Self { body, slot }
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        self.slot.set_unread(!self.body.is_end_stream());
    }
}

impl Body for Unread {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
