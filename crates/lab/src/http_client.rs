//! Small HTTP client: one request and one response on a new connection, without TLS.

use std::time::Duration;

use anyhow::Context;
use http::uri::Authority;
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use nearside_config::Secret;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Time limit of a request and its response. Tools ask nodes that are near: a longer wait means
/// that something is wrong.
pub const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Error: a process cannot be reached, or does not answer in time.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreachable(pub String);

/// Response, read to its end.
#[derive(Debug)]
pub struct HttpReply {
    /// Status code.
    pub status: StatusCode,
    /// Header fields.
    pub fields: http::HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl HttpReply {
    /// Value of a header field; empty if the field is absent or not text.
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

/// Sends a request and reads its response.
///
/// # Errors
///
/// [`Unreachable`] where nobody answers in [`ANSWER_MAX`]; `url` is not an `http://` URL; the exchange breaks off.
pub async fn send(method: Method, url: &str, body: Option<String>) -> anyhow::Result<HttpReply> {
    send_with(method, url, body, None).await
}

/// As [`send`], with a token.
///
/// # Errors
///
/// As [`send`].
pub async fn send_with(
    method: Method,
    url: &str,
    body: Option<String>,
    token: Option<&Secret>,
) -> anyhow::Result<HttpReply> {
    send_patiently(method, url, body, token, ANSWER_MAX).await
}

/// As [`send_with`], with another time limit than [`ANSWER_MAX`]: some nodes have to wait for others.
///
/// # Errors
///
/// As [`send`].
pub async fn send_patiently(
    method: Method,
    url: &str,
    body: Option<String>,
    token: Option<&Secret>,
    patience: Duration,
) -> anyhow::Result<HttpReply> {
    let uri: Uri = url.parse().with_context(|| format!("{url} is no URL"))?;
    let authority = uri.authority().with_context(|| format!("{url} names no host"))?.clone();
    anyhow::ensure!(uri.scheme_str() == Some("http"), "{url}: only http:// is spoken here");
    let exchange = async {
        let socket = connect(&authority).await;
        let socket = socket.map_err(|error| Unreachable(format!("{url} cannot be reached: {error}")))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
        let connection = tokio::spawn(connection);
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header("host", authority.as_str())
            .header("content-type", "application/json");
        let request = match token {
            Some(token) => request.header("authorization", format!("Bearer {}", token.reveal())),
            None => request,
        }
        .body(Full::new(Bytes::from(body.unwrap_or_default())))?;
        let response = sender.send_request(request).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        connection.abort();
        Ok(HttpReply { status: head.status, fields: head.headers, body })
    };
    match timeout(patience, exchange).await {
        Ok(reply) => reply,
        Err(_elapsed) => Err(Unreachable(format!("{url} did not answer in {} s", patience.as_secs())).into()),
    }
}

/// As [`send`], from code that is not async.
pub(crate) fn send_now(method: Method, url: &str, body: Option<String>) -> anyhow::Result<HttpReply> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(send(method, url, body))
}

/// Connects to a host; the port is 80 if none is given.
///
/// # Errors
///
/// The name cannot be resolved, or the connection is not accepted.
pub async fn connect(authority: &Authority) -> std::io::Result<TcpStream> {
    let host = authority.host().trim_matches(['[', ']']);
    // Browsers take every name below localhost for this machine; so do we.
    let host = if host.ends_with(".localhost") { "127.0.0.1" } else { host };
    TcpStream::connect((host, authority.port_u16().unwrap_or(80))).await
}
