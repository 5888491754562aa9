//! A client's connection, in clear or over TLS.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use nearside_telemetry::clock::instant;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;

use super::take_rate::TakeRate;

/// More slices than these the system refuses (`IOV_MAX`).
const SLICES_MAX: usize = 1024;
/// How often a full socket is looked at behind epoll's back, so that a slow client is seen to take what it does.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The bytes of one client.
#[derive(Debug)]
pub(crate) enum Transport {
    Clear(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Clear(socket) => socket,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }

    pub(crate) fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Makes the close an abort, so that a client that takes the end of the connection for the end of the answer sees
    /// an error instead.
    pub(crate) fn abort_on_close(&self) {
        // If this fails the client sees a plain end: nothing better can be had.
        let _ = socket2::SockRef::from(self.socket()).set_linger(Some(Duration::ZERO));
    }

    /// Waits until the connection has failed: a reset, as from a client that has closed it and is sent more. For ever over
    /// TLS, whose reads tell.
    pub(crate) async fn failed(&self) {
        if let Self::Clear(socket) = self {
            // Whatever of its error is known by then.
            let _ = socket.ready(Interest::ERROR).await;
        } else {
            std::future::pending().await
        }
    }

    /// Writes what of `bytes` a connection in clear takes without waiting; how much. Over TLS it takes nothing.
    pub(crate) fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        let Self::Clear(socket) = self else { return Ok(0) };
        match socket.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            written => written,
        }
    }

    /// Writes all of `slices`, waiting at most `stall` each time the client takes nothing.
    pub(crate) async fn write_all(&mut self, slices: &mut [IoSlice<'_>], stall: Duration) -> io::Result<()> {
        self.write_all_at(slices, stall, None).await
    }

    /// The same, of a stored body; an error as well if the client has to make room for others.
    pub(crate) async fn write_all_at(
        &mut self,
        slices: &mut [IoSlice<'_>],
        stall: Duration,
        mut rate: Option<&mut TakeRate<'_>>,
    ) -> io::Result<()> {
        let mut rest = slices;
        // Writing nothing but empty slices would look like a connection that takes nothing.
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let written = self.write_some(rest, stall, rate.as_deref_mut()).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            if let Some(rate) = &mut rate {
                rate.took(written);
            }
            IoSlice::advance_slices(&mut rest, written);
        }
        self.flush(stall).await
    }

    async fn write_some(
        &mut self,
        slices: &[IoSlice<'_>],
        stall: Duration,
        mut rate: Option<&mut TakeRate<'_>>,
    ) -> io::Result<usize> {
        // Most writes succeed at once; only those that do not pay for a timer.
        let first = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut *self).poll_write_vectored(cx, slices))).await;
        if let Poll::Ready(written) = first {
            return written;
        }
        let mut deadline = Instant::now() + stall;
        loop {
            let write = std::future::poll_fn(|cx| Pin::new(&mut *self).poll_write_vectored(cx, slices));
            let patience = LOOK_EVERY.min(deadline.saturating_duration_since(Instant::now()));
            let written = tokio::time::timeout(patience, write).await;
            if rate.as_mut().is_some_and(|rate| rate.makes_room(instant())) {
                return Err(timed_out());
            }
            if let Ok(written) = written {
                return written;
            }
            match self.write_behind_epoll(slices) {
                // Something before them was taken.
                Ok(0) => deadline = Instant::now() + stall,
                Ok(written) => return Ok(written),
                Err(error) if is_timeout(&error) && Instant::now() < deadline => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes without asking whether that is possible: the kernel calls a full socket writable only once a third of its
    /// buffer is free, and a client may take minutes for that without ever stalling. How much of `slices` was taken, 0 if
    /// something before them was; an error if nothing was.
    fn write_behind_epoll(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let refused = |error: io::Error| if error.kind() == io::ErrorKind::WouldBlock { timed_out() } else { error };
        match self {
            Self::Clear(socket) => {
                let slices = slices.get(..SLICES_MAX).unwrap_or(slices);
                socket2::SockRef::from(&*socket).send_vectored(slices).map_err(refused)
            }
            Self::Tls(stream) => {
                let (socket, session) = stream.get_mut();
                // What is encrypted already has to go first.
                session.write_tls(&mut &*socket2::SockRef::from(&*socket)).map_err(refused).map(|_taken| 0)
            }
        }
    }

    async fn flush(&mut self, stall: Duration) -> io::Result<()> {
        if let Self::Clear(_) = self {
            return Ok(());
        }
        loop {
            let flush = std::future::poll_fn(|cx| Pin::new(&mut *self).poll_flush(cx));
            if let Ok(flushed) = tokio::time::timeout(stall, flush).await {
                return flushed;
            }
            self.write_behind_epoll(&[])?;
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::TimedOut
}

fn timed_out() -> io::Error {
    io::ErrorKind::TimedOut.into()
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Clear(socket) => Pin::new(socket).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Clear(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
