//! A connection that can be made to misbehave below HTTP.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The lever by which an answer reaches down to its connection.
#[derive(Debug, Clone)]
pub(crate) struct Trick {
    /// Sent in place of whatever HTTP wants to send; then the connection ends.
    raw: Arc<Mutex<Option<Vec<u8>>>>,
    socket: Option<Arc<socket2::Socket>>,
}

impl Trick {
    pub(crate) fn new(socket: &TcpStream) -> Self {
        let socket = socket2::SockRef::from(socket).try_clone().ok().map(Arc::new);
        Self { raw: Arc::default(), socket }
    }

    /// From now on only this is sent.
    pub(crate) fn send_raw(&self, bytes: Vec<u8>) {
        *self.raw.lock() = Some(bytes);
    }

    /// The end of the connection will be a reset.
    pub(crate) fn reset(&self) {
        if let Some(socket) = &self.socket {
            let _ = socket.set_linger(Some(Duration::ZERO));
        }
    }
}

/// A socket with that lever.
pub(crate) struct Tap {
    socket: TcpStream,
    trick: Trick,
}

impl Tap {
    pub(crate) fn new(socket: TcpStream, trick: Trick) -> Self {
        Self { socket, trick }
    }

    /// Writes what is left of the raw bytes; when all is out, the connection is at its end.
    fn poll_raw(&mut self, cx: &mut Context<'_>) -> Option<Poll<io::Result<usize>>> {
        let mut raw = self.trick.raw.lock();
        let bytes = raw.as_mut()?;
        while !bytes.is_empty() {
            match Pin::new(&mut self.socket).poll_write(cx, bytes) {
                Poll::Ready(Ok(written)) => drop(bytes.drain(..written)),
                other => return Some(other),
            }
        }
        Some(Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())))
    }
}

impl AsyncRead for Tap {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Tap {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.poll_raw(cx) {
            Some(raw) => raw,
            None => Pin::new(&mut self.socket).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
