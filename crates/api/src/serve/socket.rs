//! The end of a connection: a last word, and then until the client has heard it.

use std::time::Duration;

use axum::http::StatusCode;
use nearside_protocol::Problem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Time that a client has to close its end. Closing before it has sent everything would reset the connection, and with it the
/// response that it has not read yet.
const LINGER_MAX: Duration = Duration::from_secs(1);
/// Bytes that are read, and thrown away, meanwhile.
const LINGER_BYTES_MAX: u64 = 1 << 20;

/// Ends a connection, with a problem where one is to be told.
pub(super) async fn end(mut socket: TcpStream, problem: Option<&Problem>) {
    let last = async {
        if let Some(problem) = problem {
            socket.write_all(&response(problem)).await?;
        }
        socket.shutdown().await?;
        tokio::io::copy(&mut (&mut socket).take(LINGER_BYTES_MAX), &mut tokio::io::sink()).await
    };
    // Nobody is left to be told.
    let _ = timeout(LINGER_MAX, last).await;
}

/// A response to a request that was not read.
fn response(problem: &Problem) -> Vec<u8> {
    let body = serde_json::to_string(problem).unwrap_or_default();
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let (code, title, length) = (status.as_u16(), problem.title, body.len());
    let kind = "content-type: application/problem+json\r\ncache-control: no-store\r\nconnection: close\r\n";
    format!("HTTP/1.1 {code} {title}\r\n{kind}content-length: {length}\r\n\r\n{body}").into_bytes()
}
