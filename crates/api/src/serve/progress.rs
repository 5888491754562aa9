//! The state of a connection, and the moment at which it is overdue.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use super::limits::ServeLimits;

/// What a connection is doing, each since a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// A request head has begun, or the connection has.
    Head(Instant),
    /// The last response was handed over, and nothing has come since.
    Idle(Instant),
    /// A request is in progress.
    Request(Instant),
    /// A stream is being sent, which has no end.
    Stream,
}

/// The progress of a connection.
#[derive(Debug)]
pub(super) struct Progress {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// Any byte has come.
    has_spoken: bool,
    /// Since when the client has not taken what is being sent.
    blocked: Option<Instant>,
}

impl Progress {
    pub(super) fn new() -> Arc<Self> {
        let state = State { phase: Phase::Head(Instant::now()), has_spoken: false, blocked: None };
        Arc::new(Self { state: Mutex::new(state) })
    }

    pub(super) fn set(&self, phase: Phase) {
        self.state.lock().phase = phase;
    }

    /// Whether the client has begun a request head, and not ended it.
    pub(super) fn is_in_head(&self) -> bool {
        let state = self.state.lock();
        state.has_spoken && matches!(state.phase, Phase::Head(_))
    }

    fn received(&self) {
        let mut state = self.state.lock();
        state.has_spoken = true;
        if let Phase::Idle(_) = state.phase {
            state.phase = Phase::Head(Instant::now());
        }
    }

    fn sent(&self, is_blocked: bool) {
        let mut state = self.state.lock();
        state.blocked = if is_blocked { state.blocked.or_else(|| Some(Instant::now())) } else { None };
    }

    /// The moment at which the connection is closed if nothing changes until then; `None` for never.
    fn due(&self, limits: &ServeLimits) -> Option<Instant> {
        let state = self.state.lock();
        let by_phase = match state.phase {
            Phase::Head(since) => Some(since + limits.head),
            Phase::Idle(since) => Some(since + limits.idle),
            // The response is made in time, or replaced; it also has to be taken.
            Phase::Request(since) => Some(since + limits.request + limits.stall),
            Phase::Stream => None,
        };
        let by_client = state.blocked.map(|since| since + limits.stall);
        by_phase.into_iter().chain(by_client).min()
    }

    /// Waits until the connection is overdue.
    pub(super) async fn overdue(&self, limits: &ServeLimits) {
        loop {
            let now = Instant::now();
            let due = self.due(limits);
            if due.is_some_and(|due| due <= now) {
                return;
            }
            // Another phase may end earlier.
            let look_again = now + limits.head.min(limits.stall);
            sleep_until(due.map_or(look_again, |due| due.min(look_again))).await;
        }
    }
}

/// A socket that tells of its progress.
#[derive(Debug)]
pub(super) struct WatchedSocket {
    pub(super) socket: TcpStream,
    pub(super) progress: Arc<Progress>,
}

impl AsyncRead for WatchedSocket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(cx, into))?;
        if into.filled().len() > before {
            self.progress.received();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WatchedSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.progress.sent(written.is_pending());
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, pieces);
        self.progress.sent(written.is_pending());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_phase_has_its_deadline() {
        let (limits, progress) = (ServeLimits::admin(), Progress::new());
        let now = Instant::now();
        let due = |phase| {
            progress.set(phase);
            progress.due(&limits).map(|due| due - now)
        };
        assert_eq!(due(Phase::Head(now)), Some(limits.head));
        assert_eq!(due(Phase::Idle(now)), Some(limits.idle));
        assert_eq!(due(Phase::Request(now)), Some(limits.request + limits.stall));
        assert_eq!(due(Phase::Stream), None);
        // Also who reads no stream is cut off.
        progress.sent(true);
        let since = progress.due(&limits).unwrap();
        progress.sent(true);
        assert_eq!(progress.due(&limits), Some(since), "from the first moment on");
        progress.sent(false);
        assert_eq!(progress.due(&limits), None);
    }

    #[test]
    fn a_head_begins_with_its_first_byte() {
        let (limits, progress) = (ServeLimits::admin(), Progress::new());
        assert!(!progress.is_in_head(), "nothing has come yet");
        progress.set(Phase::Idle(Instant::now()));
        progress.received();
        assert!(progress.is_in_head());
        assert!(progress.due(&limits).unwrap() <= Instant::now() + limits.head + Duration::from_secs(1));
        progress.set(Phase::Request(Instant::now()));
        progress.received();
        assert!(!progress.is_in_head(), "these are bytes of the body");
    }
}
