//! Writes that wait for one another.
//!
//! The `h2` crate flushes after every frame of a stream that has more to send. Between [`Handle::hold`] and
//! [`Handle::release`] a corked connection gathers what it is given, and then writes it at once: the frames of many
//! streams become a few full TLS records and one system call.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::transport::Transport;

/// What is gathered at most: four full TLS records.
const CORK_BYTES: usize = 64 << 10;
/// Buffers that a thread keeps for its connections.
const SPARE_MAX: usize = 16;

/// Buffers that no connection gathers in just now.
#[derive(Debug, Default)]
pub(crate) struct Spare(Mutex<Vec<Vec<u8>>>);

impl Spare {
    fn take(&self) -> Vec<u8> {
        self.0.lock().pop().unwrap_or_else(|| Vec::with_capacity(CORK_BYTES))
    }

    fn give(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut spare = self.0.lock();
        if spare.len() < SPARE_MAX {
            spare.push(buffer);
        }
    }
}

/// A connection whose writes can be held back.
#[derive(Debug)]
pub(crate) struct Corked {
    io: Transport,
    state: Arc<State>,
    spare: Arc<Spare>,
    /// No memory while there is nothing in it.
    gathered: Vec<u8>,
    written: usize,
}

/// What a corked connection and its handle share. Relaxed throughout: both belong to one task.
#[derive(Debug, Default)]
struct State {
    held: AtomicBool,
    written: AtomicU64,
}

/// Holds the writes of a corked connection back, and lets them go.
#[derive(Debug)]
pub(crate) struct Handle(Arc<State>);

impl Handle {
    pub(crate) fn hold(&self) {
        self.0.held.store(true, Ordering::Relaxed);
    }

    /// What was held back goes out with the next flush.
    pub(crate) fn release(&self) {
        self.0.held.store(false, Ordering::Relaxed);
    }

    /// Bytes that the connection has taken so far.
    pub(crate) fn written(&self) -> u64 {
        self.0.written.load(Ordering::Relaxed)
    }
}

impl Corked {
    pub(crate) fn new(io: Transport, spare: &Arc<Spare>) -> (Self, Handle) {
        let state = Arc::<State>::default();
        let spare = Arc::clone(spare);
        (Self { io, state: Arc::clone(&state), spare, gathered: Vec::new(), written: 0 }, Handle(state))
    }

    fn room(&self) -> usize {
        CORK_BYTES - self.gathered.len()
    }

    fn gather(&mut self, bytes: &[u8]) -> usize {
        if self.gathered.capacity() == 0 {
            self.gathered = self.spare.take();
        }
        let (bytes, _) = bytes.split_at(bytes.len().min(self.room()));
        self.gathered.extend_from_slice(bytes);
        bytes.len()
    }

    fn poll_let_go(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.gathered.get(self.written..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.io).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => {
                    self.written += count;
                    self.state.written.fetch_add(count as u64, Ordering::Relaxed);
                }
            }
        }
        if self.gathered.capacity() > 0 {
            self.spare.give(std::mem::take(&mut self.gathered));
            self.written = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Corked {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.room() == 0 {
            ready!(this.poll_let_go(cx))?;
        }
        Poll::Ready(Ok(bufs.iter().map(|buf| this.gather(buf)).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.state.held.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        ready!(this.poll_let_go(cx))?;
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_let_go(cx))?;
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}

impl AsyncRead for Corked {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, buf)
    }
}
