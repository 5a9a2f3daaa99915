//! A connection's stream as hyper gets it: a write may not stall for ever, no status leaves that Octavia's controller would
//! take for success, and an answer arrives although its request was not read.
//!
//! hyper answers 414 or 431 by itself before any service runs, and the controller knows neither. There is no hook, so the
//! three digits are replaced on their way out; the length stays, hence no state.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::{TcpStream, UnixStream},
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::server::TlsStream;

use super::slots::Slot;

/// Longer than hyper's own refusal is: status line, three headers.
const REFUSAL: usize = 160;

/// How long what a client still sends is taken after the end, and how much of it.
const DRAIN: Duration = Duration::from_secs(30);
const MAX_DRAIN: usize = 1 << 30;

/// What requests come by.
pub(super) trait Transport: AsyncRead + AsyncWrite + Unpin {
    /// What is below its encryption, if it has one.
    fn below(&mut self) -> &mut (impl AsyncRead + Unpin);
}

impl Transport for TlsStream<TcpStream> {
    fn below(&mut self) -> &mut (impl AsyncRead + Unpin) {
        self.get_mut().0
    }
}

impl Transport for UnixStream {
    fn below(&mut self) -> &mut (impl AsyncRead + Unpin) {
        self
    }
}

pub(super) struct Stream<T> {
    inner: T,
    slot: Arc<Slot>,
    patience: Duration,
    /// Runs while a write is stalled.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<T: Transport> Stream<T> {
    pub(super) fn new(inner: T, slot: Arc<Slot>, patience: Duration) -> Self {
        Self { inner, slot, patience, stalled: None }
    }

    /// Ends our side, then takes what comes, not even decrypted, and drops it, until the client has ended too (or it is too
    /// much). A kernel that closes a socket with bytes unread resets it, and a client still sending loses the answer.
    pub(super) async fn drain(&mut self) {
        let _ = self.shutdown().await; // the client may have gone
        let below = self.inner.below();
        let taken = async {
            let (mut space, mut left) = (vec![0; 16 * 1024], MAX_DRAIN);
            while let Ok(read) = below.read(&mut space).await
                && read > 0
                && left > 0
            {
                left = left.saturating_sub(read);
            }
        };
        let _ = timeout(DRAIN, taken).await; // either way it is over
    }

    /// Turns a write pending for too long into an error.
    fn bounded<R>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if result.is_ready() {
            self.stalled = None;
            return result;
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read its answer")))
    }
}

impl<T: Transport> AsyncRead for Stream<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<T: Transport> AsyncWrite for Stream<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Some(digits) = refusal(buf).filter(|_| !self.slot.is_busy()) else {
            let result = Pin::new(&mut self.inner).poll_write(cx, buf);
            return self.bounded(cx, result);
        };
        let mut replaced = buf.to_vec();
        replaced[digits..digits + 3].copy_from_slice(b"400");
        let result = Pin::new(&mut self.inner).poll_write(cx, &replaced);
        match ready!(self.bounded(cx, result)) {
            // Cut inside the digits the rest would not be recognised: better no answer.
            Ok(written) if (digits + 1..digits + 3).contains(&written) => {
                Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
            }
            result => Poll::Ready(result),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_flush(cx);
        self.bounded(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.bounded(cx, result)
    }
}

/// Where the status of hyper's own 414 or 431 stands, if `buf` ends with one.
fn refusal(buf: &[u8]) -> Option<usize> {
    if !buf.ends_with(b"\r\n\r\n") {
        return None;
    }
    let from = buf.len().saturating_sub(REFUSAL);
    let find = |line: &[u8]| buf[from..].windows(line.len()).rposition(|window| window == line);
    let at = find(b" 431 Request Header Fields Too Large\r\n").or_else(|| find(b" 414 URI Too Long\r\n"))?;
    Some(from + at + 1)
}

#[cfg(test)]
mod tests {
    use super::refusal;

    #[test]
    fn only_hypers_own_refusal_at_the_end_is_found() {
        let own = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\ndate: Sat, 21 Nov 2026 08:00:00 GMT\r\n\r\n";
        assert_eq!(refusal(own), Some(9));
        let after = [b"the end of an answer".as_slice(), own].concat();
        assert_eq!(refusal(&after), Some(29));
        let inside = [own.as_slice(), b"more"].concat();
        assert_eq!(refusal(&inside), None);
        assert_eq!(refusal(b"\r\n\r\n"), None);
    }
}
