//! Clients that take their answers slowly.

use std::time::Duration;

use http::Uri;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::time::sleep;

use crate::LoadError;

/// The system's buffer for what such a client has not taken: small, so that it is the server that has to wait.
const BUFFER_BYTES: u32 = 8 << 10;
/// Between two pieces.
const PAUSE: Duration = Duration::from_millis(100);

/// Asks for a URL and takes about so many bytes a second of the answer, until it ends; how many there were.
///
/// # Errors
///
/// The URL cannot be asked.
pub async fn dawdle(url: &str, bytes_per_second: usize) -> Result<u64, LoadError> {
    let uri = crate::parse(url)?;
    let unreachable = |cause| LoadError::Unreachable { url: url.to_owned(), cause };
    take_slowly(&uri, bytes_per_second).await.map_err(unreachable)
}

async fn take_slowly(url: &Uri, bytes_per_second: usize) -> std::io::Result<u64> {
    let address = crate::run::address(url).await?;
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_recv_buffer_size(BUFFER_BYTES)?;
    let mut stream = socket.connect(address).await?;
    let target = url.path_and_query().map_or("/", |target| target.as_str());
    let host = url.authority().map_or("", |authority| authority.as_str());
    stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut piece = vec![0; (bytes_per_second / 10).max(1)];
    let mut taken = 0;
    loop {
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return Ok(taken),
            Ok(bytes) => taken += bytes as u64,
        }
        sleep(PAUSE).await;
    }
}
