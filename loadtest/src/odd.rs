//! Clients that do not do what most do: take their answers slowly, leave in the middle, want a part only.

use std::time::Duration;

use http::Uri;
use http::header::{HeaderMap, HeaderValue, RANGE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep};

use crate::LoadError;
use crate::client::Client;
use crate::crowd::Check;

/// The system's buffer for what such a client has not taken: small, so that it is the server that has to wait.
const BUFFER_BYTES: u32 = 8 << 10;
/// Between two pieces, of who takes ten bytes a second or more.
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

/// Asks for a URL, and leaves as soon as the head of the answer is there.
///
/// # Errors
///
/// The URL cannot be asked.
pub async fn vanish(url: &str) -> Result<(), LoadError> {
    let uri = crate::parse(url)?;
    let read_head = async {
        let mut stream = ask(&uri).await?;
        let mut head = Vec::new();
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            if stream.read_buf(&mut head).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    };
    read_head.await.map_err(|cause| LoadError::Unreachable { url: url.to_owned(), cause })
}

/// Asks for the bytes from `first` to `last` of a URL; what is wrong with the answer, if anything is.
///
/// # Errors
///
/// The URL cannot be asked.
pub async fn part(url: &str, first: u64, last: u64, check: &Check) -> Result<Result<(), String>, LoadError> {
    let uri = crate::parse(url)?;
    let (mut at, mut is_right) = (first, true);
    let (mut client, mut fields) = (Client::default(), HeaderMap::new());
    if let Ok(range) = HeaderValue::try_from(format!("bytes={first}-{last}")) {
        fields.insert(RANGE, range);
    }
    let answer = client.get_with(&uri, &fields, |bytes| {
        is_right &= check(at, bytes);
        at += bytes.len() as u64;
    });
    Ok(match answer.await {
        Err(why) => Err(why),
        Ok(head) if head.status != 206 => Err(format!("status {}", head.status)),
        Ok(_) if !is_right => Err("a wrong byte".to_owned()),
        Ok(_) if at != last + 1 => Err(format!("{} bytes", at - first)),
        Ok(_) => Ok(()),
    })
}

/// Asks for a URL; when each so many-th byte of the answer was there.
///
/// # Errors
///
/// The URL cannot be asked; the answer broke off.
pub async fn arrivals(url: &str, every: u64) -> Result<Vec<Instant>, LoadError> {
    let uri = crate::parse(url)?;
    let (mut bytes, mut marks) = (0, Vec::new());
    let mut client = Client::default();
    let answer = client.get(&uri, |piece| {
        bytes += piece.len() as u64;
        let now = Instant::now();
        while (marks.len() as u64 + 1) * every <= bytes {
            marks.push(now);
        }
    });
    let unreachable = |why| LoadError::Unreachable { url: url.to_owned(), cause: std::io::Error::other(why) };
    answer.await.map_err(unreachable)?;
    Ok(marks)
}

async fn take_slowly(url: &Uri, bytes_per_second: usize) -> std::io::Result<u64> {
    let mut stream = ask(url).await?;
    let mut piece = vec![0; (bytes_per_second / 10).max(1)];
    let pause = if bytes_per_second < 10 { Duration::from_secs(1) } else { PAUSE };
    let mut taken = 0;
    loop {
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return Ok(taken),
            Ok(bytes) => taken += bytes as u64,
        }
        sleep(pause).await;
    }
}

/// A request on a connection that takes little at a time.
async fn ask(url: &Uri) -> std::io::Result<TcpStream> {
    let address = crate::client::address(url).await?;
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_recv_buffer_size(BUFFER_BYTES)?;
    let mut stream = socket.connect(address).await?;
    let target = url.path_and_query().map_or("/", |target| target.as_str());
    let host = url.authority().map_or("", |authority| authority.as_str());
    stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    Ok(stream)
}
