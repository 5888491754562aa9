//! A small HTTP client for the tools: one request, one answer, in clear.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use http::uri::Authority;
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use nearside_config::{Secret, files};
use nearside_diagnostics::visible_line;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::exit::Denied;
use crate::nodes::Target;

/// Tools ask nodes that are near; longer than this means that something is wrong.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(10);

/// A stream says every 15 s at least that it is there.
const SILENCE_MAX: Duration = Duration::from_secs(45);

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) fields: http::HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    /// A field as text; empty where it is absent.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

/// Who asks.
#[derive(Debug, Args)]
pub(crate) struct Token {
    /// A file with the token to show; else the environment variable NEARSIDE_TOKEN, if it is set
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl Token {
    /// The token, if there is one.
    pub(crate) fn read(&self) -> anyhow::Result<Option<Secret>> {
        match &self.token_file {
            Some(path) => {
                if let Some(note) = files::open_to_others("--token-file", "the token in", path, None) {
                    complain!("warning: {note}");
                }
                Ok(Some(Secret::read(path).context("--token-file: expected a token")?))
            }
            None if std::env::var_os("NEARSIDE_TOKEN").is_none() => Ok(None),
            None => Ok(Some(Secret::from_env("NEARSIDE_TOKEN").context("NEARSIDE_TOKEN: expected a token")?)),
        }
    }
}

/// What an answer of `node`'s admin API holds.
///
/// # Errors
///
/// It holds a problem, or is none of this API; [`Denied::Token`] where the token is not good for it.
pub(crate) fn understood<T: DeserializeOwned>(node: &Target, reply: &Reply) -> anyhow::Result<T> {
    let other = || format!("{node} did not answer as a node does");
    if reply.status.is_success() {
        return serde_json::from_slice(&reply.body).with_context(other);
    }
    let problem: serde_json::Value = serde_json::from_slice(&reply.body).with_context(other)?;
    let detail = problem.get("detail").and_then(|detail| detail.as_str()).unwrap_or("no reason given");
    let refusal = format!("{node} refused: {}", visible_line(detail));
    if [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&reply.status) {
        return Err(Denied::Token(refusal).into());
    }
    // What was asked makes no sense: a URL, a site, an expression.
    if [StatusCode::BAD_REQUEST, StatusCode::UNPROCESSABLE_ENTITY].contains(&reply.status) {
        return Err(usage!("{refusal}"));
    }
    anyhow::bail!(refusal)
}

/// Sends a request and reads its answer.
pub(crate) async fn send(method: Method, url: &str, body: Option<String>) -> anyhow::Result<Reply> {
    send_with(method, url, body, None).await
}

/// The same with a token.
pub(crate) async fn send_with(
    method: Method,
    url: &str,
    body: Option<String>,
    token: Option<&Secret>,
) -> anyhow::Result<Reply> {
    send_patiently(method, url, body, token, ANSWER_MAX).await
}

/// The same of a node that may have to wait for others.
pub(crate) async fn send_patiently(
    method: Method,
    url: &str,
    body: Option<String>,
    token: Option<&Secret>,
    patience: Duration,
) -> anyhow::Result<Reply> {
    let uri: Uri = url.parse().with_context(|| format!("{url} is no URL"))?;
    let authority = uri.authority().with_context(|| format!("{url} names no host"))?.clone();
    anyhow::ensure!(uri.scheme_str() == Some("http"), "{url}: only http:// is spoken here");
    let exchange = async {
        let socket = connect(&authority).await;
        let socket = socket.map_err(|error| Denied::Unreachable(format!("{url} cannot be reached: {error}")))?;
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
        Ok(Reply { status: head.status, fields: head.headers, body })
    };
    match timeout(patience, exchange).await {
        Ok(reply) => reply,
        Err(_elapsed) => Err(Denied::Unreachable(format!("{url} did not answer in {} s", patience.as_secs())).into()),
    }
}

/// Connects to a host; its port is 80 if none is given.
async fn connect(authority: &Authority) -> std::io::Result<TcpStream> {
    let host = authority.host().trim_matches(['[', ']']);
    // Browsers take every name below localhost for this machine; so do we.
    let host = if host.ends_with(".localhost") { "127.0.0.1" } else { host };
    TcpStream::connect((host, authority.port_u16().unwrap_or(80))).await
}

/// Reads a stream of server-sent events, and hands each to `take` with its kind, until `take` has enough or the stream ends.
pub(crate) async fn follow(
    node: &Target,
    target: &str,
    token: Option<&Secret>,
    mut take: impl FnMut(&str, &str) -> ControlFlow<()>,
) -> anyhow::Result<()> {
    let silent = || Denied::Unreachable(format!("{node} is silent"));
    let authority: Authority = node.at.to_string().parse().with_context(|| format!("{node} is no address"))?;
    let socket = timeout(ANSWER_MAX, connect(&authority)).await.map_err(|_elapsed| silent())?;
    let socket = socket.map_err(|error| Denied::Unreachable(format!("{node} cannot be reached: {error}")))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
    tokio::spawn(connection);
    let request = Request::get(target).header("host", authority.as_str());
    let request = match token {
        Some(token) => request.header("authorization", format!("Bearer {}", token.reveal())),
        None => request,
    };
    let answer = sender.send_request(request.body(Full::new(Bytes::new()))?);
    let (head, mut body) = timeout(ANSWER_MAX, answer).await.map_err(|_elapsed| silent())??.into_parts();
    if !head.status.is_success() {
        let reply = Reply { status: head.status, fields: head.headers, body: body.collect().await?.to_bytes() };
        return understood(node, &reply);
    }
    let mut text = Vec::new();
    while let Some(frame) = timeout(SILENCE_MAX, body.frame()).await.map_err(|_elapsed| silent())? {
        let frame = frame.map_err(|error| Denied::Unreachable(format!("{node} has ended the stream: {error}")))?;
        text.extend_from_slice(frame.data_ref().map_or(&[], |data| &data[..]));
        // An event ends in an empty line.
        while let Some(end) = text.windows(2).position(|two| two == b"\n\n") {
            let event: Vec<u8> = text.drain(..end + 2).collect();
            let event = String::from_utf8_lossy(&event);
            let of = |name: &str| {
                let lines = event.lines().filter_map(|line| line.strip_prefix(name));
                lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n")
            };
            if take(&of("event:"), &of("data:")).is_break() {
                return Ok(());
            }
        }
    }
    Err(Denied::Unreachable(format!("{node} has ended the stream")).into())
}

/// As [`send`], from code that is not async.
pub(crate) fn send_now(method: Method, url: &str, body: Option<String>) -> anyhow::Result<Reply> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(send(method, url, body))
}
