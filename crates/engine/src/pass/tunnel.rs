//! A connection that has left HTTP behind: bytes go both ways until one side ends (RFC 9110 §7.8).

use std::io;
use std::time::{Duration, Instant};

use nearside_telemetry::clock::instant;
use nearside_upstream::UpgradeStream;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// The last moment at which a byte moved, in either direction.
struct Moved(Mutex<Instant>);

/// Timeouts of a tunnel.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Silence in both directions.
    pub idle: Duration,
    /// A side that takes no byte although there are some for it.
    pub stall: Duration,
}

/// Carries bytes between a client and the next hop until both have ended, nothing moves for `limits.idle`, or one side
/// takes nothing for `limits.stall`.
///
/// # Errors
///
/// Reading or writing failed, or a time limit was reached.
pub async fn run<C>(client: &mut C, early_client: &[u8], upstream: UpgradeStream, limits: Limits) -> io::Result<()>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let UpgradeStream { mut stream, early } = upstream;
    send(client, &early, limits.stall).await?;
    send(&mut stream, early_client, limits.stall).await?;
    let moved = Moved(Mutex::new(instant()));
    let (mut client_read, mut client_write) = tokio::io::split(client);
    let (mut hop_read, mut hop_write) = tokio::io::split(stream);
    let up = copy(&mut client_read, &mut hop_write, &moved, limits);
    let down = copy(&mut hop_read, &mut client_write, &moved, limits);
    tokio::try_join!(up, down).map(|_| ())
}

async fn copy<R, W>(from: &mut R, to: &mut W, moved: &Moved, limits: Limits) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = loop {
            if let Ok(read) = timeout(limits.idle, from.read(&mut buffer)).await {
                break read?;
            }
            // This side was silent; the other may not have been.
            if instant().saturating_duration_since(*moved.0.lock()) >= limits.idle {
                return Err(io::ErrorKind::TimedOut.into());
            }
        };
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
            return timeout(limits.stall, to.shutdown()).await?;
        };
        send(to, bytes, limits.stall).await?;
        *moved.0.lock() = instant();
    }
}

async fn send<W: AsyncWrite + Unpin>(to: &mut W, bytes: &[u8], limit: Duration) -> io::Result<()> {
    timeout(limit, async {
        to.write_all(bytes).await?;
        to.flush().await
    })
    .await?
}
