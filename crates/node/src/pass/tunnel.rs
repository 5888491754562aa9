//! A connection that has left HTTP behind: bytes go both ways until one side ends (RFC 9110 §7.8).

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::hop::UpgradeStream;

/// Carries bytes between a client and the next hop until both have ended, or nothing moves for `idle`.
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
    client.write_all(&early).await?;
    client.flush().await?;
    stream.write_all(early_client).await?;
    stream.flush().await?;
    let (mut client_read, mut client_write) = tokio::io::split(client);
    let (mut hop_read, mut hop_write) = tokio::io::split(stream);
    let up = copy(&mut client_read, &mut hop_write, idle);
    let down = copy(&mut hop_read, &mut client_write, idle);
    tokio::try_join!(up, down).map(|_| ())
}

async fn copy<R, W>(from: &mut R, to: &mut W, idle: Duration) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    use tokio::io::AsyncReadExt;
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = match tokio::time::timeout(idle, from.read(&mut buffer)).await {
            Ok(read) => read?,
            Err(_elapsed) => return Err(io::ErrorKind::TimedOut.into()),
        };
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
            return to.shutdown().await;
        };
        to.write_all(bytes).await?;
        to.flush().await?;
    }
}
