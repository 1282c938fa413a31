//! Counts what comes in on a connection, so that whoever drips a message byte by byte can be told from one who is silent.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream that counts the bytes read from it.
pub struct Counted<S> {
    stream: S,
    received: Arc<AtomicU64>,
}

impl<S> Counted<S> {
    /// Counts into `received`.
    pub fn new(stream: S, received: Arc<AtomicU64>) -> Counted<S> {
        Counted { stream, received }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.received.fetch_add((buf.filled().len() - before) as u64, Ordering::Relaxed);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Watches how fast a message comes that is not complete yet.
#[derive(Debug)]
pub struct Pace {
    received: Arc<AtomicU64>,
    /// Bytes received when the last message was complete.
    taken: u64,
    /// Since when there is a part of another one.
    open_since: Option<Instant>,
    min_bytes_per_second: u64,
    /// A message may take so long in any case.
    grace: Duration,
}

impl Pace {
    /// Of a connection that counts into `received`.
    pub fn new(received: Arc<AtomicU64>, min_bytes_per_second: u64, grace: Duration) -> Pace {
        let taken = received.load(Ordering::Relaxed);
        Pace { received, taken, open_since: None, min_bytes_per_second, grace }
    }

    /// A message is complete.
    pub fn complete(&mut self) {
        (self.taken, self.open_since) = (self.received.load(Ordering::Relaxed), None);
    }

    /// Nothing was read for a while, which is not the sender's fault: what is there of a message has its time anew.
    pub fn resume(&mut self) {
        self.open_since = None;
    }

    /// Whether a message comes more slowly than is allowed. To be asked every few seconds.
    pub fn is_too_slow(&mut self, now: Instant) -> bool {
        let bytes = self.received.load(Ordering::Relaxed) - self.taken;
        if bytes == 0 {
            return false;
        }
        let open = now.saturating_duration_since(*self.open_since.get_or_insert(now));
        open >= self.grace && bytes < self.min_bytes_per_second.saturating_mul(open.as_secs())
    }
}

/// How much of a request's body has come.
#[derive(Debug, Default)]
pub struct Progress {
    bytes: AtomicU64,
    is_over: AtomicBool,
}

impl Progress {
    /// Whether so much should have come by now that it comes more slowly than is allowed. What is done with a body that
    /// is all there may take as long as it likes.
    pub fn is_too_slow(&self, open: Duration, min_bytes_per_second: u64, grace: Duration) -> bool {
        let seconds = open.saturating_sub(grace).as_secs();
        let least = min_bytes_per_second.saturating_mul(seconds);
        open >= grace && !self.is_over.load(Ordering::Relaxed) && self.bytes.load(Ordering::Relaxed) <= least
    }
}

/// A body that tells how much of it has come.
pub struct Watched<B> {
    body: B,
    progress: Arc<Progress>,
}

impl<B> Watched<B> {
    /// Tells `progress`.
    pub fn new(body: B, progress: Arc<Progress>) -> Watched<B> {
        Watched { body, progress }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Watched<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                self.progress.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            }
            Poll::Ready(_) => self.progress.is_over.store(true, Ordering::Relaxed),
            Poll::Pending => {}
        }
        if self.body.is_end_stream() {
            self.progress.is_over.store(true, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Drop for Watched<B> {
    fn drop(&mut self) {
        // Nobody waits for the rest.
        self.progress.is_over.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dripping_is_told_from_silence_and_from_haste() {
        let received = Arc::new(AtomicU64::new(500));
        let mut pace = Pace::new(received.clone(), 1024, Duration::from_secs(5));
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(!pace.is_too_slow(after(1000)), "silence is somebody else's business");
        received.fetch_add(100, Ordering::Relaxed);
        assert!(!pace.is_too_slow(after(1001)));
        received.fetch_add(100, Ordering::Relaxed);
        assert!(pace.is_too_slow(after(1012)));
        received.fetch_add(1 << 20, Ordering::Relaxed);
        assert!(!pace.is_too_slow(after(1013)));
        pace.resume();
        assert!(!pace.is_too_slow(after(3000)), "our own pause is not counted");
        pace.complete();
        received.fetch_add(1, Ordering::Relaxed);
        assert!(!pace.is_too_slow(after(4000)), "a new message has its own time");
    }
}
