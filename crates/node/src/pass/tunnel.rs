//! A connection that has left HTTP behind: bytes go both ways until one side ends (RFC 9110 §7.8).

use std::io;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::clock::instant;
use crate::hop::UpgradeStream;

/// The last moment at which a byte moved, in either direction.
struct Moved(Mutex<Instant>);

/// Carries bytes between a client and the next hop until both have ended, nothing moves for `idle`, or one side takes
/// nothing for as long.
pub(crate) async fn run<C>(
    client: &mut C,
    early_client: &[u8],
    upstream: UpgradeStream,
    idle: Duration,
) -> io::Result<()>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let UpgradeStream { mut stream, early } = upstream;
    send(client, &early, idle).await?;
    send(&mut stream, early_client, idle).await?;
    let moved = Moved(Mutex::new(instant()));
    let (mut client_read, mut client_write) = tokio::io::split(client);
    let (mut hop_read, mut hop_write) = tokio::io::split(stream);
    let up = copy(&mut client_read, &mut hop_write, &moved, idle);
    let down = copy(&mut hop_read, &mut client_write, &moved, idle);
    tokio::try_join!(up, down).map(|_| ())
}

async fn copy<R, W>(from: &mut R, to: &mut W, moved: &Moved, idle: Duration) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = loop {
            if let Ok(read) = timeout(idle, from.read(&mut buffer)).await {
                break read?;
            }
            // This side was silent; the other may not have been.
            if instant().saturating_duration_since(*moved.0.lock()) >= idle {
                return Err(io::ErrorKind::TimedOut.into());
            }
        };
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
            return timeout(idle, to.shutdown()).await?;
        };
        send(to, bytes, idle).await?;
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
